"""The files an audit leaves, under fixed names.

::

audit.json                                   every fact and digest, the verdict first
report.html                                  the same for people, one self-contained file
measurements.csv                             one row per slice, explainer and statistic
config.json                                  the configuration as it was read
policy.json                                  the policy, as it was posted in the run before anything was computed
environment.json                             versions of the software, and the hardware
calibration.json                             every distance of the noise floor, and what the explainers can measure
sequence.json                                state of the sequence of audits this one belongs to, if any
slices/SLICE.csv                             rows of the slice with the sha256 of every image file
maps/SLICE/EXPLAINER/ROLE.safetensors        raw maps; ROLE is reference or candidate
overlays/SLICE/EXPLAINER/RANK-SAMPLE.png     most-moved images: image, reference, candidate on one colour scale
expectations/NAME.json                       Great Expectations results, strict JSON
expectations/suite-NAME.json                 the suite, for Great Expectations
expectations.html                            the same for people, one self-contained file
signer.pem                                   public key of who signed, if anybody did
manifest.json                                sha256 of every other file
statement.json                               the verdict and what it is bound to, in a signed envelope (``attestation``)
"""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from attrail_explainers.attributions import Attributions, save_attributions
from attrail_explainers.slice import Slice
from attrail_monitoring.audit_record import AuditRecord
from attrail_monitoring.expectations.inputs import Validation
from attrail_monitoring.expectations.page import render_rule_page
from attrail_monitoring.floor.calibration import Calibration
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.pictures.overlays import fit, overlay, png, shared_scale
from attrail_monitoring.report.report import render_report
from attrail_monitoring.slices.slice_table import OWN, SliceTable
from attrail_monitoring.verdict.measurement import image_distances
from attrail_monitoring.verdict.sequence import Sequence as AuditSequence

SHOWN = 8
LOADING = "allow_pickle"  # kept with the policy, but no part of what is judged, nor of its digest


@dataclass(frozen=True, eq=False)
class Evidence:
    """Everything an audit produced. ``maps`` holds each version's maps by role, the reference and candidate first."""

    record: AuditRecord
    slices: Sequence[Slice]
    tables: Sequence[SliceTable]
    maps: Mapping[str, Sequence[Attributions]]
    validations: Sequence[Validation]
    config: Mapping[str, Any]
    settings: Settings
    calibration: Calibration = field(default_factory=Calibration)
    sequence: AuditSequence | None = None

    def write(self, folder: Path) -> None:
        """Write every file below ``folder``; the same evidence always gives the same bytes."""
        document = self.record.document()
        _write_json(folder / "audit.json", document)
        _write_json(folder / "config.json", self.config)
        policy = {key: value for key, value in document["policy"].items() if key != LOADING}
        _write_json(folder / "policy.json", policy)
        _write_json(folder / "environment.json", document["environment"])
        _write_json(folder / "calibration.json", self.calibration.document())
        if self.sequence is not None:
            _write_json(folder / "sequence.json", self.sequence.document())
        pd.DataFrame(document["measurements"]).to_csv(folder / "measurements.csv", index=False)
        for validation in self.validations:
            _write_json(folder / "expectations" / f"{validation.name}.json", validation.result)
            _write_json(folder / "expectations" / f"suite-{validation.name}.json", validation.suite)
        title = f"{self.record.candidate.label} against {self.record.reference.label}"
        (folder / "expectations.html").write_text(render_rule_page(self.validations, title), encoding="utf-8")
        for table in self.tables:
            _write_slice(folder / "slices" / f"{table.name}.csv", table)
        for role, maps in self.maps.items():
            for each in maps:
                save_attributions(each, folder / "maps" / each.slice_name / each.explainer / f"{role}.safetensors")
        for path, pixels in self._overlays():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(png(pixels))
        (folder / "report.html").write_text(self._report(), encoding="utf-8")

    def _report(self) -> str:
        maps = {
            (each.slice_name, each.explainer, role): each
            for role in ("reference", "candidate")
            for each in self.maps[role]
        }
        return render_report(self.record, maps, {each.name: each for each in self.slices})

    def _overlays(self) -> Iterator[tuple[Path, Any]]:
        signed = {maps.explainer: False for maps in self.maps["reference"]}
        for maps in (*self.maps["reference"], *self.maps["candidate"]):
            signed[maps.explainer] |= maps.signed
        slices = {each.name: each for each in self.slices}
        for reference, candidate in zip(self.maps["reference"], self.maps["candidate"], strict=True):
            distances = image_distances(reference, candidate, self.settings)
            order = [row for row in np.argsort(-distances, kind="stable") if np.isfinite(distances[row])]
            for rank, row in enumerate(order[:SHOWN], start=1):
                picture = fit(slices[reference.slice_name].picture(row))
                pair = [reference.values[row], candidate.values[row]]
                scale = shared_scale(*pair, signed=signed[reference.explainer])
                strip = [picture, *(overlay(picture, values, scale) for values in pair)]
                name = f"{rank:02d}-{slug(reference.sample_ids[row])}.png"
                yield Path("overlays", reference.slice_name, reference.explainer, name), np.concatenate(strip, axis=1)


def slug(text: str) -> str:
    """A name that is safe in any file system: letters, digits, dot, dash and underscore."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[-80:] or "sample"


def _write_json(path: Path, document: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        json.dumps(document, indent=1, sort_keys=False, allow_nan=False, default=dict) + "\n", encoding="utf-8"
    )


def _write_slice(path: Path, table: SliceTable) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = table.rows.drop(columns=list(OWN), errors="ignore")
    for name, pictures in (("sha256", table.pictures), ("mask_sha256", table.masks)):
        if pictures is not None:
            rows[name] = [hashlib.sha256(each.read_bytes()).hexdigest() for each in pictures]
    rows.to_csv(path)
