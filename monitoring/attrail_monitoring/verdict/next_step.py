"""The next step: what to do about a verdict that is open, or that has no noise floor under it."""

import math
from collections.abc import Sequence
from functools import partial

from attrail_monitoring.inference.prediction_bound import FEWEST
from attrail_monitoring.verdict.combination import fit_for_verdict
from attrail_monitoring.verdict.findings import DecisionFinding, Finding, Verdict
from attrail_monitoring.verdict.open_question import TOO_WIDE

LOOK = "look at the overlays in the report: a person decides what one explainer alone sees"
LOST = "see in the report which images the candidate has no map of, and why"
NO_FLOORS = {
    "architecture": "no models stand for another architecture: look at the overlays in the report, a person decides",
    "same-function": "",
}


def next_step(
    verdict: Verdict,
    findings: Sequence[Finding],
    change: str,
    hidden: bool,
    level: float,
    decisions: Sequence[DecisionFinding] = (),
) -> str:
    """What to do next, in one sentence; "" where the verdict needs nothing more.

    ``change`` is the declared one: another architecture can have no floor. ``hidden`` says that the maps that the
    candidate lost could hide a move, ``level`` is the chance of each floor's bound.
    """
    primary = [finding for finding in findings if finding.measurement.primary]
    fit = fit_for_verdict(primary)
    steps = [_floor(fit or primary, change, verdict)]
    if verdict is Verdict.INCONCLUSIVE:
        steps.append(_open(findings, fit, hidden, level))
        steps += [each.step for each in decisions if not each.measurement.localised]
    return "; ".join(dict.fromkeys(step for step in steps if step))


def _floor(findings: Sequence[Finding], change: str, verdict: Verdict) -> str:
    """Advice about a floor that is missing, or made of what does not decide."""
    # without an image to measure no model has a distance, whatever floor was given
    floors = [finding.measurement.floor for finding in findings if finding.measurement.n]
    tiers = {floor.tier for floor in floors}
    if any(floor.tier == "D" and not floor.may_flag for floor in floors):
        return f"give the floor {FEWEST} retrains or more in place of the surrogates, which never decide"
    if "0" not in tiers and (not tiers & {"M", "D"} or verdict is not Verdict.INCONCLUSIVE):
        return ""
    lack = next((each.measurement.floor.others_lack for each in findings if each.measurement.floor.others), "")
    if lack:
        return f"give the floor {FEWEST} models or more that can be compared here, in place of those that have {lack}"
    wanted = f"versions that differ from the reference by this kind of change alone, {FEWEST} or more"
    made = ", which attrail retrain makes" if change == "retrain" else ""
    return NO_FLOORS.get(change, f"give a noise floor before you act on it: floor = [...], {wanted}{made}")


def _open(findings: Sequence[Finding], fit: Sequence[Finding], hidden: bool, level: float) -> str:
    """What a lone flag asks for, what would decide the first open finding, or what lost maps ask for."""
    if any(each.verdict is Verdict.DRIFT and (each in fit or each.measurement.localised) for each in findings):
        return LOOK
    left_out = [each for each in findings if each.measurement.primary and each.unfit]
    open_ = [each for each in fit if each.verdict is Verdict.INCONCLUSIVE]
    if open_ and open_[0].reason == TOO_WIDE:
        wide = [each for each in open_ if each.reason == TOO_WIDE]
        return max(wide, key=partial(_models_needed, level)).step  # enough models for all of them
    return next((each.step for each in (*open_, *left_out)), LOST if hidden else "")


def _models_needed(level: float, finding: Finding) -> float:
    """How many more models the floor of a finding needs before a move could exceed its bound."""
    more = finding.measurement.floor.more_needed(finding.measurement.ceiling, level)
    return math.inf if more is None else more
