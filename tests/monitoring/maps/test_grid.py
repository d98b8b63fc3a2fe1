"""Maps on the grid on which they are compared."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attrail_monitoring.maps.grid import to_cells, to_grid

shapes = st.tuples(st.integers(1, 3), st.integers(1, 40), st.integers(1, 40))
maps = shapes.flatmap(lambda shape: arrays.arrays(np.float32, shape, elements=st.floats(-1e6, 1e6, width=32)))
cells = st.integers(1, 20)


@given(maps, cells)
def test_the_mean_is_kept(values, grid):
    found = to_grid(values, grid)
    assert found.shape == (len(values), *(min(size, grid) for size in values.shape[1:]))
    assert found.mean(axis=(1, 2)) == pytest.approx(values.mean(axis=(1, 2), dtype=np.float64), abs=1e-6, rel=1e-9)


@given(maps, cells)
def test_cells_stay_within_the_range(values, grid):
    found, values = to_grid(values, grid), values.astype(np.float64)
    spread = np.abs(values).max() * 1e-12
    assert (found >= values.min(axis=(1, 2), keepdims=True) - spread).all()
    assert (found <= values.max(axis=(1, 2), keepdims=True) + spread).all()


@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 5), st.integers(0, 99))
def test_equals_torch_where_it_divides(grid, tall, wide, seed):
    values = np.random.default_rng(seed).normal(size=(2, grid * tall, grid * wide)).astype(np.float32)
    expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(values).double(), (grid, grid))
    assert to_grid(values, grid) == pytest.approx(expected.numpy(), abs=1e-12)


@given(st.integers(1, 17), st.integers(1, 17), st.integers(1, 13), st.integers(0, 99))
def test_equals_exact_areas_where_it_does_not(height, width, grid, seed):
    """Each pixel enlarged to a block of cells x cells pixels makes every size divisible."""
    values = np.random.default_rng(seed).normal(size=(1, height, width)).astype(np.float32)
    rows, columns = min(height, grid), min(width, grid)
    large = values.astype(np.float64).repeat(rows, axis=1).repeat(columns, axis=2)
    expected = large.reshape(1, rows, height, columns, width).mean(axis=(2, 4))
    assert to_grid(values, grid) == pytest.approx(expected, abs=1e-12)


def test_small_maps_stay_as_they_are():
    values = np.random.default_rng(0).normal(size=(3, 5, 7)).astype(np.float32)
    assert to_grid(values, 14) == pytest.approx(values, abs=1e-15)
    assert to_grid(values, 6).shape == (3, 5, 6)


def test_values_are_not_rescaled():
    values = np.random.default_rng(0).normal(size=(3, 28, 28)).astype(np.float32)
    assert to_grid(values * 4, 14) == pytest.approx(4 * to_grid(values, 14))


@given(st.integers(1, 12), st.integers(1, 12), st.integers(1, 20), st.integers(1, 20), st.integers(0, 99))
def test_cells_may_be_smaller_than_pixels(height, width, rows, columns, seed):
    """As where a coarse region meets a fine grid: enlarged until both divide, the areas are the same."""
    values = np.random.default_rng(seed).random((2, height, width))
    large = values.repeat(rows, axis=1).repeat(columns, axis=2)
    expected = large.reshape(2, rows, height, columns, width).mean(axis=(2, 4))
    assert to_cells(values, rows, columns) == pytest.approx(expected, abs=1e-12)


def test_maps_some_at_a_time_are_the_maps_together(monkeypatch):
    values = np.random.default_rng(0).normal(size=(11, 17, 23)).astype(np.float32)
    whole = to_grid(values, 7)
    monkeypatch.setattr("attrail_monitoring.maps.grid.AT_ONCE", 4)
    assert np.array_equal(to_grid(values, 7), whole)
