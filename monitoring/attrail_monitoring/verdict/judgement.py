"""Judgement: what a policy makes of measurements, a finding for each."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from attrail_monitoring.floor.noise_floor import SMALLEST, NoiseFloor, models_of
from attrail_monitoring.floor.sanity import ExplainerSanity
from attrail_monitoring.inference.multiplicity import e_benjamini_hochberg, e_values_of, holm
from attrail_monitoring.inference.prediction_bound import FEWEST
from attrail_monitoring.maps.version_maps import MapKey
from attrail_monitoring.verdict.agreement import Agreement, agreements_of, groups_of
from attrail_monitoring.verdict.findings import Finding, Verdict
from attrail_monitoring.verdict.measurement import Measurement
from attrail_monitoring.verdict.moved_images import Displacement, MovedImages, moved_on_slices
from attrail_monitoring.verdict.open_question import (
    TOO_WIDE,
    Open,
    fewer_unexplained,
    more_images,
    more_models,
    on_the_limit,
)
from attrail_monitoring.verdict.policy import Policy

NOTICED = 0.2  # of honest versions that lie beyond the bound of noise that never flags: the others pass, these ask
FEW = 200  # hypotheses up to which Holm asks for less than e-BH, whose e-values come from p-values
Judged = tuple[Verdict, str, str]  # with the reason and the next step


def judge_measurements(
    policy: Policy,
    measurements: Sequence[Measurement],
    instruments: Mapping[MapKey, ExplainerSanity] | None = None,
    moved: bool = False,
    decided: bool = False,
) -> tuple[Finding, ...]:
    """A finding for each measurement; a headline stratum comes before the other strata of its slice.

    ``moved`` says that ``judge_images`` takes its share of alpha, ``decided`` that ``judge_decisions`` does.
    """
    found = _judged(policy, measurements, instruments or {}, moved, decided)
    if not any(each.localised and each.lost for each in measurements):
        return found
    lost_moved = [_with_lost_moved(each) if each.localised else each for each in measurements]
    at_worst = _judged(policy, lost_moved, instruments or {}, moved, decided)
    flags = [each.measurement.localised and each.verdict is Verdict.DRIFT for each in at_worst]
    return tuple(
        replace(finding, hides=flag and finding.verdict is not Verdict.DRIFT)
        for finding, flag in zip(found, flags, strict=True)
    )


def judge_together(policy: Policy, findings: Sequence[Finding], decided: bool = False) -> tuple[Agreement, ...]:
    """What the explainers that can measure see together; ``decided`` as above."""
    fit = [each.measurement for each in findings if _fit(each)]
    joined = [each for each in fit if _missing(policy, each, each) is None]
    both = (joined, [_with_lost_moved(each) for each in joined])
    found, at_worst = (_agreements(policy, each, policy.evidence(decided)) for each in both)
    pairs = zip(found, at_worst, strict=True)
    return tuple(replace(each, hides=worst.flagged and not each.flagged) for each, worst in pairs)


def judge_images(
    policy: Policy, findings: Sequence[Finding], displacements: Sequence[Displacement], decided: bool = False
) -> tuple[MovedImages, ...]:
    """The images of each slice that moved, by the explainers that can measure there; ``decided`` as above."""
    fit = {(each.measurement.slice, each.measurement.explainer) for each in findings if _fit(each)}
    groups: dict[str, list[Displacement]] = {}
    for each in displacements:
        if (each.slice, each.explainer) in fit:
            groups.setdefault(each.slice, []).append(each)
    return moved_on_slices(groups, policy.evidence(decided) * policy.moved_share, policy.alpha, policy.moved_margin)


def _judged(
    policy: Policy,
    measurements: Sequence[Measurement],
    instruments: Mapping[MapKey, ExplainerSanity],
    moved: bool,
    decided: bool,
) -> tuple[Finding, ...]:
    headlines = _headlines(measurements)
    unfit = [_unfit(policy, each, instruments.get((each.slice, each.explainer))) for each in headlines]
    missing = [_missing(policy, *each) for each in zip(measurements, headlines, strict=True)]
    counted = [each for each, why in zip(measurements, unfit, strict=True) if each.primary and why is None]
    whole = [each for each, why in zip(counted, _at(missing, measurements, counted), strict=True) if why is None]
    together = bool(groups_of(whole))
    level = policy.level(len(counted), together, moved, decided)
    apart = policy.apart(together, moved, decided) / policy.alpha
    adjusted = _adjusted(policy, measurements, unfit, missing, apart)
    return tuple(
        _finding(policy, measured, unfit[place], missing[place], level, adjusted.get(place))
        for place, measured in enumerate(measurements)
    )


def _adjusted(
    policy: Policy,
    measurements: Sequence[Measurement],
    unfit: Sequence[Open | None],
    missing: Sequence[Open | None],
    apart: float,
) -> dict[int, float]:
    """Adjusted p-values, times what makes them comparable with alpha, of primary and of class hypotheses.

    ``apart`` is the share of alpha that both have.

    A class that cannot be flagged is no hypothesis; primary ones are fixed before the run.
    """
    found: dict[int, float] = {}
    for primary, share in ((True, apart * (1 - policy.class_share)), (False, apart * policy.class_share)):
        places = [
            place
            for place, each in enumerate(measurements)
            if unfit[place] is None and (each.primary if primary else each.localised and missing[place] is None)
        ]
        chances = [_chance(measurements[place]) for place in places]
        known = [(place, chance) for place, chance in zip(places, chances, strict=True) if chance is not None]
        values = [chance for _, chance in known]
        many = not primary and len(values) > FEW
        family = e_benjamini_hochberg(e_values_of(values)) if many else holm(values)
        found |= {place: min(1.0, float(p) / share) for (place, _), p in zip(known, family, strict=True)}
    return found


def _finding(
    policy: Policy,
    measured: Measurement,
    unfit: Open | None,
    missing: Open | None,
    level: float,
    adjusted: float | None,
) -> Finding:
    margin = policy.margins.get(measured.statistic)
    bound = measured.floor.bound(_tail(policy, measured, level))
    limit = max((number for number in (margin, bound) if number is not None), default=None)
    p_value = None if math.isnan(measured.value) else measured.floor.p_value(measured.value)
    why = unfit or missing
    judged = (Verdict.INCONCLUSIVE, *why) if why else _verdict(policy, measured, limit, adjusted, level)
    verdict, reason, step = judged
    strict = verdict is Verdict.DRIFT and adjusted is not None and adjusted <= policy.strict * policy.alpha
    left_out = unfit is not None
    return Finding(measured, bound, margin, limit, p_value, adjusted, verdict, strict, reason, left_out, step=step)


def _tail(policy: Policy, measured: Measurement, level: float) -> float:
    """The chance that the floor's bound leaves beyond it."""
    if _notices(policy, measured):
        return NOTICED
    return policy.alpha * policy.class_share if measured.localised else level


