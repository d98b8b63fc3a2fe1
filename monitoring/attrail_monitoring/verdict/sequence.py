"""A sequence: scheduled audits of one model taken together, so that looking often does not raise false alarms."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.digest import digest_of
from attrail_explainers.errors import ConfigError, RecordError
from attrail_monitoring.inference.e_process import EProcess
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import make_statistic
from attrail_monitoring.verdict.combination import fit_for_verdict
from attrail_monitoring.verdict.findings import DriftReport, Finding, Verdict
from attrail_monitoring.verdict.measurement import image_distances
from attrail_monitoring.verdict.policy import Policy

FORMAT = "attrail.sequence/1"
STATISTIC = "rank_distance"
BARE = {
    "D": "surrogates, which are no retrains",
    "M": "weight noise, which stands for no honest version",
    "0": "a margin, with no noise floor",
}


@dataclass(frozen=True)
class Sequence:
    """The e-process over the audits of a name so far.

    ``fed`` holds a digest of each pair of maps that was counted: the same images never count twice. ``previous`` is the
    run of the audit before, whose file this state continues.
    """

    name: str
    process: EProcess
    fed: tuple[str, ...] = ()
    previous: str | None = None

    def alarm(self, alpha: float) -> bool:
        """Whether the evidence over all audits since the last restart reached 1 / alpha; it stays raised."""
        return self.process.alarm(alpha)

    def document(self) -> dict[str, Any]:
        """The state as plain values, the contents of sequence.json."""
        return {
            "format": FORMAT,
            **{key: value for key, value in asdict(self).items() if key != "process"},
            "fed": list(self.fed),
            "e_value": self.process.value,
            "peak": self.process.peak,
            "process": self.process.document(),
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Sequence":
        """The state in sequence.json; RecordError when it is none."""
        if document.get("format") != FORMAT:
            raise RecordError(f"expected a sequence of format {FORMAT}, got {document.get('format')!r}")
        try:
            process = EProcess.from_document(document["process"])
            return cls(document["name"], process, tuple(document["fed"]), document["previous"])
        except KeyError as error:
            raise RecordError(f"the stored sequence lacks {error}") from error


def advance(
    before: Sequence | None,
    name: str,
    maps: tuple[Attributions, Attributions],
    counted: NDArray[np.bool_],
    finding: Finding,
    settings: Settings,
    restart: str | None = None,
) -> Sequence:
    """The sequence after one more audit's ``maps`` of reference and candidate, against the limit of its ``finding``.

    ``counted`` (N,) are the images of the finding's stratum. An image without a map counts as one that moved as far as
    the statistic allows. A new limit restarts the process,
    and so does ``restart``, which says why. ConfigError when there is no limit to bet against.
    """
    if finding.limit is None or finding.limit <= 0:
        raise ConfigError(f"sequence {name!r} has no limit to bet against: give a noise floor or a margin above 0")
    process = _process(before, finding.limit, restart)
    pair = digest_of({"maps": [each.digest for each in maps]})
    fed = before.fed if before else ()
    if pair in fed:
        return replace(before, process=process) if before else Sequence(name, process, fed)
    distances = image_distances(*maps, settings)
    return Sequence(name, process.updated(_whole(distances[counted])), (*fed, pair))


def with_alarm(report: DriftReport, sequence: Sequence, policy: Policy) -> DriftReport:
    """The report, DRIFT when the sequence has raised its alarm; INCONCLUSIVE over floors that never decide."""
    alpha = policy.alpha
    if not sequence.alarm(alpha) or report.verdict is Verdict.DRIFT:
        return report
    reason = (
        f"over the audits of sequence {sequence.name!r} the evidence against a mean within the limit reached "
        f"e = {sequence.process.peak:.3g}, an alarm at 1 / alpha = {1 / alpha:g}; this audit alone: {report.reason}"
    )
    bare = [each for each in fit_for_verdict(report.findings) if not policy.may_flag(each.measurement.floor)]
    if bare:
        told = f"{reason}; the limit comes from {BARE[bare[0].measurement.floor.tier]}: never decisive"
        return replace(report, verdict=Verdict.INCONCLUSIVE, reason=told)
    step = report.next_step if report.verdict is Verdict.PASS else ""  # what would decide it is no longer asked
    return replace(report, verdict=Verdict.DRIFT, reason=reason, next_step=step)


def _process(before: Sequence | None, limit: float, restart: str | None) -> EProcess:
    if before is None:
        return EProcess(limit)
    process = before.process
    if restart is not None:
        return process.restarted(restart, limit)
    if not np.isclose(process.limit, limit, rtol=1e-9):
        return process.restarted(f"the limit changed from {process.limit:.6g} to {limit:.6g}", limit)
    return process


def _whole(distances: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isnan(distances), make_statistic(STATISTIC).upper, distances)
