"""The slices of an audit: tables that were held against Great Expectations, and their decoded images."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attrail_explainers.digest import seed_of
from attrail_explainers.errors import ConfigError, SliceError
from attrail_explainers.files.picture_file import size_of
from attrail_explainers.model.task import Task
from attrail_explainers.slice import PIXELS, Preprocessing, Questions, Slice, require_known_numbers
from attrail_flows.configuration import AuditConfig
from attrail_flows.inputs.large_arrays import decoded, large_array
from attrail_flows.sections import SliceSection
from attrail_mlflow.registry.preprocessing import stated_preprocessing
from attrail_mlflow.registry.registry import RegisteredVersion
from attrail_monitoring.slices.boxes import with_coco_boxes
from attrail_monitoring.slices.questions import questions
from attrail_monitoring.slices.slice_table import SliceTable, cautions, label_indices, left_out, read_slice_table

if TYPE_CHECKING:
    from attrail_monitoring.expectations.inputs import Validation

Asks = Callable[[SliceTable], Questions]

SLACK = 1.0  # pixels that a box may reach out of its picture, by rounding

logger = logging.getLogger("attrail.slices")


@dataclass(frozen=True, eq=False)
class Tables:
    """Validated slice tables with their class indices, and what Great Expectations said of them.

    ``asks`` says what a table asks of each image where that is not its label.

    ``cautions`` are sentences about each table: what was left out of it, whose word its class indices are.
    """

    tables: tuple[SliceTable, ...]
    labels: tuple[pd.Series, ...]
    validations: tuple["Validation", ...]
    cautions: tuple[tuple[str, ...], ...]
    asks: Asks | None = None


def read_tables(config: AuditConfig, reference: RegisteredVersion, *, labelled: bool = True) -> Tables:
    """Read every slice's table and hold it against Great Expectations, before any model is loaded."""
    from attrail_monitoring.expectations.inputs import validate_slice_table  # noqa: PLC0415 - Great Expectations is slow to come

    names, count, task = reference.class_names, reference.classes, config.task.to_task()
    read = (read_table(each, reference, task, labelled=labelled) for each in config.slices)
    tables, labels = zip(*read, strict=True)
    labelled = labelled and task.asks_by == "label"
    pairs = zip(tables, labels, strict=True)
    validations = tuple(validate_slice_table(table, found, count) for table, found in pairs)
    said = tuple(cautions(table, names, count) if labelled else left_out(table) for table in tables)
    return Tables(tables, labels, validations, said, asks_of(task, reference))


def drawn(tables: Tables, seed: int) -> Tables:
    """The tables with their rows in a random order that the seed draws, so that the first of them stand for all."""
    orders = [
        np.random.default_rng(seed_of("order of looks", seed, each.name)).permutation(len(each.rows))
        for each in tables.tables
    ]
    rows = tuple(
        replace(table, rows=table.rows.iloc[order]) for table, order in zip(tables.tables, orders, strict=True)
    )
    labels = tuple(each.iloc[order] for each, order in zip(tables.labels, orders, strict=True))
    return replace(tables, tables=rows, labels=labels)


def first(tables: Tables, images: int) -> Tables:
    """The tables of the first images of each slice."""
    rows = tuple(replace(each, rows=each.rows.iloc[:images]) for each in tables.tables)
    return replace(tables, tables=rows, labels=tuple(each.iloc[:images] for each in tables.labels))


def first_images(slice_: Slice, images: int) -> Slice:
    """The first images of a slice, as a slice of its own; the slice itself where it has no more."""
    if images >= slice_.image_count:
        return slice_
    return slice_.rows(slice(int(slice_.starts[images])))


def read_table(
    section: SliceSection, reference: RegisteredVersion, task: Task, *, labelled: bool = True
) -> tuple[SliceTable, pd.Series]:
    """A slice's table and the class index of every row.

    Unless it must be ``labelled``, labels are not looked at: every image is of class 0 then. They are not where a task
    asks by something else, which is looked at in their place.
    """
    asks = asks_of(task, reference)
    labelled = labelled and asks is None
    table = read_slice_table(section.name, section.source, section.where, section.limit, labelled=labelled)
    if section.coco is not None:
        if task.asks_by != "boxes":
            raise ConfigError(f'slice {section.name!r}: coco names boxes, which [task] name = "detection" asks about')
        table = with_coco_boxes(table, section.coco, named=bool(reference.class_names))
    if asks is not None:
        asks(table)
    if not labelled:
        return table, pd.Series(0, index=table.rows.index, dtype="int64")
    return table, label_indices(table, reference.class_names, reference.classes)