def _notices(policy: Policy, measured: Measurement) -> bool:
    """Whether a floor of stand-ins is there that may not be left with DRIFT."""
    return measured.floor.measured and not policy.may_flag(measured.floor)


def _verdict(
    policy: Policy, measured: Measurement, limit: float | None, adjusted: float | None, level: float
) -> Judged:
    if limit is None:
        return Verdict.INCONCLUSIVE, _no_limit(measured.floor), ""
    if limit >= measured.ceiling:
        return Verdict.INCONCLUSIVE, TOO_WIDE, more_models(measured, measured.ceiling, level)
    margin = policy.margins.get(measured.statistic, 0.0)
    if adjusted is None:
        beyond_floor = measured.lower > limit
    else:
        beyond_floor = adjusted <= policy.alpha and measured.lower > measured.floor.reached
    if _notices(policy, measured) and not measured.worst < limit:
        return Verdict.INCONCLUSIVE, _noticed(measured, limit), ""
    if measured.lower > margin and beyond_floor:
        if measured.floor.tier == "0" and not policy.margins_decide:
            return Verdict.INCONCLUSIVE, _noticed(measured, limit), ""
        return Verdict.DRIFT, _beyond(measured, limit), ""
    return _within(measured, limit, level)


def _missing(policy: Policy, measured: Measurement, headline: Measurement) -> Open | None:
    """Why there is too little evidence for any verdict, None when there is enough."""
    images = measured.n + measured.undefined
    if measured.n < max(1, policy.fewest_images):
        reason = f"only {measured.n} images with maps in both versions; {policy.fewest_images} needed"
        return Open(reason, more_images(measured, max(1, policy.fewest_images)))
    if measured.undefined > policy.undefined_limit * images:
        reason = f"{measured.undefined} of {images} images have no map in one of the versions"
        return Open(reason, fewer_unexplained(measured))
    if measured.lost_p <= policy.alpha:
        return Open(
            f"the candidate loses the maps of more images than the reference (McNemar's exact p = "
            f"{measured.lost_p:.2g})",
            fewer_unexplained(measured),
        )
    if measured.floor.tier == "0" and headline.floor.tier != "0":
        models = len(measured.floor.distances)
        reason = f"only {models} of the floor's models have enough such images: no floor for {measured.stratum}"
        return Open(reason, "")
    return None


