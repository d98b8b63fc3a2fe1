"""The slices of an audit: tables that were held against Great Expectations, and their decoded images."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attrail_explainers.errors import ConfigError
from attrail_explainers.images import decode, timm_preprocessing
from attrail_explainers.slice import Preprocessing, Slice
from attrail_flows.configuration import AuditConfig
from attrail_flows.roomy import decoded
from attrail_mlflow.registry import RegisteredVersion
from attrail_monitoring.expectations import Validation, validate_slice_table
from attrail_monitoring.slice_table import MASK, SliceTable, label_indices, read_slice_table


@dataclass(frozen=True, eq=False)
class Tables:
    """Validated slice tables with their class indices, and what Great Expectations said of them."""

    tables: tuple[SliceTable, ...]
    labels: tuple[pd.Series, ...]
    validations: tuple[Validation, ...]


def read_tables(config: AuditConfig, reference: RegisteredVersion, *, labelled: bool = True) -> Tables:
    """Read every slice's table and hold it against Great Expectations, before any model is loaded."""
    tables = tuple(
        read_slice_table(each.name, each.source, each.where, each.limit, labelled=labelled) for each in config.slices
    )
    names = reference.facts.get("classes") or ()
    labels = tuple(label_indices(table, names) for table in tables)
    pairs = zip(tables, labels, strict=True)
    validations = tuple(validate_slice_table(table, found, reference.classes) for table, found in pairs)
    return Tables(tables, labels, validations)


def read_slices(config: AuditConfig, version: RegisteredVersion, *, labelled: bool = True) -> tuple[Slice, ...]:
    """The configuration's slices as one version takes them."""
    return load_slices(read_tables(config, version, labelled=labelled), preprocessing_of(config, [version]))


def read_windows(config: AuditConfig, version: RegisteredVersion) -> tuple[Slice, ...]:
    """The same of production images, which need no labels."""
    return read_slices(config, version, labelled=False)


def load_slices(tables: Tables, preprocessing: Preprocessing) -> tuple[Slice, ...]:
    """Decode the images of every slice."""
    slices = []
    for table, labels in zip(tables.tables, tables.labels, strict=True):
        images = decoded([Path(path) for path in table.rows["path"]], partial(decode, preprocessing=preprocessing))
        ids = tuple(str(image) for image in table.rows["image"])
        regions = _regions(table, preprocessing)
        slices.append(Slice(table.name, images, labels.to_numpy(dtype=np.int64), ids, preprocessing, regions))
    return tuple(slices)


def preprocessing_of(config: AuditConfig, versions: Sequence[RegisteredVersion]) -> Preprocessing:
    """The preprocessing: the configuration's, else what the reference was logged with, else its timm data config.

    Raises ConfigError when none of them says, or when the versions say different things.
    """
    if config.preprocessing is not None:
        return _fitting(config.preprocessing.value(), versions[0])
    stated = [_stated_preprocessing(each) for each in versions]
    if stated[0] is None:
        raise ConfigError(
            f"{versions[0].label} does not say how its images are preprocessed: set [preprocessing] size, mean and std"
        )
    for each, found in zip(versions, stated, strict=True):
        if found is not None and found != stated[0]:
            raise ConfigError(
                f"{each.label} was logged with another preprocessing than {versions[0].label}: versions can only be "
                "compared on the same pixels; set [preprocessing] if one setting fits both"
            )
    return _fitting(stated[0], versions[0])


def _stated_preprocessing(version_: RegisteredVersion) -> Preprocessing | None:
    facts = version_.facts
    stated = facts.get("preprocessing")
    if stated:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()
        }
        return Preprocessing(**values)
    if facts.get("timm_model"):
        return timm_preprocessing(facts["timm_model"])
    return None


def _fitting(preprocessing: Preprocessing, version_: RegisteredVersion) -> Preprocessing:
    """The preprocessing, if its result has the shape the model was logged with."""
    logged, given = version_.input_shape, (preprocessing.channels, *preprocessing.size)
    if logged and any(size not in (-1, found) for size, found in zip(logged, given, strict=True)):
        raise ConfigError(
            f"preprocessing gives images of shape (C,H,W) = {given}, {version_.label} was logged for {logged}: "
            "correct [preprocessing] size, and mean and std to one number per channel"
        )
    return preprocessing


def _regions(table: SliceTable, preprocessing: Preprocessing) -> NDArray[np.bool_] | None:
    """Where the evidence belongs (N,H,W), from masks that are resized and cropped as the images are."""
    if MASK not in table.rows:
        return None
    plain = replace(preprocessing, mean=(0.0,), std=(1.0,))
    return np.asarray(decode([Path(path) for path in table.rows["mask_path"]], plain)[:, 0] > 0.5)