def asks_of(task: Task, reference: RegisteredVersion) -> Asks | None:
    """What a table asks of a reference; None for a task that asks by single labels."""
    if task.asks_by == "label":
        return None
    names = reference.class_names
    return partial(questions, task=task, classes=names, count=reference.classes or len(names) or None)


def read_slices(config: AuditConfig, version: RegisteredVersion, *, labelled: bool = True) -> tuple[Slice, ...]:
    """The configuration's slices as one version takes them."""
    return load_slices(read_tables(config, version, labelled=labelled), preprocessing_of(config, [version]))


def read_windows(config: AuditConfig, version: RegisteredVersion) -> tuple[Slice, ...]:
    """The configuration's slices of production images, which need no labels, as one version takes them."""
    return read_slices(config, version, labelled=False)


def load_slices(tables: Tables, preprocessing: Preprocessing) -> tuple[Slice, ...]:
    """Decode the images of every slice, and warn of what its table's reader should know."""
    from attrail_explainers.images import decode  # noqa: PLC0415 - it loads timm, the tables do not

    slices = []
    for table, labels, said in zip(tables.tables, tables.labels, tables.cautions, strict=True):
        for caution in said:
            logger.warning("slice %s: %s", table.name, caution)
        images = decoded(table.pictures, partial(decode, preprocessing=preprocessing))
        ids = tuple(str(image) for image in table.rows["image"])
        asked = None if tables.asks is None else tables.asks(table)
        zoned = asked is not None and asked.masks is not None  # its masks show what is asked about
        regions = None if zoned else _regions(table, preprocessing)
        plain = Slice(table.name, images, labels.to_numpy(dtype=np.int64), ids, preprocessing, regions)
        slices.append(plain if asked is None else asked_slice(plain, _seen(asked, table, preprocessing)))
    return tuple(slices)


def asked_slice(plain: Slice, asked: Questions) -> Slice:
    """A slice with a row for each question about the images of a ``plain`` one."""
    if asked.names is None:
        return plain.asking(asked)
    images = large_array((len(asked.places), *plain.images.shape[1:]))
    for row, place in enumerate(asked.places):
        images[row] = plain.images[place]
    return plain.asking(asked, images)


def preprocessing_of(config: AuditConfig, versions: Sequence[RegisteredVersion]) -> Preprocessing:
    """The preprocessing: the configuration's, else the one that ``stated_preprocessing`` finds with the reference.

    That is what ``log_classifier`` wrote down, else timm's data configuration of the model that the version's metadata
    names; MLflow's ``log_model`` writes neither by itself. What a version that takes pixels says of mean and std counts
    where no other says it: they are undone for it. Raises ConfigError when nothing says, or when the versions say
    different things.
    """
    if config.preprocessing is not None:
        return _fitting(config.preprocessing.to_preprocessing(), versions)
    stated = [stated_preprocessing(each) for each in versions]
    if stated[0] is None:
        raise ConfigError(
            f"{versions[0].label} does not say how its images are preprocessed: set [preprocessing] size, mean and std"
        )
    normalised = [found for each, found in zip(versions, stated, strict=True) if each.input_type != PIXELS]
    chosen = next(filter(None, normalised), stated[0])
    for each, found in zip(versions, stated, strict=True):
        if found is not None and found != chosen and not (each.input_type == PIXELS and found.gives_pixels_of(chosen)):
            raise ConfigError(
                f"{each.label} was logged with another preprocessing than {versions[0].label}: versions can only be "
                "compared on the same pixels; set [preprocessing] if one setting fits both"
            )
    return _fitting(chosen, versions)


