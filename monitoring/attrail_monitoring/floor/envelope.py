"""The envelope: per image and cell, the range of evidence that reference and retrains show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.digest import digest_of_arrays
from attrail_explainers.errors import ConfigError, RecordError
from attrail_monitoring.maps.grid import to_grid
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.shares import shares
from attrail_monitoring.maps.version_maps import require_comparable

Array = NDArray[np.float32]
FEWEST_RETRAINS = 2
BLOCK = 512  # images at a time


@dataclass(frozen=True, eq=False)
class Envelope:
    """What the versions of one recipe do anyway, of one explainer on one slice.

    ``low`` and ``high`` (N,D) float32 are the smallest and largest share of an image's evidence that reference and
    retrains put on each cell, empty (inf, -inf) for images without a map in the reference or in all retrains.
    ``usual`` (K,N) float32 is the share 0..1 of each retrain's evidence that lies out of the envelope of all others,
    NaN without a map. A retrain is held against reference and K - 1 retrains, a candidate against all K: its envelope
    is the wider one, so that its images come out a little too seldom, never too often.
    """

    low: Array
    high: Array
    usual: Array

    @classmethod
    def of(cls, reference: Attributions, floor: Sequence[Attributions], settings: Settings) -> "Envelope":
        """The envelope of a reference's maps and its retrains', one explainer's on one slice.

        Raises ConfigError with fewer than two retrains, IncomparableError when maps are not like with like.
        """
        if len(floor) < FEWEST_RETRAINS:
            raise ConfigError(f"which images moved is read off at least 2 retrains, got {len(floor)}")
        for other in floor:
            require_comparable(reference, other)
        evidence = [_evidence(each, settings) for each in (reference, *floor)]
        starts = range(0, len(reference.sample_ids), BLOCK)
        blocks = [_of_block(np.stack([each[start : start + BLOCK] for each in evidence])) for start in starts]
        low, high = (np.concatenate([block[place] for block in blocks]) for place in (0, 1))
        return cls(low, high, np.concatenate([block[2] for block in blocks], axis=1))

    def outside(self, candidate: Attributions, settings: Settings) -> Array:
        """Share (N,), 0..1, of a candidate's evidence out of the envelope, NaN where it or the envelope has none."""
        return _outside(_evidence(candidate, settings), self.low, self.high)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Envelope) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    @property
    def arrays(self) -> dict[str, Array]:
        """The arrays by name, as they are kept."""
        return {"low": self.low, "high": self.high, "usual": self.usual}

    @property
    def digest(self) -> str:
        """The digest of the arrays."""
        return digest_of_arrays(sorted(self.arrays.items()))

    @classmethod
    def read(cls, arrays: Mapping[str, NDArray[Any]], digest: str) -> "Envelope":
        """The envelope of kept arrays; RecordError when they are not the ones with this digest."""
        if set(arrays) != {"low", "high", "usual"}:
            raise RecordError(
                f"an envelope has the arrays low, high and usual, got {', '.join(sorted(arrays)) or 'none'}"
            )
        found = cls(arrays["low"], arrays["high"], arrays["usual"])
        if found.digest != digest:
            raise RecordError(f"an envelope with the digest {digest} was kept, the file holds {found.digest}")
        return found


def _evidence(maps: Attributions, settings: Settings) -> Array:
    """Absolute shares (N,D) on the grid of comparison, NaN for undefined maps."""
    found = np.abs(shares(to_grid(maps.values, settings.grid))).astype(np.float32)
    found[~maps.defined] = np.nan
    return found


def _of_block(evidence: Array) -> tuple[Array, Array, Array]:
    """Low, high and usual of evidence (1+K,n,D), the reference's first.

    Without one of its own models an extreme is the next one, where it was that model's.
    """
    missing = np.isnan(evidence)
    lows, highs = np.where(missing, np.inf, evidence), np.where(missing, -np.inf, evidence)
    lowest, next_low = np.partition(lows, 1, axis=0)[:2]
    next_high, highest = np.partition(highs, -2, axis=0)[-2:]
    known = ~missing[:, :, 0]
    usual = []
    for place in range(1, len(evidence)):
        own = evidence[place]
        low, high = np.where(own == lowest, next_low, lowest), np.where(own == highest, next_high, highest)
        others = known[0] & (known[1:].sum(axis=0) > known[place])
        usual.append(_outside(own, *_where(others, low, high)))
    return *_where(known[0] & known[1:].any(axis=0), lowest, highest), np.stack(usual)


def _where(some: NDArray[np.bool_], low: Array, high: Array) -> tuple[Array, Array]:
    """The range of the images that have one, an empty range for all others."""
    empty = np.float32(np.inf)
    return np.where(some[:, None], low, empty), np.where(some[:, None], high, -empty)


def _outside(evidence: Array, low: Array, high: Array) -> Array:
    with np.errstate(invalid="ignore"):
        found = (evidence - high).clip(0).sum(axis=1) + (low - evidence).clip(0).sum(axis=1)
    return np.asarray(np.where(np.isfinite(found), found / 2, np.nan), dtype=np.float32)
