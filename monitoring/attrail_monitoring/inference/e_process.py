"""E-process: audits that go on for years, with a bound on the chance that any of them raises a false alarm."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from attrail_explainers.errors import ConfigError, RecordError

FORMAT = "attrail.e-process/1"
BETS = 32
LARGEST_LOG = 700.0  # exp of more is infinite, which JSON has not


@dataclass(frozen=True)
class Restart:
    """An end that was set on purpose: why, after how many observations, and the log e-values then and at the peak."""

    reason: str
    observations: int
    log_value: float
    log_peak: float


@dataclass(frozen=True)
class EProcess:
    """Evidence, over all audits so far, that the mean distance lies above ``limit``: an e-process by betting.

    Thirty-two gamblers stake the shares 1/64, 3/64, ... of their wealth, evenly spaced in 0..1, on every distance d
    being larger than the limit: wealth is multiplied by 1 - share + share * d / limit. Under the hypothesis that every
    distance has mean at most ``limit``, whatever came before, no wealth is expected to grow, so neither is their mean,
    the e-value: the chance that it *ever* reaches 1 / alpha is at most alpha (Ville 1939; Waudby-Smith & Ramdas 2024,
    "Estimating means of bounded random variables by betting"). The mean over shares is Cover's universal portfolio
    (1991), close to the best share in hindsight. It needs distances of 0 or more, no upper bound and no distribution,
    and forgets the order within an audit.

    Feed single images where they are drawn independently; where whole audits rise and fall together (light, season),
    feed each audit's mean as one observation.
    """

    limit: float
    log_wealths: tuple[float, ...] = (0.0,) * BETS
    observations: int = 0
    log_peak: float = 0.0
    restarts: tuple[Restart, ...] = ()

    def __post_init__(self) -> None:
        if not (self.limit > 0 and math.isfinite(self.limit)):
            raise ConfigError(f"an e-process needs a limit above 0 to bet against, got {self.limit}")

    @property
    def log_value(self) -> float:
        """Natural logarithm of the e-value."""
        return float(np.logaddexp.reduce(self.log_wealths)) - math.log(BETS)

    @property
    def value(self) -> float:
        """The e-value now: 1 says nothing, 20 is evidence at the 5 % level."""
        return math.exp(min(self.log_value, LARGEST_LOG))

    @property
    def peak(self) -> float:
        """The largest e-value after any audit."""
        return math.exp(min(self.log_peak, LARGEST_LOG))

    def alarm(self, alpha: float) -> bool:
        """Whether the e-value has reached 1 / alpha after any audit since the last restart; it stays raised."""
        if not 0 < alpha < 1:
            raise ConfigError(f"expected alpha between 0 and 1, got {alpha}")
        return self.log_peak >= -math.log(alpha)

    def updated(self, distances: ArrayLike) -> "EProcess":
        """The process after one more audit's ``distances`` (N,), each 0 or more; ConfigError for any other.

        Which distance stands for an image without a map is the caller's to say: leaving it out would hide it.
        """
        found = np.asarray(distances, dtype=np.float64).ravel()
        if not (np.isfinite(found) & (found >= 0)).all():
            raise ConfigError("an e-process takes finite distances of 0 or more: replace those of undefined maps")
        gains = np.log1p(_shares() * (found[:, None] / self.limit - 1)).sum(axis=0)
        after = replace(
            self,
            log_wealths=tuple((np.array(self.log_wealths) + gains).tolist()),
            observations=self.observations + len(found),
        )
        return replace(after, log_peak=max(self.log_peak, after.log_value))

    def restarted(self, reason: str, limit: float | None = None) -> "EProcess":
        """A new beginning at 1, against a new limit where one is given; what ended is kept in ``restarts``.

        Every restart is one more chance of a false alarm: alpha holds between restarts.
        """
        ended = Restart(reason, self.observations, self.log_value, self.log_peak)
        return EProcess(self.limit if limit is None else limit, restarts=(*self.restarts, ended))

    def document(self) -> dict[str, Any]:
        """The state as JSON-able values; ``from_document`` gives the same state back, to the last bit."""
        facts = asdict(self)
        restarts = [dict(each) for each in facts.pop("restarts")]
        return {"format": FORMAT, **facts, "log_wealths": list(self.log_wealths), "restarts": restarts}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "EProcess":
        """The state that ``document`` gave; RecordError when it is none."""
        facts = dict(document)
        if facts.pop("format", None) != FORMAT:
            raise RecordError(f"expected an e-process of format {FORMAT}, got {document.get('format')!r}")
        try:
            wealths = tuple(float(each) for each in facts.pop("log_wealths"))
            restarts = tuple(Restart(**each) for each in facts.pop("restarts"))
            found = cls(log_wealths=wealths, restarts=restarts, **facts)
        except (KeyError, TypeError, ValueError, ConfigError) as error:
            raise RecordError(f"the stored e-process is damaged: {error}") from error
        if len(wealths) != BETS or not np.isfinite([*wealths, found.log_peak, found.observations]).all():
            raise RecordError(f"the stored e-process is damaged: expected {BETS} finite wealths, got {len(wealths)}")
        return found


def _shares() -> NDArray[np.float64]:
    """Shares of the wealth that are staked (BETS,), between 0 and 1: no gambler can be ruined."""
    return np.asarray((np.arange(BETS) + 0.5) / BETS)
