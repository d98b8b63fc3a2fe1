"""Bundles and journals of every released format verify for ever; ``tests/golden/make.py`` made them."""

import random
from pathlib import Path

import pytest

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.signing.trusted_keys import read_trusted_keys
from attrail_mlflow.trail.archive import unpack
from attrail_mlflow.trail.bundle import attested_in
from attrail_mlflow.trail.inspection import inspect_evidence

GOLDEN = sorted(path for path in (Path(__file__).resolve().parents[2] / "golden").glob("v*") if path.is_dir())
versions = pytest.mark.parametrize("folder", GOLDEN, ids=lambda folder: folder.name)


def test_there_is_one() -> None:
    assert [folder.name for folder in GOLDEN][:1] == ["v1"]


@versions
@pytest.mark.parametrize("name", ["bundle.zip", "journal.jsonl"])
def test_old_evidence_is_right(folder: Path, name: str) -> None:
    found = inspect_evidence(folder / name, read_trusted_keys(folder / "trust.toml"))
    assert found.signed
    assert not found.cautions


@versions
def test_it_is_a_real_audit(folder: Path, tmp_path: Path) -> None:
    files = unpack(folder / "bundle.zip", tmp_path)
    statement = attested_in(tmp_path / "attrail")
    assert statement.model.label == "digits/6"
    assert statement.slices
    assert any(name.endswith("candidate.safetensors") for name in files)


@versions
def test_no_byte_of_it_can_change(folder: Path, tmp_path: Path) -> None:
    content, draw = (folder / "bundle.zip").read_bytes(), random.Random(0)
    trusted = read_trusted_keys(folder / "trust.toml")
    for _ in range(20):
        place = draw.randrange(len(content))
        changed = content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]
        (tmp_path / "changed.zip").write_bytes(changed)
        with pytest.raises(EvidenceError):
            inspect_evidence(tmp_path / "changed.zip", trusted)
