"""A frozen validation slice: the images that every compared version sees."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.digest import digest_of, digest_of_arrays
from attrail_explainers.errors import ConfigError, SliceError, UnsupportedModelError
from attrail_explainers.files.orientation import Orientation
from attrail_explainers.files.picture_source import Picture
from attrail_explainers.parameters import is_number, is_whole, plain

ORIENTATIONS: tuple[Orientation, ...] = get_args(Orientation)
NONE = -1  # the class of what belongs to no class
CropMode = Literal["center", "squash"]
CROP_MODES: tuple[CropMode, ...] = get_args(CropMode)
CAME_LATER = {("orientation", "exif"), ("crop_mode", "center")}  # keys of Preprocessing at their defaults
PIXELS = "uint8"  # the numbers that a model takes which normalises inside
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


@dataclass(frozen=True)
class Preprocessing:
    """How a decoded image becomes a model input: resize, centre crop, scale to 0..1, normalise.

    ``size`` is (height, width) in pixels, ``mean`` and ``std`` are per channel on the 0..1 scale,
    ``crop`` is the fraction of the resized image the centre crop keeps (timm's ``crop_pct``). ``crop_mode`` "center"
    keeps a picture's proportions, so that the crop takes from its longer side; "squash" resizes both sides to what the
    crop is taken from, whatever the proportions (timm's words). ``orientation`` "exif"
    turns images and masks as their files say they are to be seen, "stored" takes the pixels as they lie. Raises
    ConfigError for values that are none::

        Preprocessing(size=(224, 224), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), crop=0.875)
    """

    size: tuple[int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    interpolation: str = "bilinear"
    crop: float = 1.0
    orientation: Orientation = "exif"
    crop_mode: CropMode = "center"

    def __post_init__(self) -> None:
        size, mean, std = (each if isinstance(each, tuple | list) else () for each in (self.size, self.mean, self.std))
        if len(size) != 2 or not all(is_whole(side) and side > 0 for side in size):
            raise ConfigError(f"size must be height and width in whole pixels, got {self.size!r}")
        if not mean or not std or len(mean) != len(std):
            raise ConfigError(f"mean and std must have one number per channel each, got {self.mean!r} and {self.std!r}")
        if not all(is_number(each) for each in (*mean, *std)):
            raise ConfigError(f"mean and std must be finite numbers, got {self.mean!r} and {self.std!r}")
        if not min(std) > 0 or not is_number(self.crop) or not 0 < self.crop <= 1:
            raise ConfigError(f"std must be above 0 and crop in 0..1, got {self.std!r} and {self.crop!r}")
        if self.interpolation not in INTERPOLATIONS:
            raise ConfigError(f"unknown interpolation {self.interpolation!r}: known are {', '.join(INTERPOLATIONS)}")
        if self.orientation not in ORIENTATIONS:
            raise ConfigError(f"orientation must be one of {', '.join(ORIENTATIONS)}, got {self.orientation!r}")
        if self.crop_mode not in CROP_MODES:
            raise ConfigError(f"crop_mode must be one of {', '.join(CROP_MODES)}, got {self.crop_mode!r}")
        for name in ("size", "mean", "std"):  # they enter digests and records
            object.__setattr__(self, name, tuple(plain(each) for each in getattr(self, name)))
        object.__setattr__(self, "crop", plain(self.crop))

    @property
    def channels(self) -> int:
        """Return the number of channels of an image."""
        return len(self.mean)

    @property
    def identity(self) -> dict[str, Any]:
        """What goes into digests: a key that came later, at its default, leaves the digests that were made before."""
        return {key: value for key, value in asdict(self).items() if (key, value) not in CAME_LATER}

    def gives_pixels_of(self, other: "Preprocessing") -> bool:
        """Whether the two give the same pixels, however these are normalised."""
        return self.channels == other.channels and replace(self, mean=other.mean, std=other.std) == other


def require_known_numbers(label: str, kind: str | None) -> None:
    """Raise UnsupportedModelError when a model takes other numbers (``kind``, such as int64) than it can be given."""
    if kind is not None and "float" not in kind and kind != PIXELS:
        raise UnsupportedModelError(
            f"model {label} was logged for {kind} images, attrail gives models floating-point ones, (pixel / 255 - "
            "mean) / std, or the pixels themselves as uint8: log it with an example of either"
        )


def told_apart(names: Iterable[str]) -> tuple[str, ...]:
    """Names of which none repeats: "cat" and "cat 2"."""
    told: list[str] = []
    for name in names:
        number, new = 1, name
        while new in told:
            number += 1
            new = f"{name} {number}"
        told.append(new)
    return tuple(told)


@dataclass(frozen=True, eq=False)
class Questions:
    """Of N questions the ``places`` (N,) of their images in a slice, ``labels`` (N,), -1 for none, and ``facts``.

    ``names`` (N,) tell questions about one image apart, None where there is one for each row of the slice. ``masks``
    are N files with the number that marks each zone in them, where questions are about zones that files show.
    """

    places: NDArray[np.int64]
    labels: NDArray[np.int64]
    facts: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    names: tuple[str, ...] | None = None
    masks: tuple[tuple[Picture, int], ...] | None = None


@dataclass(frozen=True)
class Slice:
    """Images with labels under one name.

    ``images`` (N,C,H,W) float32 as the model takes them, ``labels`` (N,) int64 class indices, -1 for none,
    ``sample_ids`` N different strings. ``regions`` (N,H,W), where given, marks the pixels where the evidence belongs:
    the object, the lesion. ``preprocessing`` says how the images came from pictures, where that is known. Where several
    rows ask about one image, as for each of its labels, they stand together and ``image_ids`` (N,) says which image
    each row is about. ``facts`` is what else a task asks by, N rows under each name: see ``tasks/``. Raises SliceError
    when the lengths or the ids disagree::

        pets = Slice("pets", images, labels, ("cat.png", "dog.png"))
        pets.digest  # another one as soon as a pixel, a label or a name is another
    """

    name: str
    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    sample_ids: tuple[str, ...]
    preprocessing: Preprocessing | None = field(default=None)
    regions: NDArray[np.bool_] | None = field(default=None)
    image_ids: tuple[str, ...] | None = field(default=None)
    facts: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        count = len(self.images)
        if self.images.ndim != 4 or count != len(self.labels) or count != len(self.sample_ids):
            raise SliceError(
                f"slice {self.name!r}: expected images (N,C,H,W) with N labels and N sample ids, got images "
                f"{self.images.shape}, {len(self.labels)} labels and {len(self.sample_ids)} ids"
            )
        if len(set(self.sample_ids)) != count:
            raise SliceError(f"slice {self.name!r}: sample ids must be different from each other; some repeat")
        if self.regions is not None and self.regions.shape != (count, *self.images.shape[2:]):
            raise SliceError(
                f"slice {self.name!r}: expected regions (N,H,W) of images {self.images.shape}, got {self.regions.shape}"
            )
        for name, found in (("image_ids", self.image_ids), *self.facts.items()):
            if found is not None and len(found) != count:
                raise SliceError(f"slice {self.name!r}: expected {name} of {count} rows, got {len(found)}")
        if len(self.starts) - 1 != len(set(self.pictured)):
            raise SliceError(f"slice {self.name!r}: rows about one image must stand together")

    def __len__(self) -> int:
        return len(self.sample_ids)

    @property
    def pictured(self) -> tuple[str, ...]:
        """The id of the image (N,) that each row is about: all draws for an image depend on it, never on the row."""
        return self.sample_ids if self.image_ids is None else self.image_ids

    @property
    def starts(self) -> NDArray[np.int64]:
        """The first row of each image, and at the end the number of rows."""
        ids = self.pictured
        return np.array([row for row in range(len(ids)) if not row or ids[row] != ids[row - 1]] + [len(ids)])

    @property
    def image_count(self) -> int:
        """How many images the rows are about."""
        return len(self.starts) - 1

    def rows(self, rows: slice, *, regions: bool = True) -> "Slice":
        """Some of the rows as a slice of their own, with what is known of them."""
        return Slice(
            self.name,
            self.images[rows],
            self.labels[rows],
            self.sample_ids[rows],
            self.preprocessing,
            self.regions[rows] if regions and self.regions is not None else None,
            None if self.image_ids is None else self.image_ids[rows],
            {name: each[rows] for name, each in self.facts.items()},
        )

    def asking(self, asked: Questions, images: NDArray[np.float32] | None = None) -> "Slice":
        """A slice with a row for each question about this one's images; ``images`` (N,C,H,W) are theirs, row by row.

        SliceError where nothing is asked.
        """
        if not len(asked.places):
            raise SliceError(f"slice {self.name!r}: nothing is asked of any of its {len(self)} images")
        places, labels = asked.places, asked.labels.astype(np.int64)
        if asked.names is None:
            return replace(self, labels=labels, facts=asked.facts)
        image_ids = tuple(self.pictured[place] for place in places)
        ids = tuple(f"{image} [{name}]" for image, name in zip(image_ids, asked.names, strict=True))
        regions = None if self.regions is None else self.regions[places]
        pixels = self.images[places] if images is None else images
        return Slice(self.name, pixels, labels, ids, self.preprocessing, regions, image_ids, asked.facts)

    @cached_property
    def digest(self) -> str:
        """Identity of the slice: decoded pixels, labels, regions, sample ids and preprocessing."""
        regions = [] if self.regions is None else [("regions", self.regions)]
        arrays = digest_of_arrays([("images", self.images), ("labels", self.labels), *regions])
        preprocessing = self.preprocessing.identity if self.preprocessing else None
        known: dict[str, Any] = {} if self.image_ids is None else {"image_ids": self.image_ids}
        known |= {"facts": digest_of_arrays(sorted(self.facts.items()))} if self.facts else {}
        return digest_of({"arrays": arrays, "sample_ids": self.sample_ids, "preprocessing": preprocessing, **known})

    def picture(self, row: int) -> NDArray[np.uint8]:
        """One of ``pictures``, (H,W,3): the images may lie in a file that is larger than the memory."""
        alone = Slice("", self.images[row : row + 1], self.labels[row : row + 1], ("",), self.preprocessing)
        return np.asarray(alone.pictures()[0])

    def pictures(self) -> NDArray[np.uint8]:
        """The images for the eye, (N,H,W,3) uint8; without known preprocessing each one's range is stretched."""
        if self.preprocessing is None:
            lowest = self.images.min(axis=(1, 2, 3), keepdims=True)
            extent = self.images.max(axis=(1, 2, 3), keepdims=True) - lowest
            plain = (self.images - lowest) / np.where(extent > 0, extent, 1)
        else:
            shape = (1, -1, 1, 1)
            plain = self.images * np.reshape(self.preprocessing.std, shape)
            plain = plain + np.reshape(self.preprocessing.mean, shape)
        if plain.shape[1] not in (1, 3):
            plain = plain.mean(axis=1, keepdims=True)
        colour = np.broadcast_to(plain, (len(plain), 3, *plain.shape[2:]))
        rounded: NDArray[np.uint8] = (colour.clip(0, 1) * 255).round().astype(np.uint8).transpose(0, 2, 3, 1)
        return rounded
