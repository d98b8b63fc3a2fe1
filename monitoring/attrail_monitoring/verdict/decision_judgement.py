"""Judge decisions: what a policy makes of how far the candidate's decisions are from the reference's.

A value on these images is counted, not estimated, and the floor's values were counted on the same images: the choice of
images is in both. So it is the value that must lie within the limit for PASS, not its whole interval, which on a few
hundred images is wider than what anybody would allow (five points of accuracy on 256). The limit is the policy's margin
or, where that is larger, what one more model of the floor stays within but for alpha, divided by the number of
hypotheses: decisions keep an honest candidate from PASS in at most alpha of all audits. DRIFT asks for more, as
evidence does: the whole interval beyond margin and floor, at decisions' share of alpha, all hypotheses accounted for.

Without a floor nothing says how many decisions an honest change turns: small nets trained anew turn a fifth of theirs
at the same accuracy. So a loss of accuracy alone is judged by its margin, and may be DRIFT at the strict level: on
the same labelled images it is a fact. Of whole slices only, as trainings trade classes off against each other. Churn
and calibration error beyond their margins are said and left out; only where no labels are known, so that there is
nothing else, churn is open. And where a whole interval lies beyond the margin, a loss is open at least, however much
the floor's models lose.
"""

from collections.abc import Sequence

from attrail_monitoring.decisions.decision_statistic import make_decision_statistic
from attrail_monitoring.inference.multiplicity import e_benjamini_hochberg, e_values_of, holm
from attrail_monitoring.verdict.decision_measurement import DecisionMeasurement
from attrail_monitoring.verdict.findings import DecisionFinding, Verdict
from attrail_monitoring.verdict.judgement import FEW, Judged
from attrail_monitoring.verdict.policy import Policy

LOOK = "see in the report which predictions changed: a person decides whether that is acceptable"


def judge_decisions(policy: Policy, measurements: Sequence[DecisionMeasurement]) -> tuple[DecisionFinding, ...]:
    """A finding for each measurement of decisions."""
    level = policy.alpha / max(1, sum(not each.localised for each in measurements))
    adjusted = _adjusted(policy, measurements)
    labelled = {each.slice for each in measurements if _is_fact(each)}
    return tuple(
        _finding(policy, each, level, adjusted.get(place), each.slice in labelled)
        for place, each in enumerate(measurements)
    )


def _adjusted(policy: Policy, measurements: Sequence[DecisionMeasurement]) -> dict[int, float]:
    """Adjusted p-values by place, times what makes them comparable with alpha, of slices and of classes."""
    found: dict[int, float] = {}
    for localised, part in ((False, 1 - policy.class_share), (True, policy.class_share)):
        chances = {
            place: _chance(policy, each, each.lower)
            for place, each in enumerate(measurements)
            if each.localised == localised and each.n >= policy.fewest_images
        }
        known = {place: chance for place, chance in chances.items() if chance is not None}
        values = list(known.values())
        family = e_benjamini_hochberg(e_values_of(values)) if localised and len(values) > FEW else holm(values)
        share = policy.decision_share * part
        found |= {place: min(1.0, float(p) / share) for place, p in zip(known, family, strict=True)}
    return found


def _chance(policy: Policy, measured: DecisionMeasurement, value: float) -> float | None:
    """The chance of a value as large, None where nothing tells it."""
    if measured.floor.tier != "0":
        return measured.floor.p_value(value)
    margin = make_decision_statistic(measured.statistic).margin
    return None if measured.localised else measured.chance(policy.decision_margin(margin))


def _finding(
    policy: Policy, measured: DecisionMeasurement, level: float, adjusted: float | None, labelled: bool
) -> DecisionFinding:
    margin = policy.decision_margin(make_decision_statistic(measured.statistic).margin)
    part = policy.decision_share * policy.class_share
    bound = measured.floor.bound(policy.alpha * part if measured.localised else level)
    limit = margin if bound is None else max(margin, bound)
    p_value = _chance(policy, measured, measured.value)
    verdict, reason, step = _verdict(policy, measured, margin, limit, adjusted)
    beside = labelled and bound is None and not _is_fact(measured) and measured.n >= policy.fewest_images
    unfit = beside and verdict is Verdict.INCONCLUSIVE
    judged = (verdict, reason, "" if unfit else step, unfit)
    return DecisionFinding(measured, bound, margin, limit, p_value, adjusted, *judged)


def _verdict(
    policy: Policy, measured: DecisionMeasurement, margin: float, limit: float, adjusted: float | None
) -> Judged:
    bare, floor = measured.floor.tier == "0", measured.floor
    if measured.n < policy.fewest_images:
        missing = policy.fewest_images - measured.n
        step = f"add {missing} image{'s' if missing > 1 else ''} to slice {measured.slice}"
        return Verdict.INCONCLUSIVE, f"only {measured.n} images; {policy.fewest_images} needed", step
    furthest = margin if bare else max(margin, *floor.values)
    certain = adjusted is not None and adjusted <= policy.alpha * (policy.strict if bare else 1)
    if certain and measured.lower > furthest:
        beyond = f"the policy's margin {margin:g}" if bare else "margin and floor"
        return Verdict.DRIFT, f"moved further than {beyond}, its whole interval", ""
    if measured.value > 0 and measured.value >= limit:
        if bare:
            return Verdict.INCONCLUSIVE, f"beyond the policy's margin {margin:g}; {floor.lacking}", LOOK
        return Verdict.INCONCLUSIVE, "beyond the limit, but not clearly enough among this many hypotheses", LOOK
    if measured.lower > margin and _is_fact(measured):
        reason = f"beyond the policy's margin {margin:g}, its whole interval, though the floor's models lose as much"
        return Verdict.INCONCLUSIVE, reason, LOOK
    return Verdict.PASS, f"within the policy's margin {margin:g}" if limit == margin else "within the limit", ""


def _is_fact(measured: DecisionMeasurement) -> bool:
    """Whether a margin alone may decide the statistic."""
    return measured.chance(0.0) is not None