def _unfit(policy: Policy, measured: Measurement, instrument: ExplainerSanity | None) -> Open | None:
    """Why this explainer cannot measure this statistic on this slice, None when it can or was not inspected."""
    if instrument is None or measured.floor.mean is None:
        return None
    noise, forgot = (each.get(measured.statistic) for each in (instrument.repeat, instrument.random_head))
    matters, what = max((measured.floor.mean, "floor"), (policy.margins.get(measured.statistic, 0.0), "margin"))
    if noise is not None and noise > policy.repeat_limit * matters:
        return Open(
            f"the explainer's own draws change the distance by {noise:.2g}, more than {policy.repeat_limit:.0%} of "
            f"the {what} ({matters:.2g}): give it more evaluations",
            f"give {measured.explainer} more evaluations, or use another explainer",
        )
    if forgot is not None and forgot <= measured.floor.reached:
        return Open(
            f"on this slice the explainer does not notice a random head (distance {forgot:.2g}, retrains reach "
            f"{measured.floor.reached:.2g}): it is left out",
            f"use another explainer beside {measured.explainer}: attrail list explainers",
        )
    return None


def _agreements(policy: Policy, measurements: Sequence[Measurement], alpha: float) -> tuple[Agreement, ...]:
    groups = groups_of(measurements)
    margins = [policy.margins.get(group[0].statistic, 0.0) for group in groups]
    return agreements_of(groups, alpha * policy.together_share, margins)


def _fit(finding: Finding) -> bool:
    return finding.measurement.primary and not finding.unfit


def _at(
    values: Sequence[Open | None], measurements: Sequence[Measurement], chosen: Sequence[Measurement]
) -> list[Open | None]:
    """The values that belong to chosen measurements."""
    places = {id(each): place for place, each in enumerate(measurements)}
    return [values[places[id(each)]] for each in chosen]


def _headlines(measurements: Sequence[Measurement]) -> list[Measurement]:
    """For each measurement the one on the stratum that the verdict rests on."""
    first: dict[tuple[str, str, str], Measurement] = {}
    return [first.setdefault((each.slice, each.explainer, each.statistic), each) for each in measurements]


def _with_lost_moved(measured: Measurement) -> Measurement:
    """The measurement if every map that the candidate lost had moved as far as the statistic allows.

    Each explainer's own limit is held with those maps at their worst; classes and agreements are only ever flagged, and
    must not escape by losing some.
    """
    if not measured.lost:
        return measured
    images = measured.n + measured.lost
    kept = measured.n * measured.value if measured.n else 0.0
    end = (kept + measured.lost * measured.ceiling) / images
    left = measured.undefined - measured.lost
    at_worst = replace(measured, value=end, lower=end, upper=end, worst=end)
    return replace(at_worst, n=images, undefined=left, lost=0, lost_p=1.0)


def _no_limit(floor: NoiseFloor) -> str:
    if floor.others:
        return f"no margin is set; {floor.lacking}"
    reason = f"no margin is set and {len(floor.distances)} reference retrains are no floor"
    return f"{reason}: give {FEWEST} or more, or a margin"


def _chance(measured: Measurement) -> float | None:
    """The floor's p-value at the lower end of the interval: the images' uncertainty counts for the candidate."""
    return None if math.isnan(measured.lower) else measured.floor.p_value(measured.lower)


def _noticed(measured: Measurement, limit: float) -> str:
    """What moved beyond a limit that no floor of honest versions stands under."""
    floor = measured.floor
    if floor.tier == "0":
        return f"moved further than the policy's margin {limit:g}, its whole interval, as retrains do: {floor.lacking}"
    times = measured.value / max(floor.mean or 0.0, SMALLEST)
    known = (
        floor.factor
        and f"honest versions of the zoo lie between {floor.factor.lowest:.2g} and {floor.factor.highest:.2g}"
    )
    said = known or "how far honest versions of this kind of change move was not measured"
    noise = floor.source == "noise"
    stand_ins = "weight noise that moves the decisions as far" if noise else f"the floor's {models_of(floor)}"
    return f"moved {times:.2g} times as far as {stand_ins}; {said}"


def _beyond(measured: Measurement, limit: float) -> str:
    """Holm's method may flag within the limit shown, which is Bonferroni's, once other hypotheses are flagged."""
    if measured.floor.tier == "0":
        return f"moved further than the policy's margin {limit:g}, its whole interval; {measured.floor.lacking}"
    if measured.lower > limit:
        return "moved further than the limit, its whole interval"
    return "moved further than the floor, its whole interval, at the level that the other flags leave (Holm)"


def _within(measured: Measurement, limit: float, level: float) -> Judged:
    """Whether the whole interval lies within the limit."""
    if measured.worst < limit:
        if measured.floor.tier == "0":
            within = f"stayed within the policy's margin {limit:g}, its whole interval; {measured.floor.lacking}"
            return Verdict.PASS, within, ""
        return Verdict.PASS, "stayed within the limit, its whole interval", ""
    if measured.upper < limit:
        reason = "the images that one version alone has a map of could have moved beyond the limit"
        return Verdict.INCONCLUSIVE, reason, fewer_unexplained(measured)
    if measured.lower > limit:
        reason = "moved beyond the limit, but not clearly enough among this many hypotheses"
        return Verdict.INCONCLUSIVE, reason, more_models(measured, measured.lower, level)
    return Verdict.INCONCLUSIVE, *on_the_limit(measured, limit, level)
