"""Sources: both versions' maps with the images under them, and the pictures that are made of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import RecordError
from attrail_explainers.slice import Slice
from attrail_monitoring.pictures.marks import lines_of, marked
from attrail_monitoring.pictures.overlays import SIDE, Pixels, Scale, Values, data_uri, fit, overlay, png, shared_scale

COLOURS = 256  # of a picture in the report: enough for the eye, less than half of the bytes

MapsByRole = Mapping[tuple[str, str, str], Attributions]


@dataclass(frozen=True)
class ImagePair:
    """Addresses of a picture and of both versions' maps over it, drawn on one scale."""

    picture: str
    reference: str
    candidate: str
    scale: Scale


@dataclass(frozen=True)
class Sources:
    """What pictures are made from: both versions' maps, and the slice whose images lie under them."""

    reference: Attributions
    candidate: Attributions
    slice: Slice

    @classmethod
    def found(cls, name: str, explainer: str, maps: MapsByRole, slices: Mapping[str, Slice]) -> "Sources":
        """The sources of one explainer on one slice; RecordError when they were not given or are not of that slice."""
        if name not in slices:
            raise RecordError(f"report: the images of slice {name!r} were not given")
        for role in ("reference", "candidate"):
            key = (name, explainer, role)
            if key not in maps:
                raise RecordError(f"report: the {role} maps of {explainer} on slice {name!r} were not given")
            if maps[key].slice_digest != slices[name].digest:
                raise RecordError(
                    f"report: the {role} maps of {explainer} are not of the given slice {name!r}: "
                    f"expected digest {slices[name].digest}, they state {maps[key].slice_digest}"
                )
        return cls(maps[name, explainer, "reference"], maps[name, explainer, "candidate"], slices[name])

    @cached_property
    def defined(self) -> NDArray[np.bool_]:
        """(N,) True where both versions have a map."""
        return np.asarray(self.reference.defined & self.candidate.defined)

    @cached_property
    def signed(self) -> bool:
        """Whether any map of either version has a negative value: one way of colouring for all of them."""
        return self.reference.signed or self.candidate.signed

    def pair(
        self,
        image: NDArray[np.float32],
        reference: Values,
        candidate: Values,
        side: int = SIDE,
        row: int | None = None,
    ) -> ImagePair:
        """Both maps of one image (C,H,W), drawn on one scale, about ``side`` pixels large.

        What a ``row`` of the slice asks about, such as a zone, is outlined.
        """
        alone = Slice("", image[None], self.slice.labels[:1], ("",), self.slice.preprocessing)
        large, scale = fit(alone.pictures()[0], side), shared_scale(reference, candidate, signed=self.signed)
        drawn = [large, *(overlay(large, values, scale) for values in (reference, candidate))]
        if row is not None:
            lines = lines_of(self.slice, row, (large.shape[0], large.shape[1]))
            drawn = [marked(each, lines) for each in drawn]
        picture, first, second = (_address(each) for each in drawn)
        return ImagePair(picture, first, second, scale)

    def of(self, row: int, side: int = SIDE) -> ImagePair:
        """Both maps of the image in a row of the slice, with what it asks about outlined."""
        return self.pair(self.slice.images[row], self.reference.values[row], self.candidate.values[row], side, row)

    def mean(self, rows: NDArray[np.bool_], side: int = SIDE) -> ImagePair:
        """Mean maps over images that are defined in both versions, (N,) marked, over their mean image."""
        every = (self.slice.images, self.reference.values, self.candidate.values)
        image, reference, candidate = (_mean(each, rows) for each in every)
        return self.pair(image, reference, candidate, side)


def _mean(values: NDArray[np.float32], rows: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean over the marked rows, of which there is no copy: they may lie in a file that is larger than the memory."""
    total = np.zeros(values.shape[1:])
    for row in np.flatnonzero(rows):
        total += values[row]
    return np.asarray(total / rows.sum(), dtype=np.float32)


def _address(pixels: Pixels) -> str:
    return data_uri(png(pixels, COLOURS))
