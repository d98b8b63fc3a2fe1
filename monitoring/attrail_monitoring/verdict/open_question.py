"""Open questions: why a finding is INCONCLUSIVE, and the step that would decide it."""

import math
from typing import NamedTuple

from attrail_monitoring.maps.strata import BOTH_RIGHT
from attrail_monitoring.verdict.measurement import Measurement

TOO_WIDE = "the limit is so wide that no move could exceed it"
MANY = 10  # times the images at hand: asking for more is no advice


class Open(NamedTuple):
    """Why nothing can be concluded, and the ``step`` that would change it, "" where none is known."""

    reason: str
    step: str


def on_the_limit(measured: Measurement, limit: float, level: float) -> Open:
    """What would bring an interval off the limit that it contains, a floor's bound at ``level`` or a margin.

    Its width shrinks with the root of the number of images. Where the distance lies on the limit, images do not help.
    """
    gap = abs(measured.value - limit)
    reach = measured.upper - measured.value if measured.value < limit else measured.value - measured.lower
    images = measured.n * (reach / gap) ** 2 if gap > 0.05 * reach else math.inf
    if images <= MANY * measured.n:
        reason = f"the interval contains the limit: about {math.ceil(images)} images would decide"
        return Open(reason, more_images(measured, math.ceil(images)))
    reason = "the interval contains the limit: the distance lies on it, more images alone will not decide"
    return Open(reason, more_models(measured, measured.value, level))


def more_images(measured: Measurement, needed: int) -> str:
    """Advice to add images until ``needed`` carry the verdict."""
    kind = " that both versions decide rightly" if measured.stratum == BOTH_RIGHT else ""
    missing = max(1, needed - measured.n)
    return f"add about {missing} image{'s' if missing > 1 else ''}{kind} to slice {measured.slice}"


def more_models(measured: Measurement, target: float, level: float) -> str:
    """Advice to narrow the floor's bound at ``level`` below a distance; "" where models do not narrow it."""
    floor = measured.floor
    if floor.tier == "0" or floor.measured:
        return ""
    more = floor.more_needed(target, level)
    add = f"add retrains to the floor, which has {len(floor.distances)} models"
    if more is None:
        return f"{add}: the fewer there are, the wider is its bound"
    bound = f"the bound of {measured.explainer}'s {measured.statistic}"
    return f"{add}: about {more} more, spread like these, bring {bound} below {target:.3g}"


def fewer_unexplained(measured: Measurement) -> str:
    """Advice about images that an explainer has no map of."""
    return f"see in the report which images {measured.explainer} has no map of and why, or use another explainer"
