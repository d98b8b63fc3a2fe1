"""The headline: what the first lines of the report need to know about the whole audit."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from attrail_monitoring.audit_record import AuditRecord
from attrail_monitoring.floor.factors import Factor
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.maps.strata import BOTH_RIGHT
from attrail_monitoring.report.declared_change import DeclaredChange, declared_change
from attrail_monitoring.verdict.combination import combine
from attrail_monitoring.verdict.findings import DecisionFinding, Finding, Verdict


@dataclass(frozen=True)
class Headline:
    """``used`` of the ``images`` over all slices carry the verdict, ``apart`` from those not decided rightly by both.

    ``undefined`` of the used ones have no map for some explainer; ``left_out`` are the primary findings that do not
    count because their explainer cannot measure. ``sequence`` names the scheduled audits that raised the alarm together
    where this one alone did not. ``floor`` is the weakest under a primary finding, ``bounded`` says that each has a
    bound, ``factors`` how much further than its stand-ins honest versions move, by statistic. ``rules`` are those not
    met that alone keep the audit from PASS. ``evidence`` is what the evidence says by itself, ``decisions`` what the
    decisions do, None where they are not known; ``told`` are the findings about these that a reader is told first, and
    ``backed`` says that those which decide have a floor.
    """

    images: int
    used: int
    apart: bool
    undefined: int
    left_out: tuple[Finding, ...]
    sequence: str | None
    change: DeclaredChange
    floor: NoiseFloor
    bounded: bool
    factors: Mapping[str, Factor]
    rules: tuple[str, ...]
    evidence: Verdict
    decisions: Verdict | None
    told: tuple[DecisionFinding, ...]
    backed: bool


def headline_of(record: AuditRecord) -> Headline:
    """What a reader is told first of an audit: how much was measured, and what the verdict owes to rules and floor."""
    primary = [finding for finding in record.report.findings if finding.measurement.primary]
    measured = [finding.measurement for finding in primary]
    floor = min((each.floor for each in measured), key=lambda each: len(each.distances), default=NoiseFloor())
    told = tuple(each for each in record.report.decisions if not each.measurement.localised or _flagged(each))
    decided = _of_decisions(told)
    images = {each.name: each.images for each in record.slices}
    used = {each.slice: each.n + each.undefined for each in measured}
    undefined = {name: max(each.undefined for each in measured if each.slice == name) for name in used}
    return Headline(
        images=sum(images.values()),
        used=sum((images | used).values()),
        apart=any(each.stratum == BOTH_RIGHT for each in measured),
        undefined=sum(undefined.values()),
        left_out=tuple(finding for finding in primary if finding.unfit),
        sequence=_alarm(record),
        change=declared_change(record.change, floor),
        floor=floor,
        bounded=bool(primary) and all(finding.bound is not None for finding in primary),
        factors={each.statistic: each.floor.factor for each in measured if each.floor.factor},
        rules=_blocking(record),
        evidence=combine(record.report.findings, record.report.agreements, record.report.moved)[0],
        decisions=decided,
        told=told,
        backed=all(each.bound is not None for each in told if each.verdict is decided),
    )


def _alarm(record: AuditRecord) -> str | None:
    if record.sequence is None or record.report.verdict is not Verdict.DRIFT:
        return None
    return None if _alone(record) is Verdict.DRIFT else str(record.sequence["name"])


def _blocking(record: AuditRecord) -> tuple[str, ...]:
    failed = tuple(str(each["observed"]) for each in record.rules if not each["success"])
    open_ = record.report.verdict is Verdict.INCONCLUSIVE
    return failed if failed and open_ and _alone(record) is Verdict.PASS else ()


def _alone(record: AuditRecord) -> Verdict:
    """What the measurements of this audit say, without its sequence and its rules."""
    report = record.report
    return combine(report.findings, report.agreements, report.moved, decisions=report.decisions)[0]


def _of_decisions(told: Sequence[DecisionFinding]) -> Verdict | None:
    """What findings about decisions say together: the worst of those that count."""
    found = {each.verdict for each in told if not each.unfit}
    return next((each for each in (Verdict.DRIFT, Verdict.INCONCLUSIVE, Verdict.PASS) if each in found), None)


def _flagged(finding: DecisionFinding) -> bool:
    return finding.verdict is Verdict.DRIFT