def _fitting(preprocessing: Preprocessing, versions: Sequence[RegisteredVersion]) -> Preprocessing:
    """The preprocessing, if its result is what the models were logged with."""
    for each in versions:
        require_known_numbers(each.label, each.input_type)
    logged, given = versions[0].input_shape, (preprocessing.channels, *preprocessing.size)
    if logged and any(size not in (-1, found) for size, found in zip(logged, given, strict=True)):
        raise ConfigError(
            f"preprocessing gives images of shape (C,H,W) = {given}, {versions[0].label} was logged for {logged}: "
            "correct [preprocessing] size, and mean and std to one number per channel"
        )
    return preprocessing


def _seen(asked: Questions, table: SliceTable, preprocessing: Preprocessing) -> Questions:
    """Questions with their zones and boxes, if any, where they lie in what the model sees."""
    return _placed(_zoned(asked, table, preprocessing), table, preprocessing)


def _zoned(asked: Questions, table: SliceTable, preprocessing: Preprocessing) -> Questions:
    """Questions with the zones (N,H,W) that their masks show, if they have any; SliceError for one of another size."""
    from attrail_explainers.images import decode_zones  # noqa: PLC0415 - as above

    if asked.masks is None:
        return asked
    pictures, size = table.pictures, partial(size_of, orientation=preprocessing.orientation)
    for place, (mask, _) in zip(asked.places, asked.masks, strict=True):
        (height, width), (tall, wide) = size(pictures[place]), size(mask)
        if (height, width) != (tall, wide):
            raise SliceError(
                f"slice {table.name!r}: row {table.rows.index[place]} of {table.source}: its image is {width} pixels "
                f"wide and {height} high, its mask {mask} {wide} and {tall}: give it a mask of the image's own size"
            )
    zones = decode_zones(asked.masks, preprocessing)
    return replace(asked, facts={"zone": zones, "given": np.ones(len(zones), dtype=np.bool_)}, masks=None)


def _placed(asked: Questions, table: SliceTable, preprocessing: Preprocessing) -> Questions:
    """Questions whose boxes, if any, are shares of what the model sees of a picture, no more pixels of the picture.

    Raises SliceError for a box that reaches out of its picture, or of which nothing is left by the crop.
    """
    from attrail_explainers.images import placed_boxes  # noqa: PLC0415 - as above

    if "box" not in asked.facts:
        return asked
    pictures = table.pictures
    sizes = {place: size_of(pictures[place], preprocessing.orientation) for place in set(asked.places.tolist())}
    found = np.empty((len(asked.places), 4), dtype=np.float32)
    for row, (place, box) in enumerate(zip(asked.places.tolist(), asked.facts["box"], strict=True)):
        (height, width), where = sizes[place], f"slice {table.name!r}: row {table.rows.index[place]} of {table.source}"
        if box.min() < -SLACK or (box - [width, height] * 2).max() > SLACK:
            raise SliceError(
                f"{where} has the box {box.round(2).tolist()} (x0, y0, x1, y1), which reaches out of its picture of "
                f"{width} x {height} pixels: correct it, or the task's format"
            )
        found[row] = placed_boxes(box[None], (height, width), preprocessing).clip(0, 1)[0]
        if not (found[row, 2:] > found[row, :2]).all():
            raise SliceError(
                f"{where} has the box {box.round(2).tolist()} (x0, y0, x1, y1), of which preprocessing crops all away: "
                'leave it out, or set [preprocessing] crop = 1.0 and crop_mode = "squash"'
            )
    return replace(asked, facts={**asked.facts, "box": found})


def _regions(table: SliceTable, preprocessing: Preprocessing) -> NDArray[np.bool_] | None:
    """Where the evidence belongs (N,H,W), from masks that are resized and cropped as the images are.

    Raises SliceError for a mask that lies on its side beside its image.
    """
    from attrail_explainers.images import decode_masks  # noqa: PLC0415 - as above

    masks = table.masks
    if masks is None:
        return None
    for picture, mask in zip(table.pictures, masks, strict=True):
        (height, width), (tall, wide) = (size_of(each, preprocessing.orientation) for each in (picture, mask))
        if height != width and height * tall == width * wide:
            raise SliceError(
                f"slice {table.name!r}: image {picture} is {width} pixels wide and {height} high, its mask {mask} "
                f"{wide} and {tall}: one of them lies on its side; correct the mask, or set [preprocessing] "
                'orientation = "stored"'
            )
    return decode_masks(masks, preprocessing)
