"""Every kind of change to bundles and journals is detected; ``tests/simulations/mutations.py`` makes thousands."""

import sys
from pathlib import Path

from small_audit import Small

from attrail_mlflow.trail.inspection import inspect_bundle, inspect_journal

sys.path.append(str(Path(__file__).resolve().parents[1] / "simulations"))
from mutations import forge


def test_every_change_is_detected(tmp_path: Path) -> None:
    found = forge(160, seed=1, folder=tmp_path)
    assert len(found) == 16
    for kind, outcomes in found.items():
        assert outcomes["missed"] == 0, kind
        assert outcomes["detected"] == 10, kind


def test_what_was_not_changed_is_right(small: Small) -> None:
    assert inspect_bundle(small.bundle, small.trusted).signed
    assert inspect_journal(small.journal, small.trusted).signed
