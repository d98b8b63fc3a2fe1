"""Combination: one verdict from all findings, and what kind of evidence may decide at all."""

import math
from collections.abc import Sequence

from attrail_monitoring.floor.noise_floor import NoiseFloor, models_of, plural
from attrail_monitoring.maps.strata import named
from attrail_monitoring.verdict.agreement import Agreement
from attrail_monitoring.verdict.findings import DecisionFinding, Finding, Verdict
from attrail_monitoring.verdict.moved_images import MovedImages

Judgement = tuple[Verdict, str]
Names = Sequence[str]
MOST_PLACES = 4  # that a sentence names
REVIEW = "method-specific, asks for review"


def combine(
    findings: Sequence[Finding],
    agreements: Sequence[Agreement] = (),
    moved: Sequence[MovedImages] = (),
    names: Names = (),
    decisions: Sequence[DecisionFinding] = (),
) -> Judgement:
    """The verdict and its reason; ``names`` are those of the model's classes, where they are known.

    PASS means evidence and decisions: DRIFT of one is DRIFT, what is open in one is open.
    """
    found, reason = _of_evidence(findings, agreements, moved, names)
    moved_decisions = _said([each for each in decisions if each.verdict is Verdict.DRIFT], names)
    if moved_decisions:
        too = f"; its evidence moved too: {reason}" if found is Verdict.DRIFT else ""
        return Verdict.DRIFT, f"its decisions moved: {moved_decisions}{too}"
    if found is not Verdict.PASS or not decisions:
        return found, reason
    undecided = [each for each in decisions if each.verdict is Verdict.INCONCLUSIVE and not each.measurement.localised]
    open_ = [each for each in undecided if not each.unfit]
    if open_:
        return Verdict.INCONCLUSIVE, f"its decisions may have moved: {_said(open_, names)}: {open_[0].reason}"
    beside = f", but {_said(undecided, names)}: {undecided[0].reason}" if undecided else ""
    return Verdict.PASS, f"{reason}; its decisions stayed within theirs{beside}"


def _of_evidence(
    findings: Sequence[Finding], agreements: Sequence[Agreement], moved: Sequence[MovedImages], names: Names
) -> Judgement:
    """What the evidence says by itself.

    DRIFT when, on one slice, all explainers together flag a primary statistic or single images that moved, two
    explainers flag a primary statistic, one flags it at the strict level, the only explainer does, or two explainers
    flag the same class. PASS only when every primary statistic of every explainer that can measure passed on every
    slice, one that none can measure there stayed among the floor's models, no class was flagged, and nothing would be
    flagged if the maps that the candidate lost had moved. Otherwise INCONCLUSIVE. Against surrogates it is neither,
    unless the zoo has shown that their kind may.
    """
    primary = [finding for finding in findings if finding.measurement.primary]
    if not primary:
        return Verdict.INCONCLUSIVE, "no primary statistic was measured"
    fit = fit_for_verdict(primary)
    if not fit:
        return Verdict.INCONCLUSIVE, f"no explainer can measure here: {primary[0].reason}"
    verdict, reason = (
        _moved(fit)
        or _moved_together(agreements)
        or _moved_class(findings, fit, names)
        or _moved_images(moved)
        or _undecided(findings, fit, agreements, moved, names)
    )
    surrogates = [finding.measurement.floor for finding in fit if finding.measurement.floor.tier == "D"]
    if verdict is Verdict.INCONCLUSIVE or not surrogates:
        return verdict, reason
    return _against_surrogates(verdict, reason, surrogates)


def _against_surrogates(verdict: Verdict, reason: str, floors: Sequence[NoiseFloor]) -> Judgement:
    """What surrogates let be said: that which is found where every factor may decide, else what it would be."""
    bare = [floor for floor in floors if not floor.may_flag]
    if not bare:
        times = sorted(floor.factor.times for floor in floors if floor.factor)
        beside = f"honest versions of the zoo move {times[0]:.2g} to {times[-1]:.2g} times as far as such"
        return verdict, f"{reason}; the limits stand on {models_of(floors[0])}, {beside}"
    told = "would be flagged" if verdict is Verdict.DRIFT else "would pass"
    lack = "the zoo does not show that they may decide" if bare[0].measured else "they are no retrains"
    against = plural(bare[0].source)
    return Verdict.INCONCLUSIVE, f"against {against} it {told} ({reason}), but {lack}: never decisive"


def fit_for_verdict(findings: Sequence[Finding]) -> list[Finding]:
    """The primary findings by explainers that can measure."""
    return [finding for finding in findings if finding.measurement.primary and not finding.unfit]


