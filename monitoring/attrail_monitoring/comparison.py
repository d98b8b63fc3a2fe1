"""Compare: candidate against reference, with the noise floor, under a policy."""

from collections.abc import Sequence

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import IncomparableError
from attrail_monitoring.measurement import Measurement, measure
from attrail_monitoring.policy import Policy, combine
from attrail_monitoring.verdict import DriftReport

Maps = Attributions | Sequence[Attributions]


def compare(reference: Maps, candidate: Maps, floor: Sequence[Maps] = (), policy: Policy | None = None) -> DriftReport:
    """Judge a candidate's maps against the reference's.

    ``reference``, ``candidate`` and each reference retrain in ``floor`` are the maps of one model version: one
    Attributions, or several (one per slice and explainer). IncomparableError when they are not like with like.
    """
    policy = policy or Policy()
    return judge(measure_all(reference, candidate, floor, policy), policy)


def judge(measurements: Sequence[Measurement], policy: Policy) -> DriftReport:
    """The verdict of a policy on measurements."""
    findings = policy.judge(measurements)
    verdict, reason = combine(findings)
    hypotheses = sum(measurement.primary for measurement in measurements)
    return DriftReport(verdict, reason, findings, policy.digest, policy.level(hypotheses), hypotheses)


def measure_all(reference: Maps, candidate: Maps, floor: Sequence[Maps], policy: Policy) -> list[Measurement]:
    """Measurements of every slice and explainer of the reference, without a verdict."""
    candidates, retrains = _by_subject(candidate), [_by_subject(each) for each in floor]
    measurements = []
    for key, maps in _by_subject(reference).items():
        others = [_found(each, key) for each in (candidates, *retrains)]
        measurements += measure(maps, others[0], others[1:], policy.settings)
    return measurements


def _by_subject(maps: Maps) -> dict[tuple[str, str], Attributions]:
    every = [maps] if isinstance(maps, Attributions) else maps
    return {(each.slice_name, each.explainer): each for each in every}


def _found(maps: dict[tuple[str, str], Attributions], key: tuple[str, str]) -> Attributions:
    if key not in maps:
        slice_name, explainer = key
        raise IncomparableError(
            f"the reference has maps of {explainer} on slice {slice_name!r}, another version has not: explain all "
            "versions with the same explainers and slices"
        )
    return maps[key]
