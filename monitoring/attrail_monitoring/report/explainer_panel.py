"""Exhibits: what the report shows for one explainer on one slice, with its pictures made."""

import inspect
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from attrail_explainers.errors import UnknownNameError
from attrail_explainers.slice import Slice
from attrail_monitoring.audit_record import AuditRecord
from attrail_monitoring.maps.statistic import make_statistic
from attrail_monitoring.maps.strata import HEADLINES
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.pictures.overlays import colour_bar, data_uri, png
from attrail_monitoring.report.image_pairs import ImagePair, MapsByRole, Sources
from attrail_monitoring.report.strip_plot import Strip, strip_of
from attrail_monitoring.verdict.effect import Effect
from attrail_monitoring.verdict.findings import Finding
from attrail_monitoring.verdict.most_moved import RankedImage, most_moved

DRAWN = 8  # of the images that moved most, for each slice and explainer
WITHOUT = 4  # images without a map drawn after them


@dataclass(frozen=True)
class Row:
    """A finding with its strip, its effect and, in words, what its statistic means."""

    finding: Finding
    strip: Strip
    effect: Effect
    meaning: str


@dataclass(frozen=True)
class ShownImage:
    """One image of the slice with its two maps: how far they ``moved``, or None and ``why`` a version has no map."""

    sample: str
    label: int
    target: int
    moved: RankedImage | None
    why: str
    pair: ImagePair


@dataclass(frozen=True)
class ExplainerPanel:
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
    mean: ImagePair | None
    moved: tuple[ShownImage, ...]
    named: tuple[RankedImage, ...]
    without: tuple[ShownImage, ...]

    @property
    def primary(self) -> tuple[Row, ...]:
        """The rows of statistics that the verdict rests on."""
        return tuple(row for row in self.rows if row.finding.measurement.primary)

    @property
    def supporting(self) -> tuple[Row, ...]:
        """The rows of statistics that only describe."""
        return tuple(row for row in self.rows if not row.finding.measurement.primary)


def exhibits_of(record: AuditRecord, maps: MapsByRole, slices: Mapping[str, Slice]) -> list[ExplainerPanel]:
    """An exhibit for each slice and explainer among the record's findings, in their order."""
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for finding in record.report.findings:
        if finding.measurement.stratum in HEADLINES:
            grouped.setdefault((finding.measurement.slice, finding.measurement.explainer), []).append(finding)
    return [
        _exhibit(name, _rows(record, findings), Sources.found(name, explainer, maps, slices), record)
        for (name, explainer), findings in grouped.items()
    ]


def _rows(record: AuditRecord, findings: Sequence[Finding]) -> tuple[Row, ...]:
    ordered = sorted(findings, key=lambda finding: not finding.measurement.primary)
    return tuple(
        Row(each, strip_of(each), record.effect(each), _meaning(each.measurement.statistic)) for each in ordered
    )


def _exhibit(name: str, rows: tuple[Row, ...], sources: Sources, record: AuditRecord) -> ExplainerPanel:
    defined, missing = sources.defined, np.flatnonzero(~sources.defined)
    moved = _moved(sources, record)
    places = {sample: row for row, sample in enumerate(sources.slice.sample_ids)}
    return ExplainerPanel(
        slice=name,
        explainer=sources.reference.explainer,
        rows=rows,
        images=int(defined.sum()),
        undefined=len(missing),
        signed=sources.signed,
        bar=data_uri(png(colour_bar(sources.signed))),
        mean=sources.mean(defined) if defined.any() else None,
        moved=tuple(_image_pair(sources, places[each.sample], each) for each in moved[:DRAWN]),
        named=moved[DRAWN:],
        without=tuple(_image_pair(sources, row, None) for row in missing[:WITHOUT]),
    )


def _moved(sources: Sources, record: AuditRecord) -> tuple[RankedImage, ...]:
    """The images that moved most, with what the record knows of how they were decided."""
    first, second = (VersionMaps((each,)) for each in (sources.reference, sources.candidate))
    outcomes = {(each.slice, each.explainer, each.sample): each.outcome for each in record.moved}
    return tuple(
        replace(each, outcome=outcomes.get((each.slice, each.explainer, each.sample), ""))
        for each in most_moved(first, second, record.settings)
    )


def _image_pair(sources: Sources, row: int, moved: RankedImage | None) -> ShownImage:
    versions = (sources.reference, sources.candidate)
    sample = sources.slice.sample_ids[row]
    gaps = [f"{each.model}: {each.undefined[sample]}" for each in versions if sample in each.undefined]
    return ShownImage(
        sample=sample,
        label=int(sources.slice.labels[row]),
        target=int(sources.reference.targets[row]),
        moved=moved,
        why="; ".join(gaps),
        pair=sources.of(row),
    )


def _meaning(statistic: str) -> str:
    """The first line of the statistic's file, which says what it measures; nothing for one this version lacks."""
    try:
        module = sys.modules[type(make_statistic(statistic)).__module__]
    except UnknownNameError:
        return ""
    return (inspect.getdoc(module) or "").partition("\n")[0]