def decisive(findings: Sequence[Finding]) -> list[Finding]:
    """The flagged findings that are DRIFT whatever others say: by two explainers, the only one, or at the strict level.

    Of primary statistics on one slice, or on one class of it.
    """
    fit, found = fit_for_verdict(findings), []
    for finding in findings:
        where = finding.measurement
        explainers = {each.measurement.explainer for each in fit if each.measurement.slice == where.slice}
        agreeing = {
            each.measurement.explainer
            for each in (findings if where.localised else fit)
            if each.verdict is Verdict.DRIFT
            and (each.measurement.slice, each.measurement.stratum) == (where.slice, where.stratum)
        }
        counts = where.localised or finding in fit
        if finding.verdict is Verdict.DRIFT and counts:
            alone = len(agreeing) < min(2, len(explainers))
            found += [] if alone and not (finding.strict and where.primary) else [finding]
    return found


def _moved(fit: Sequence[Finding]) -> Judgement | None:
    for name in dict.fromkeys(finding.measurement.slice for finding in fit):
        here = [finding for finding in fit if finding.measurement.slice == name]
        explainers = {finding.measurement.explainer for finding in here}
        flagged = {finding.measurement.explainer for finding in here if finding.verdict is Verdict.DRIFT}
        strict = {finding.measurement.explainer for finding in here if finding.strict}
        if len(flagged) >= min(2, len(explainers)):
            beyond = _beyond([finding for finding in here if finding.verdict is Verdict.DRIFT])
            return Verdict.DRIFT, f"on slice {name}, {_listed(flagged)} found evidence that moved beyond {beyond}"
        if strict:
            return Verdict.DRIFT, f"on slice {name}, {_listed(strict)} alone flagged a move, at the strict level"
    return None


def _beyond(flagged: Sequence[Finding]) -> str:
    """What flagged findings went beyond: a limit that a floor backs, or the policy's margins alone."""
    bare = [finding for finding in flagged if finding.measurement.floor.tier == "0"]
    if len(bare) < len(flagged):
        return "the limit"
    margins = sorted({f"{finding.margin:g}" for finding in bare if finding.margin is not None})
    told = f"margin {margins[0]}" if len(margins) == 1 else "margins"
    return f"the policy's {told}; {bare[0].measurement.floor.lacking}"


def _moved_together(agreements: Sequence[Agreement]) -> Judgement | None:
    """DRIFT when all explainers together flag a statistic."""
    for each in agreements:
        if each.flagged:
            times = each.value / (each.floor.mean or math.nan)
            what = f"{each.statistic.replace('_', ' ')} of {_listed(set(each.explainers))} together"
            chance = f"at {times:.2g} times the floor (adjusted p = {each.adjusted:.2g})"
            return Verdict.DRIFT, f"on slice {each.slice}, the {what} moved beyond it, {chance}"
    return None


def _moved_images(moved: Sequence[MovedImages]) -> Judgement | None:
    """DRIFT when the evidence of single images moved out of all that reference and retrains show."""
    for each in moved:
        if each.flagged:
            count = f"{len(each.samples)} of {each.images} images"
            how = (
                f"further than retrains move any, by {_listed(set(each.explainers))} (adjusted p = {each.adjusted:.2g})"
            )
            return Verdict.DRIFT, f"on slice {each.slice}, the evidence of {count} moved {how}"
    return None


def _moved_class(findings: Sequence[Finding], fit: Sequence[Finding], names: Names) -> Judgement | None:
    """DRIFT when two explainers, or the only one, flag one class."""
    for place, flagged in _flagged_classes(findings).items():
        name, stratum = place
        explainers = {finding.measurement.explainer for finding in fit if finding.measurement.slice == name}
        if len(flagged) >= min(2, len(explainers)):
            where = f"{named(stratum, names)} of slice {name}"
            return Verdict.DRIFT, f"on {where}, {_listed(flagged)} found evidence that moved"
    return None


