"""Compare: candidate against reference, with the noise floor, under a policy."""

from collections.abc import Mapping, Sequence

from attrail_monitoring.floor.calibration import Calibration, calibrate
from attrail_monitoring.floor.noise_floor import Source
from attrail_monitoring.floor.sanity import ExplainerSanity
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.version_maps import MapKey, VersionInput, VersionMaps, version_maps
from attrail_monitoring.verdict.combination import combine
from attrail_monitoring.verdict.decision_judgement import judge_decisions
from attrail_monitoring.verdict.decision_measurement import DecisionMeasurement, measure_decisions
from attrail_monitoring.verdict.findings import DriftReport
from attrail_monitoring.verdict.judgement import judge_images, judge_measurements, judge_together
from attrail_monitoring.verdict.measurement import Measurement, measure
from attrail_monitoring.verdict.moved_images import Displacement
from attrail_monitoring.verdict.next_step import next_step
from attrail_monitoring.verdict.policy import Policy


def compare(
    reference: VersionInput,
    candidate: VersionInput,
    floor: Sequence[VersionInput] | Calibration = (),
    policy: Policy | None = None,
    source: Source = "retrains",
) -> DriftReport:
    """Judge a candidate's maps against the reference's, and return the verdict with every finding behind it.

    The verdict says whether they are further from the reference's than the maps of the floor's models are::

        report = compare(champion_maps, candidate_maps, floor=retrain_maps)
        print(report.verdict, report.reason)

    Args:
        reference: The maps of one model version: one Attributions, several (one per slice and explainer), or a
            VersionMaps that knows what was decided, of which the verdict is then too.
        candidate: The maps of the version in question, of the same images, targets and explainers.
        floor: The maps of four or more other versions that differ from the reference by this kind of change alone, or
            the Calibration that was made of them before. Without any, the policy's margins alone decide.
        policy: Every threshold; the default Policy when None.
        source: What the floor's models are, see NoiseFloor.

    Raises IncomparableError when the maps differ in images, targets, explainer, parameters or grid.
    """
    policy = policy or Policy()
    first, other = version_maps(reference), version_maps(candidate)
    if not isinstance(floor, Calibration):
        floor = calibrate(first, floor, policy.settings, source)
    decisions = measure_decisions(first, other, floor, policy.settings)
    measurements = measure(first, other, floor, policy.settings)
    displacements = displace(first, other, floor, policy.settings)
    return judge(measurements, policy, floor.instruments, displacements, decisions=decisions)


def displace(
    reference: VersionMaps, candidate: VersionMaps, calibration: Calibration, settings: Settings
) -> list[Displacement]:
    """What of each image's evidence lies outside what the calibration's models show, by every explainer and slice.

    Counted are images that both decide rightly, all when that is not known: where the decision moved, evidence follows.
    """
    found = []
    for subject, envelope in calibration.envelopes.items():
        first, second = reference.of(subject), candidate.of(subject)
        calibration.require_made_for(first)
        rights = [each.right.get(first.slice_name) for each in (reference, candidate)]
        counted = None if rights[0] is None or rights[1] is None else rights[0] & rights[1]
        found.append(Displacement.of(first, second, envelope, settings, counted))
    return found


def judge(
    measurements: Sequence[Measurement],
    policy: Policy,
    instruments: Mapping[MapKey, ExplainerSanity] | None = None,
    displacements: Sequence[Displacement] = (),
    change: str = "retrain",
    names: Sequence[str] = (),
    decisions: Sequence[DecisionMeasurement] = (),
) -> DriftReport:
    """The verdict of a policy on measurements, of maps and of ``decisions``.

    ``change`` is the declared one, which says what a missing floor could be; ``names`` are those of the classes.
    """
    decided = bool(decisions)
    findings = judge_measurements(policy, measurements, instruments, bool(displacements), decided)
    agreements = judge_together(policy, findings, decided)
    moved = judge_images(policy, findings, displacements, decided)
    judged = judge_decisions(policy, decisions)
    verdict, reason = combine(findings, agreements, moved, names, judged)
    hypotheses = sum(finding.measurement.primary and not finding.unfit for finding in findings)
    level = policy.level(hypotheses, bool(agreements), bool(displacements), decided)
    hidden = any(each.hides for group in (findings, agreements, moved) for each in group)
    step = next_step(verdict, findings, change, hidden, level, judged)
    return DriftReport(verdict, reason, findings, policy.digest, level, hypotheses, agreements, moved, step, judged)
