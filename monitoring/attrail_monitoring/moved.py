"""Which images moved: evidence of the candidate where neither reference nor retrains have it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ConfigError
from attrail_monitoring.conformal import conformal_p_values
from attrail_monitoring.grid import to_grid
from attrail_monitoring.multiplicity import benjamini_hochberg
from attrail_monitoring.settings import Settings
from attrail_monitoring.shares import shares
from attrail_monitoring.version_maps import require_comparable

Array = NDArray[np.float64]
FEWEST_RETRAINS = 2


@dataclass(frozen=True, eq=False)
class Envelope:
    """What the versions of one recipe do anyway: per image and cell, the range of their shares of the evidence.

    ``low`` and ``high`` (N,D) over reference and retrains, empty (inf, -inf) for images without a map in the reference
    or in any retrain; ``usual`` (M,) is how far each retrain's maps reach out of the envelope of all others.
    """

    low: Array
    high: Array
    usual: Array

    @classmethod
    def of(cls, reference: Attributions, floor: Sequence[Attributions], settings: Settings) -> "Envelope":
        """ConfigError with fewer than two retrains, IncomparableError when maps are not like with like.

        A retrain is held against reference and K - 1 retrains, the candidate against all K: the candidate's envelope
        is the wider one, so that its images come out a little too seldom, never too often.
        """
        if len(floor) < FEWEST_RETRAINS:
            raise ConfigError(f"which images moved is read off at least 2 retrains, got {len(floor)}")
        for other in floor:
            require_comparable(reference, other)
        base, *retrains = (_evidence(each, settings) for each in (reference, *floor))
        usual = []
        for place, retrain in enumerate(retrains):
            low, high = _range(base, [*retrains[:place], *retrains[place + 1 :]])
            outside = _outside(retrain, low, high)
            usual.append(outside[np.isfinite(outside)])
        return cls(*_range(base, retrains), np.concatenate(usual))

    def outside(self, candidate: Attributions, settings: Settings) -> Array:
        """Share (N,), 0..2, of a candidate's evidence out of the envelope, NaN where it or the envelope has none."""
        return _outside(_evidence(candidate, settings), self.low, self.high)


def moved_images(
    reference: Attributions,
    candidate: Attributions,
    floor: Sequence[Attributions],
    settings: Settings,
    rate: float,
) -> NDArray[np.int64]:
    """Rows of the images whose evidence moved further than a retrain moves any image's, the furthest first.

    Benjamini-Hochberg at the false discovery ``rate`` on conformal p-values (Bates et al. 2023) of the share of
    evidence that lies outside the envelope of reference and retrains. On real maps this finds more than a distance to
    the reference alone, because that holds the reference's own noise. No p-value is below 1 / (1 + K N), so fewer than
    1 / (K rate) moved images, four with five retrains at 5 %, cannot be told from chance. Images without a map in
    either version are not among the rows: they are counted and tested by themselves. Raises as ``Envelope.of`` does.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"expected a rate of false discoveries between 0 and 1, got {rate}")
    require_comparable(reference, candidate)
    envelope = Envelope.of(reference, floor, settings)
    outside = envelope.outside(candidate, settings)
    rows = np.flatnonzero(np.isfinite(outside))
    found = rows[benjamini_hochberg(conformal_p_values(envelope.usual, outside[rows])) <= rate]
    return found[np.argsort(-outside[found], kind="stable")].astype(np.int64)


def _evidence(maps: Attributions, settings: Settings) -> Array:
    """Absolute shares (N,D) on the grid of comparison, NaN for undefined maps."""
    found = np.abs(shares(to_grid(maps.values, settings.grid)))
    found[~maps.defined] = np.nan
    return found


def _range(reference: Array, retrains: Sequence[Array]) -> tuple[Array, Array]:
    """Smallest and largest share per cell; inf and -inf where the reference or all retrains have no map."""
    some = np.isfinite(reference) & np.any([np.isfinite(each) for each in retrains], axis=0)
    low, high = np.fmin.reduce([reference, *retrains]), np.fmax.reduce([reference, *retrains])
    return np.where(some, low, np.inf), np.where(some, high, -np.inf)


def _outside(evidence: Array, low: Array, high: Array) -> Array:
    with np.errstate(invalid="ignore"):
        found = (evidence - high).clip(0).sum(axis=1) + (low - evidence).clip(0).sum(axis=1)
    return np.asarray(np.where(np.isfinite(found), found, np.nan))
