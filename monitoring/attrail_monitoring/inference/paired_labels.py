"""Paired labels: whether the shares of clusters changed between two versions' labels of the same images, and which."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

from attrail_explainers.errors import ConfigError
from attrail_monitoring.inference.mcnemar import mcnemar
from attrail_monitoring.inference.multiplicity import holm

Labels = NDArray[np.int64]
FEW = 10  # images that changed label, per label: below this the chi-square is no good approximation


@dataclass(frozen=True)
class Homogeneity:
    """Test that every label is as frequent in both versions.

    ``statistic`` is Stuart and Maxwell's, ``freedom`` the rank of its covariance, ``p_value`` the chi-square's, or
    where ``permuted`` the permutation's; ``bhapkar`` is Bhapkar's statistic, always a little larger, None where it is
    infinite.
    """

    statistic: float
    freedom: int
    p_value: float
    permuted: bool
    bhapkar: float | None


@dataclass(frozen=True)
class Change:
    """One label's images before and after, those that ``came`` and ``left``.

    ``p_value`` is McNemar's exact one, two-sided, adjusted for all labels after Holm.
    """

    label: int
    before: int
    after: int
    came: int
    left: int
    p_value: float


def homogeneity(before: Labels, after: Labels, permutations: int = 9999, seed: int = 0) -> Homogeneity:
    """Stuart-Maxwell test of marginal homogeneity (Stuart 1955, Maxwell 1970) on labels (N,) of the same images.

    Where a label that is in play has fewer than ten images that changed, p comes from exchanging the two labels of
    random images (with the "1 +" of Phipson & Smyth 2010): exact for the hypothesis that both versions are
    exchangeable. The images are the unit: it says that *these two models* differ, not that they differ more than two
    trainings do.
    """
    table = _table(before, after)
    statistic, freedom = _stuart_maxwell(table[None])
    changed = (table + table.T).sum(axis=1) - 2 * np.diag(table)
    permuted = bool(((changed > 0) & (changed < FEW)).any())
    if permuted:
        at_least = _stuart_maxwell(_exchanged(table, permutations, seed))[0] >= statistic[0] * (1 - 1e-9)
        p_value = (1 + int(at_least.sum())) / (1 + permutations)
    else:
        p_value = float(chi2.sf(statistic[0], freedom[0])) if freedom[0] else 1.0
    found, count = float(statistic[0]), len(before)
    bhapkar = found / (1 - found / count) if found < count * (1 - 1e-9) else None
    return Homogeneity(found, int(freedom[0]), p_value, permuted, bhapkar)


def changes(before: Labels, after: Labels) -> tuple[Change, ...]:
    """Every label's change, in the order of labels: which of them grew or shrank (McNemar 1947, Holm 1979)."""
    labels = np.unique(np.concatenate([before, after]))
    tests = [mcnemar(before == label, after == label) for label in labels]
    adjusted = holm([test.p_value for test in tests])
    return tuple(
        Change(
            int(label),
            int((before == label).sum()),
            int((after == label).sum()),
            test.only_second,
            test.only_first,
            float(p_value),
        )
        for label, test, p_value in zip(labels, tests, adjusted, strict=True)
    )


def _table(before: Labels, after: Labels) -> Labels:
    """Images (C,C) by label before and after."""
    if before.shape != after.shape or before.ndim != 1 or not len(before):
        raise ConfigError(f"expected two labels of the same images, got {before.shape} and {after.shape}")
    labels, places = np.unique(np.concatenate([before, after]), return_inverse=True)
    rows, columns = places[: len(before)], places[len(before) :]
    found = np.zeros((len(labels), len(labels)), dtype=np.int64)
    np.add.at(found, (rows, columns), 1)
    return found


def _stuart_maxwell(tables: Labels) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Statistic and rank for each table (T,C,C); the pseudo-inverse serves labels that nothing joins."""
    differences = (tables.sum(axis=1) - tables.sum(axis=2)).astype(np.float64)
    both = (tables + tables.transpose(0, 2, 1)).astype(np.float64)
    covariance = np.einsum("tcd,ce->tce", both, np.eye(tables.shape[1])) - both
    ranks = np.linalg.matrix_rank(covariance, hermitian=True)
    inverse = np.linalg.pinv(covariance, rcond=1e-10, hermitian=True)
    return np.einsum("tc,tcd,td->t", differences, inverse, differences), ranks


def _exchanged(table: Labels, permutations: int, seed: int) -> Labels:
    """Tables after every image's two labels were exchanged with chance one half."""
    upper = np.triu_indices(len(table), 1)
    pairs = (table + table.T)[upper]
    drawn = np.random.default_rng(seed).binomial(pairs, 0.5, size=(permutations, len(pairs)))
    tables = np.zeros((permutations, *table.shape), dtype=np.int64)
    tables[:, upper[0], upper[1]] = drawn
    tables[:, upper[1], upper[0]] = pairs - drawn
    return tables
