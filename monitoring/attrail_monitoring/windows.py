"""Two windows of production images under one model: an unpaired test of whether their maps are distributed alike."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist

from attrail_explainers.attributions import Attributions
from attrail_explainers.digest import seed_of
from attrail_explainers.errors import ConfigError, IncomparableError
from attrail_monitoring.maps.grid import to_grid
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.shares import shares

Array = NDArray[np.float64]
Name = Literal["mmd", "energy"]
QUESTION = (
    "A weaker, unpaired question: the windows hold different images, so a difference may come from the images as well "
    "as from what the model looks at, and evidence that moved to another place in each image is not seen."
)
MOST = 2000  # rows a window; more are drawn down to it
BLOCK = 500  # rows of the similarity matrix in memory at once
FOR_MEDIAN = 1000  # rows from which the kernel's width is read


@dataclass(frozen=True)
class TwoSample:
    """An unpaired distance of two windows and its permutation p-value.

    ``used`` rows of each window entered, drawn from those with a map (``undefined`` have none). The distances are
    unbiased and may be slightly negative. ``question`` says what was asked, and is part of every report::

        mmd, energy = compare_windows(may_maps, june_maps)
        mmd.p_value < 0.01
    """

    statistic: Name
    value: float
    p_value: float
    used: tuple[int, int]
    undefined: tuple[int, int] = (0, 0)
    question: str = QUESTION


def compare_windows(
    first: Attributions, second: Attributions, settings: Settings | None = None, permutations: int = 999
) -> tuple[TwoSample, TwoSample]:
    """Return the MMD and the energy distance of one model's maps of two windows of images, each with its p-value.

    The images may be different ones: this asks whether the maps are distributed alike, and ``question`` of the result
    says how much weaker that is than a paired comparison. Each map (H,W) is brought onto the settings' grid and divided
    by its absolute sum; p-values are of ``permutations`` of the images. Raises IncomparableError unless explainer,
    parameters and weights are the same, ConfigError for a window with fewer than two maps::

        mmd, energy = compare_windows(may_maps, june_maps)
    """
    settings = settings or Settings()
    _require_one_model(first, second)
    features = [shares(to_grid(each.values[each.defined], settings.grid)) for each in (first, second)]
    undefined = (len(first.undefined), len(second.undefined))
    seed = seed_of("two windows", settings.seed, first.slice_digest, second.slice_digest, first.explainer)
    found = (two_sample(features[0], features[1], name, permutations, seed) for name in ("mmd", "energy"))
    mmd, energy = (TwoSample(each.statistic, each.value, each.p_value, each.used, undefined) for each in found)
    return mmd, energy


def two_sample(
    first: Array, second: Array, statistic: Name = "mmd", permutations: int = 999, seed: int = 0, most: int = MOST
) -> TwoSample:
    """Whether the rows of (N,D) and (M,D) come from one distribution.

    "mmd" is the unbiased squared maximum mean discrepancy with a Gaussian kernel whose width is the median distance
    (Gretton et al. 2012, lemma 6), "energy" the energy distance 2 E|X-Y| - E|X-X'| - E|Y-Y'| (Szekely & Rizzo 2013).
    Both are sums of one matrix over pairs of rows, so one pass over its blocks serves all permutations: memory is that
    of 500 rows. p is (1 + number at least as large) / (1 + permutations). Windows of more than ``most`` rows are drawn
    down to it, because time grows with the square.
    """
    if len(first) < 2 or len(second) < 2 or first.shape[1:] != second.shape[1:]:
        raise ConfigError(f"expected two windows of 2 or more rows of one width, got {first.shape}, {second.shape}")
    generator = np.random.default_rng(seed)
    drawn = [_drawn(each, most, generator) for each in (first, second)]
    rows, count = np.concatenate(drawn), len(drawn[0])
    similarity = _similarity(statistic, rows)
    members = _memberships(count, len(rows), permutations, generator)
    values = _distances(_block_sums(rows, similarity, members), count, len(rows) - count)
    tolerance = 1e-12 * np.abs(values).max()
    at_least = int((values[1:] >= values[0] - tolerance).sum())
    return TwoSample(statistic, float(values[0]), (1 + at_least) / (1 + permutations), (count, len(rows) - count))


def _require_one_model(first: Attributions, second: Attributions) -> None:
    aspects = ("explainer", "parameters", "weights_digest", "program_digest")
    differing = [name for name in aspects if getattr(first, name) != getattr(second, name)]
    if differing:
        raise IncomparableError(
            f"two windows are compared under one model and one explainer, these differ in {', '.join(differing)}: "
            "explain both windows with the same version and settings"
        )


def _drawn(rows: Array, most: int, generator: np.random.Generator) -> Array:
    return rows if len(rows) <= most else rows[np.sort(generator.choice(len(rows), most, replace=False))]


def _similarity(statistic: Name, rows: Array) -> Callable[[Array], Array]:
    """From distances to the entries whose sums make the statistic."""
    if statistic == "energy":
        return np.negative
    if statistic != "mmd":
        raise ConfigError(f"unknown two-sample statistic {statistic!r}: known are energy, mmd")
    some = rows[:: max(1, len(rows) // FOR_MEDIAN)]
    distances = cdist(some, some)[np.triu_indices(len(some), 1)]
    positive = distances[distances > 0]
    width = float(np.median(positive)) if len(positive) else 1.0
    return lambda block: np.exp(-(block**2) / (2 * width**2))


def _memberships(count: int, total: int, permutations: int, generator: np.random.Generator) -> Array:
    """(total, 1 + permutations) with 1 where a row belongs to the first window: as it is, then permuted."""
    found = np.zeros((total, 1 + permutations))
    found[:count, 0] = 1
    found[:, 1:] = generator.permuted(np.repeat(found[:, :1], permutations, axis=1), axis=0)
    return found


def _block_sums(rows: Array, similarity: Callable[[Array], Array], members: Array) -> tuple[Array, Array, Array]:
    """Sums of the matrix without its diagonal: first with first, first with all, all with all, per membership."""
    within, across, total = (np.zeros(members.shape[1]) for _ in range(3))
    for start, block in _blocks(rows, similarity):
        here = members[start : start + len(block)]
        within += np.einsum("rb,rb->b", here, block @ members)
        sums = block.sum(axis=1)
        across += sums @ here
        total += sums.sum()
    return within, across, total


def _blocks(rows: Array, similarity: Callable[[Array], Array]) -> Iterator[tuple[int, Array]]:
    for start in range(0, len(rows), BLOCK):
        block = similarity(cdist(rows[start : start + BLOCK], rows))
        block[np.arange(len(block)), start + np.arange(len(block))] = 0
        yield start, block


def _distances(sums: tuple[Array, Array, Array], first: int, second: int) -> Array:
    """Mean within the first + mean within the second - twice the mean across."""
    within, across, total = sums
    other = total - 2 * across + within
    return np.asarray(
        within / (first * (first - 1)) + other / (second * (second - 1)) - 2 * (across - within) / (first * second)
    )
