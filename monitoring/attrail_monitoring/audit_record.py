"""The record of one audit: everything that was compared, with every digest, as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from attrail_monitoring.verdict import DriftReport

FORMAT = "attrail.audit/2"

NOT_CLAIMED = (
    "A verdict speaks about these images, these explainers and this candidate only.",
    "DRIFT says that the evidence moved, not why: it does not prove a shortcut, and PASS does not prove there is none "
    "(Adebayo et al., ICLR 2022).",
    "Intervals cover the choice of images; the noise floor covers the choice of training seed.",
    "The error rates of this verdict have not been measured on a benchmark yet: alpha is nominal.",
)


@dataclass(frozen=True)
class ModelFacts:
    """A model version in an audit: ``label`` is name/version, ``uri`` finds it in MLflow."""

    label: str
    uri: str
    weights_digest: str
    role: str
    version: str


@dataclass(frozen=True)
class SliceFacts:
    """A slice in an audit: accuracy of every model version by its label, predictions changed against the reference."""

    name: str
    source: str
    digest: str
    images: int
    accuracy: Mapping[str, float]
    flipped: int


@dataclass(frozen=True)
class CalibrationFacts:
    """The calibration an audit used: its ``key`` and ``digest``, the run that holds it, its models and their accuracy.

    ``accuracy`` per slice and label.
    """

    key: str
    run_id: str
    time: str
    source: str
    digest: str
    models: tuple[ModelFacts, ...]
    accuracy: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class PolicyFacts:
    """The policy's ``digest`` and when it was kept (``posted``, milliseconds since 1970), before anything was computed.

    ``before_run`` and ``before`` name the model's last audit and its policy's digest, ``changed`` the keys that differ.
    """

    digest: str
    posted: int
    before_run: str | None = None
    before: str | None = None
    changed: tuple[str, ...] = ()


@dataclass(frozen=True)
class AuditRecord:
    """All facts of an audit; ``document`` is what audit.json holds."""

    change: str
    reference: ModelFacts
    candidate: ModelFacts
    floor: tuple[ModelFacts, ...]
    slices: tuple[SliceFacts, ...]
    explainers: tuple[Mapping[str, Any], ...]
    report: DriftReport
    policy: Mapping[str, Any]
    maps: Mapping[str, str]
    environment: Mapping[str, str]
    calibration: CalibrationFacts | None = None
    instruments: tuple[Mapping[str, Any], ...] = ()
    posted_policy: PolicyFacts | None = None
    run: Mapping[str, str] = field(default_factory=dict)
    not_claimed: tuple[str, ...] = NOT_CLAIMED

    def document(self) -> dict[str, Any]:
        """The record as JSON-able values: the verdict first, one row per measurement."""
        facts = asdict(self)
        report = facts.pop("report")
        return {
            "format": FORMAT,
            "verdict": self.report.verdict.value,
            "reason": self.report.reason,
            "run_id": self.run.get("run_id"),
            **facts,
            "measurements": [finding.row() for finding in self.report.findings],
            "policy_digest": report["policy_digest"],
            "level": report["level"],
            "hypotheses": report["hypotheses"],
        }
