"""Large arrays lie in files, and hold what small ones hold."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attrail_explainers.images import decode
from attrail_explainers.slice import Preprocessing
from attrail_flows.inputs import large_arrays


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    generator = np.random.default_rng(0)
    found = [tmp_path / f"{number}.png" for number in range(7)]
    for path in found:
        Image.fromarray(generator.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(path)
    return found


@pytest.mark.parametrize("limit", [0, large_arrays.IN_MEMORY])
def test_images_decoded_some_at_a_time_are_the_same(
    paths: list[Path], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = partial(decode, preprocessing=Preprocessing((8, 8), (0.5,) * 3, (0.5,) * 3))
    monkeypatch.setattr(large_arrays, "DECODED", 3)
    monkeypatch.setattr(large_arrays, "IN_MEMORY", limit)
    found = large_arrays.decoded(paths, read)
    assert isinstance(found, np.memmap) == (limit == 0)
    assert np.array_equal(found, read(paths))


def test_a_large_array_leaves_no_file_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    array = large_arrays.large_array((3, 2**23))
    array[:] = 1
    assert isinstance(array, np.memmap)
    assert list(tmp_path.iterdir()) == []
    assert array.sum() == 3 * 2**23