def _undecided(
    findings: Sequence[Finding],
    fit: Sequence[Finding],
    agreements: Sequence[Agreement],
    moved: Sequence[MovedImages],
    names: Names,
) -> Judgement:
    """PASS or INCONCLUSIVE, when nothing is flagged that decides."""
    lone = [finding for finding in fit if finding.verdict is Verdict.DRIFT]
    if lone:
        first = lone[0].measurement
        flag = f"{first.explainer} alone flagged {first.statistic} on slice {first.slice}"
        return Verdict.INCONCLUSIVE, f"{flag}: {REVIEW}"
    for (name, stratum), flagged in _flagged_classes(findings).items():
        return (
            Verdict.INCONCLUSIVE,
            f"{_listed(flagged)} alone flagged {named(stratum, names)} on slice {name}: {REVIEW}",
        )
    open_ = next((finding for finding in fit if finding.verdict is Verdict.INCONCLUSIVE), None)
    if open_ is not None:
        where = open_.measurement
        return Verdict.INCONCLUSIVE, f"{where.statistic} of {where.explainer} on slice {where.slice}: {open_.reason}"
    unmeasured = _unmeasured(findings, fit)
    missing = next((each for each in unmeasured if not _stands_back(each, fit)), None)
    if missing is not None:
        return Verdict.INCONCLUSIVE, f"{_nobody(missing)}: {missing.reason}"
    hidden = _hidden(findings, agreements, moved, names)
    if hidden is not None:
        return Verdict.INCONCLUSIVE, f"{hidden}: the maps that the candidate lost could hide a move"
    left_out = "" if len(fit) == sum(each.measurement.primary for each in findings) else " that can measure it"
    beside = [f"; {name}, but it stayed among the floor's models" for name in dict.fromkeys(map(_nobody, unmeasured))]
    within = f"every primary statistic of every explainer{left_out} stayed within {_limit(fit)}"
    return Verdict.PASS, within + "".join(beside)


def _limit(fit: Sequence[Finding]) -> str:
    """What nothing moved beyond: limits that floors back, or the policy's margins alone."""
    bare = [finding for finding in fit if finding.measurement.floor.tier == "0"]
    if not bare:
        return "its limit on every slice"
    which = "the policy's margin" if len(bare) == len(fit) else "its limit, or where there is no floor the margin,"
    return f"{which} on every slice; {bare[0].measurement.floor.lacking}"


def _hidden(
    findings: Sequence[Finding], agreements: Sequence[Agreement], moved: Sequence[MovedImages], names: Names
) -> str | None:
    """Where something would be flagged if the maps that the candidate lost had moved."""
    for each in agreements:
        if each.hides:
            return f"{each.statistic} of {_listed(set(each.explainers))} together on slice {each.slice}"
    for group in moved:
        if group.hides:
            return f"single images of slice {group.slice}"
    for finding in findings:
        where = finding.measurement
        if finding.hides:
            return f"{where.statistic} of {where.explainer} on {named(where.stratum, names)} of slice {where.slice}"
    return None


def _unmeasured(findings: Sequence[Finding], fit: Sequence[Finding]) -> list[Finding]:
    """Primary statistics that no explainer can measure on some slice, by every explainer."""
    known = {(finding.measurement.slice, finding.measurement.statistic) for finding in fit}
    primary = (finding for finding in findings if finding.measurement.primary)
    return [each for each in primary if (each.measurement.slice, each.measurement.statistic) not in known]


def _stands_back(unmeasured: Finding, fit: Sequence[Finding]) -> bool:
    """Whether PASS may rest on the slice's other statistics: there are some, and this one moved no further than models.

    An explainer that notices a random head no more than retrains does not prove that nothing moved; nor has it seen any
    move, where the candidate is no further away than they are. On the zoo's small transformers hardly any explainer
    notices more by every statistic, and every second honest candidate was left open for it.
    """
    where = unmeasured.measurement
    others = any(finding.measurement.slice == where.slice for finding in fit)
    return others and where.value <= where.floor.reached


def _nobody(unmeasured: Finding) -> str:
    where = unmeasured.measurement
    return f"no explainer can measure {where.statistic} on slice {where.slice}"


def _flagged_classes(findings: Sequence[Finding]) -> dict[tuple[str, str], set[str]]:
    """Slice and class with the explainers that flag it."""
    found: dict[tuple[str, str], set[str]] = {}
    for finding in findings:
        measured = finding.measurement
        if measured.localised and finding.verdict is Verdict.DRIFT:
            found.setdefault((measured.slice, measured.stratum), set()).add(measured.explainer)
    return found


def _said(decisions: Sequence[DecisionFinding], names: Names) -> str:
    """Findings about decisions in words, place by place."""
    places: dict[str, list[str]] = {}
    for each in decisions:
        measured = each.measurement
        where = f"{named(measured.stratum, names)} of slice" if measured.localised else "slice"
        places.setdefault(f"on {where} {measured.slice} ", []).append(measured.words)
    said = [where + ", ".join(words) for where, words in places.items()]
    return "; ".join([*said[:MOST_PLACES], *([f"and {len(said) - MOST_PLACES} more"] if said[MOST_PLACES:] else [])])


def _listed(names: set[str]) -> str:
    ordered = sorted(names)
    return ordered[0] if len(ordered) == 1 else f"{', '.join(ordered[:-1])} and {ordered[-1]}"
