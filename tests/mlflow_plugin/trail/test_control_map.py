"""The control map: every artifact it names is in a bundle, the table for people is the map for machines."""

import json
import zipfile
from pathlib import Path

import pytest
from small_audit import Small

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.trail.bundle import write_bundle
from attrail_mlflow.trail.control_map import (
    CONTROL_MAP,
    control_map_text,
    control_table,
    read_control_map,
    require_answered,
)
from attrail_mlflow.trail.inspection import inspect_bundle

ROOT = Path(__file__).resolve().parents[3]
CONTROLS = read_control_map(control_map_text())
FRAMEWORKS = {
    "EU AI Act": {"Annex IV, 2(g)", "Article 12(1)", "Article 12(2)(a)"},
    "FDA": {"Description of Modifications", "Modification Protocol", "Impact Assessment"},
    "SR 26-2": {"Validation", "Monitoring", "Governance"},
    "NIST AI RMF": {"MEASURE 2.9"},
    "ISO/IEC 42001": {"A.6.2.4", "A.6.2.5", "A.6.2.6", "A.6.2.7", "A.6.2.8"},
}


def test_every_provision_is_there_covered_or_not() -> None:
    for framework, provisions in FRAMEWORKS.items():
        assert {each.provision for each in CONTROLS if framework in each.framework} == provisions
    assert all(each.how for each in CONTROLS)


def test_every_artifact_is_in_a_bundle_with_a_journal(small: Small) -> None:
    with zipfile.ZipFile(small.bundle) as archive:
        require_answered(CONTROLS, archive.namelist())
        assert archive.read(CONTROL_MAP).decode() == json.dumps(json.loads(control_map_text()), indent=1) + "\n"


@pytest.mark.parametrize("control", [each for each in CONTROLS if each.artifact], ids=lambda each: each.artifact)
def test_a_missing_artifact_is_named(control, small: Small) -> None:
    with zipfile.ZipFile(small.bundle) as archive:
        names = [name for name in archive.namelist() if not control.answered_by([name])]
    with pytest.raises(EvidenceError, match="is missing"):
        require_answered(CONTROLS, names)


def test_a_bundle_without_a_journal_says_so_in_its_map(small: Small) -> None:
    out = small.bundle.with_name("bare.zip")
    write_bundle(small.run, out, small.trail, small.trusted)
    inspect_bundle(out, small.trusted)
    with zipfile.ZipFile(out) as archive:
        (row,) = [each for each in read_control_map(archive.read(CONTROL_MAP).decode()) if each.provision == "A.6.2.8"]
    assert row.artifact is None
    assert row.how == "not in this bundle: journal.jsonl"


def test_the_table_for_people_is_the_map() -> None:
    page = (ROOT / "mlflow_plugin" / "CONTROLS.md").read_text(encoding="utf-8")
    assert control_table(CONTROLS) in page
    assert page.count("**not covered**") == sum(each.artifact is None for each in CONTROLS)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda each: each.update(format="attrail.control-map/9"), "attrail.control-map/1"),
        (lambda each: each["controls"][0].pop("how"), "'how' is missing"),
        (lambda each: each["controls"][0].update(artifact=""), "artifact"),
    ],
)
def test_a_malformed_map_is_refused(change, says: str) -> None:
    document = json.loads(control_map_text())
    change(document)
    with pytest.raises(EvidenceError, match=says):
        read_control_map(json.dumps(document))
