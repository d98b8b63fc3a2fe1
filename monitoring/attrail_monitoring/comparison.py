"""Compare: candidate against reference, with the noise floor, under a policy."""

from collections.abc import Mapping, Sequence

from attrail_monitoring.calibration import Calibration, calibrate
from attrail_monitoring.combination import combine
from attrail_monitoring.floor import Source
from attrail_monitoring.instrument import Instrument
from attrail_monitoring.measurement import Measurement, measure
from attrail_monitoring.policy import Policy
from attrail_monitoring.verdict import DriftReport
from attrail_monitoring.version_maps import Maps, Subject, version_maps


def compare(
    reference: Maps,
    candidate: Maps,
    floor: Sequence[Maps] | Calibration = (),
    policy: Policy | None = None,
    source: Source = "retrains",
) -> DriftReport:
    """Judge a candidate's maps against the reference's.

    ``reference``, ``candidate`` and each model in ``floor`` are the maps of one model version: one Attributions,
    several (one per slice and explainer), or a VersionMaps that knows which images were decided rightly. ``floor`` may
    be a Calibration made before. IncomparableError when they are not like with like.
    """
    policy = policy or Policy()
    first = version_maps(reference)
    if not isinstance(floor, Calibration):
        floor = calibrate(first, [version_maps(each) for each in floor], policy.settings, source)
    measurements = measure(first, version_maps(candidate), floor, policy.settings)
    return judge(measurements, policy, floor.instruments)


def judge(
    measurements: Sequence[Measurement], policy: Policy, instruments: Mapping[Subject, Instrument] | None = None
) -> DriftReport:
    """The verdict of a policy on measurements."""
    findings = policy.judge(measurements, instruments)
    agreements = policy.agree(findings)
    verdict, reason = combine(findings, agreements)
    hypotheses = sum(finding.measurement.primary and not finding.unfit for finding in findings)
    level = policy.level(hypotheses, bool(agreements))
    return DriftReport(verdict, reason, findings, policy.digest, level, hypotheses, agreements)
