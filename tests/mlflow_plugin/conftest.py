"""A small audit with its bundle, its journal and the key that signed them."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
from small_audit import Small, write_small


@pytest.fixture
def small(tmp_path: Path) -> Small:
    return write_small(tmp_path / "small")
