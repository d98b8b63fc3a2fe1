"""Exhibits: what the report shows for one explainer on one slice, with its pictures made."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import RecordError, UnknownNameError
from attrail_explainers.slice import Slice
from attrail_monitoring.audit_record import AuditRecord
from attrail_monitoring.effect import Effect
from attrail_monitoring.most_moved import MovedImage, most_moved
from attrail_monitoring.picture import Pixels, Scale, Values, colour_bar, data_uri, fit, overlay, png, shared_scale
from attrail_monitoring.report.strip import Strip, strip_of
from attrail_monitoring.statistic import make_statistic
from attrail_monitoring.stratum import HEADLINES
from attrail_monitoring.verdict import Finding
from attrail_monitoring.version_maps import VersionMaps

DRAWN = 8  # of the images that moved most, for each slice and explainer
WITHOUT = 4  # images without a map drawn after them
COLOURS = 256  # of a picture in the report: enough for the eye, less than half of the bytes

Maps = Mapping[tuple[str, str, str], Attributions]


@dataclass(frozen=True)
class Row:
    """A finding with its strip, its effect and, in words, what its statistic means."""

    finding: Finding
    strip: Strip
    effect: Effect
    meaning: str


@dataclass(frozen=True)
class Pair:
    """Addresses of a picture and of both versions' maps over it, drawn on one scale."""

    picture: str
    reference: str
    candidate: str
    scale: Scale


@dataclass(frozen=True)
class ImagePair:
    """One image of the slice with its two maps: how far they ``moved``, or None and ``why`` a version has no map."""

    sample: str
    label: int
    target: int
    moved: MovedImage | None
    why: str
    pair: Pair


@dataclass(frozen=True)
class Exhibit:
    """One explainer on one slice: what the verdict rests on, the mean maps over ``images`` images, those moved most.

    ``rows`` are the findings of the headline's stratum, the primary ones first. ``bar`` shows the colours of every
    scale here, which run both ways from 0 when ``signed``. ``mean`` is None when no image has a map in both versions.
    ``moved`` are drawn, ``named`` are those after them; ``without`` shows some of the ``undefined`` images.
    """

    slice: str
    explainer: str
    rows: tuple[Row, ...]
    images: int
    undefined: int
    signed: bool
    bar: str
    mean: Pair | None
    moved: tuple[ImagePair, ...]
    named: tuple[MovedImage, ...]
    without: tuple[ImagePair, ...]

    @property
    def primary(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.finding.measurement.primary)

    @property
    def supporting(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if not row.finding.measurement.primary)


def exhibits_of(record: AuditRecord, maps: Maps, slices: Mapping[str, Slice]) -> list[Exhibit]:
    """An exhibit for each slice and explainer among the record's findings, in their order."""
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for finding in record.report.findings:
        if finding.measurement.stratum in HEADLINES:
            grouped.setdefault((finding.measurement.slice, finding.measurement.explainer), []).append(finding)
    return [
        _exhibit(name, _rows(record, findings), _Sources.found(name, explainer, maps, slices), record)
        for (name, explainer), findings in grouped.items()
    ]


@dataclass(frozen=True)
class _Sources:
    """What an exhibit is made from: both versions' maps, and the slice whose images lie under them."""

    reference: Attributions
    candidate: Attributions
    slice: Slice

    @classmethod
    def found(cls, name: str, explainer: str, maps: Maps, slices: Mapping[str, Slice]) -> "_Sources":
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
        return any(bool((each.values < 0).any()) for each in (self.reference, self.candidate))

    def pair(self, image: NDArray[np.float32], reference: Values, candidate: Values) -> Pair:
        """Both maps of one image (C,H,W), drawn on one scale."""
        alone = Slice("", image[None], self.slice.labels[:1], ("",), self.slice.preprocessing)
        large, scale = fit(alone.pictures()[0]), shared_scale(reference, candidate, signed=self.signed)
        overlays = [overlay(large, values, scale) for values in (reference, candidate)]
        return Pair(_address(large), _address(overlays[0]), _address(overlays[1]), scale)


def _rows(record: AuditRecord, findings: Sequence[Finding]) -> tuple[Row, ...]:
    ordered = sorted(findings, key=lambda finding: not finding.measurement.primary)
    return tuple(
        Row(each, strip_of(each), record.effect(each), _meaning(each.measurement.statistic)) for each in ordered
    )


def _exhibit(name: str, rows: tuple[Row, ...], sources: _Sources, record: AuditRecord) -> Exhibit:
    defined, missing = sources.defined, np.flatnonzero(~sources.defined)
    moved = _moved(sources, record)
    places = {sample: row for row, sample in enumerate(sources.slice.sample_ids)}
    return Exhibit(
        slice=name,
        explainer=sources.reference.explainer,
        rows=rows,
        images=int(defined.sum()),
        undefined=len(missing),
        signed=sources.signed,
        bar=data_uri(png(colour_bar(sources.signed))),
        mean=_mean(sources) if defined.any() else None,
        moved=tuple(_image_pair(sources, places[each.sample], each) for each in moved[:DRAWN]),
        named=moved[DRAWN:],
        without=tuple(_image_pair(sources, row, None) for row in missing[:WITHOUT]),
    )


def _moved(sources: _Sources, record: AuditRecord) -> tuple[MovedImage, ...]:
    """The images that moved most, with what the record knows of how they were decided."""
    first, second = (VersionMaps((each,)) for each in (sources.reference, sources.candidate))
    outcomes = {(each.slice, each.explainer, each.sample): each.outcome for each in record.moved}
    return tuple(
        replace(each, outcome=outcomes.get((each.slice, each.explainer, each.sample), ""))
        for each in most_moved(first, second, record.settings)
    )


def _mean(sources: _Sources) -> Pair:
    """Mean maps over the images defined in both versions, over their mean image."""
    every = (sources.slice.images, sources.reference.values, sources.candidate.values)
    image, reference, candidate = (
        each[sources.defined].mean(axis=0, dtype=np.float64).astype(np.float32) for each in every
    )
    return sources.pair(image, reference, candidate)


def _image_pair(sources: _Sources, row: int, moved: MovedImage | None) -> ImagePair:
    versions = (sources.reference, sources.candidate)
    sample = sources.slice.sample_ids[row]
    gaps = [f"{each.model}: {each.undefined[sample]}" for each in versions if sample in each.undefined]
    return ImagePair(
        sample=sample,
        label=int(sources.slice.labels[row]),
        target=int(sources.reference.targets[row]),
        moved=moved,
        why="; ".join(gaps),
        pair=sources.pair(sources.slice.images[row], sources.reference.values[row], sources.candidate.values[row]),
    )


def _address(pixels: Pixels) -> str:
    return data_uri(png(pixels, COLOURS))


def _meaning(statistic: str) -> str:
    """The first line of the statistic's file, which says what it measures; nothing for one this version lacks."""
    try:
        module = sys.modules[type(make_statistic(statistic)).__module__]
    except UnknownNameError:
        return ""
    return (inspect.getdoc(module) or "").partition("\n")[0]
