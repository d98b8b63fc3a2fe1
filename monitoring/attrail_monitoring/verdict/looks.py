"""Looks: after how many images an audit may stop, and how much of alpha each look may spend.

Group-sequential as in clinical trials: images come in a seeded random order, and an audit that knows stops. Alpha is
spent by the share of the images that were seen, alpha ln(1 + (e - 1) share), like Pocock's bounds (Lan & DeMets,
"Discrete sequential boundaries for clinical trials", Biometrika 1983): about as much at each look, since most of what
is uncertain is how few models the floor has, and more images do not change that. Each look spends what was not spent
before it, so that all of them together spend alpha at most, whatever they have in common.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from attrail_monitoring.verdict.findings import DriftReport, Verdict
from attrail_monitoring.verdict.policy import Policy


@dataclass(frozen=True)
class Look:
    """One look, ``number`` of ``planned``, at the first ``images`` of each slice, with the chance ``alpha``."""

    number: int
    planned: int
    images: int
    alpha: float

    @property
    def last(self) -> bool:
        """Whether there is none after it."""
        return self.number == self.planned

    def row(self) -> dict[str, Any]:
        """Plain values for the record."""
        return asdict(self)


def planned_looks(policy: Policy, images: int) -> tuple[Look, ...]:
    """A policy's looks at slices of which the largest has so many images; the last, or only one, sees all of them."""
    counts = [*(count for count in policy.looks if count < images), images]
    increments = np.diff([0.0, *(spent(count / images, policy.alpha) for count in counts)])
    pairs = enumerate(zip(counts, increments, strict=True), start=1)
    return tuple(Look(number, len(counts), count, float(share)) for number, (count, share) in pairs)


def spent(share: float, alpha: float) -> float:
    """The part of alpha that is spent when a share (0..1] of the images has been seen, all of it at 1."""
    return alpha * math.log(1 + (math.e - 1) * share)


def judged_at(look: Look, policy: Policy, judged: Callable[[Policy], DriftReport]) -> DriftReport:
    """The verdict of a look, where ``judged`` is that of any policy on what was seen; INCONCLUSIVE asks for more.

    DRIFT is told with the look's part of alpha. PASS is told with all of it: less alpha makes wider limits, within
    which a candidate would pass the earlier, the less was seen of it. And it takes two looks: on the zoo the first
    alone let more harmful candidates pass than the last, and flagged no honest one.
    """
    whole = judged(policy)
    if look.planned == 1:
        return whole
    part = judged(replace(policy, alpha=look.alpha))
    if part.verdict is Verdict.DRIFT:
        return replace(part, policy_digest=policy.digest)
    if whole.verdict is Verdict.PASS and look.number == 1:
        return replace(whole, verdict=Verdict.INCONCLUSIVE, reason=f"{whole.reason}; PASS takes a second look")
    if whole.verdict is not Verdict.DRIFT:
        return whole
    reason = (
        f"{whole.reason}; that holds at alpha = {policy.alpha:g}, of which look {look.number} of {look.planned} may "
        f"spend {look.alpha:.2g}"
    )
    return replace(whole, verdict=Verdict.INCONCLUSIVE, reason=reason)
