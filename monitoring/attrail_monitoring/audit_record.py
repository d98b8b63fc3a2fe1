"""The record of one audit: everything that was compared, with every digest, as plain values."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from attrail_monitoring.clusters.clusters import Clusters
from attrail_monitoring.floor.sanity import ExplainerSanity
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.strata import named
from attrail_monitoring.verdict.effect import Effect, effect_of
from attrail_monitoring.verdict.findings import DriftReport, Finding
from attrail_monitoring.verdict.judged import JudgedRow, judged_rows
from attrail_monitoring.verdict.most_moved import RankedImage

FORMAT = "attrail.audit/2"

NOT_CLAIMED = (
    "A verdict speaks about these images, these explainers and this candidate only.",
    "DRIFT says that the evidence moved, not why: it does not prove a shortcut, and PASS does not prove there is none "
    "(Adebayo et al., ICLR 2022). A model made to keep its maps while it decides by other evidence can pass.",
    "The floor covers only what its models differ in: retrains of one recipe cover the training seed, not other data, "
    "another recipe or another architecture. Intervals cover the choice of images.",
    "What was changed, and that the floor's models are what they are said to be, is the configuration's word: their "
    "weights were found to differ, their training was not looked at.",
    "Error rates hold for one candidate, not for the best of several that were picked by their maps.",
    "Error rates were measured on the models and changes of the open benchmark monitoring/ZOO.md, which make zoo runs "
    "again, with the kinds of change that were missed there; anywhere else alpha is nominal.",
)


@dataclass(frozen=True)
class ModelFacts:
    """A model version in an audit: ``label`` is name/version, ``uri`` finds it in MLflow.

    ``source`` is where the registry says its files are, ``run_id`` the MLflow run that logged it, where there is one;
    ``pickled`` says that it was loaded from a pickle, which can run any code, as the policy allowed; ``outputs`` what
    it returns, and how its logits, on which versions are compared, follow from that. ``program_digest`` says what is
    computed with the weights: versions with the same weights may be different models. ``batch_size`` is the only
    one it takes, None where it takes any.
    """

    label: str
    uri: str
    weights_digest: str
    role: str
    version: str
    source: str = ""
    run_id: str | None = None
    pickled: bool = False
    outputs: str = "logits"
    program_digest: str | None = None
    batch_size: int | None = None


@dataclass(frozen=True)
class SliceFacts:
    """A slice in an audit: accuracy of every model version by its label, predictions changed against the reference.

    ``outcomes`` names the images that not both versions decided rightly, by how they did, and ``preprocessing`` says
    how files became the pixels of ``digest``. ``cautions`` are sentences: what lay in the source and was not read, and
    whose word the class indices are. ``pictures`` is how many images there are where several questions were asked of
    one, as about each of its labels: then what is counted in ``images`` are these questions. None for one each.
    """

    name: str
    source: str
    digest: str
    images: int
    accuracy: Mapping[str, float]
    flipped: int
    outcomes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()
    pictures: int | None = None


@dataclass(frozen=True)
class CalibrationFacts:
    """The calibration an audit used: its ``key`` and ``digest``, the run that holds it, its models and their accuracy.

    ``accuracy`` per slice and label. ``noise`` says per slice which noise was matched to which move of the answers.
    """

    key: str
    run_id: str
    time: str
    source: str
    digest: str
    models: tuple[ModelFacts, ...]
    accuracy: Mapping[str, Mapping[str, float]]
    noise: tuple[Mapping[str, Any], ...] = ()


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
    """All facts of an audit; ``document`` is what audit.json holds.

    ``instruments`` are those of the calibration with their slice and explainer, ``moved`` the images that moved most,
    ``clusters`` the strategies that all versions show together, ``classes`` the names of the model's classes where it
    was logged with them, ``rules`` the configuration's own (``ExpectationResult`` as plain values), met or not.
    ``look`` is the one at which the audit knew, or its last, where the policy planned several (``verdict.looks``).
    ``remarks`` are sentences: what was taken as it is, but can mislead.
    ``made_in`` says for maps, as slice/explainer/label, how many shards of them each MLflow run holds; a shard that
    another audit computed is in that audit's run.
    ``task`` is what was asked of the models, with its parameters, where that is not one class of several.
    ``floor_choice`` says by whom, when and why each version of the floor was chosen out of the registry's history, and
    why each other one was left.
    """

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
    moved: tuple[RankedImage, ...] = ()
    clusters: tuple[Clusters, ...] = ()
    sequence: Mapping[str, Any] | None = None
    look: Mapping[str, Any] | None = None
    classes: tuple[str, ...] = ()
    rules: tuple[Mapping[str, Any], ...] = ()
    remarks: tuple[str, ...] = ()
    made_in: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    floor_choice: Mapping[str, Any] | None = None
    run: Mapping[str, str] = field(default_factory=dict)
    not_claimed: tuple[str, ...] = NOT_CLAIMED
    task: Mapping[str, Any] | None = None

    @property
    def settings(self) -> Settings:
        """The settings the measurements were taken with, as the policy states them."""
        stated = self.policy.get("settings") or {}
        return Settings(**{each.name: stated[each.name] for each in fields(Settings) if each.name in stated})

    def instrument(self, slice_name: str, explainer: str) -> ExplainerSanity | None:
        """The instrument of an explainer on a slice, None when it was not inspected."""
        for each in self.instruments:
            if (each["slice"], each["explainer"]) == (slice_name, explainer):
                return ExplainerSanity(
                    **{key: value for key, value in each.items() if key not in ("slice", "explainer")}
                )
        return None

    def effect(self, finding: Finding) -> Effect:
        """What a finding of this audit means beside ceiling and power."""
        measured = finding.measurement
        instrument = self.instrument(measured.slice, measured.explainer)
        return effect_of(finding, instrument, self.report.level, self.settings.confidence)

    @property
    def judged(self) -> tuple[JudgedRow, ...]:
        """Everything that the verdict can rest on, one row each."""
        return judged_rows(self.report, self.classes)

    def document(self) -> dict[str, Any]:
        """The record as JSON-able values: the verdict first, one row per measurement."""
        facts = asdict(self)
        report = facts.pop("report")
        if self.task is None:  # as before there were tasks
            del facts["task"]
        for each in facts["slices"]:
            if each["pictures"] is None:
                del each["pictures"]
        return {
            "format": FORMAT,
            "verdict": self.report.verdict.value,
            "reason": self.report.reason,
            "next_step": self.report.next_step,
            "run_id": self.run.get("run_id"),
            **facts,
            "judged": [each.row() for each in self.judged],
            "measurements": [
                each.row()
                | {"stratum_name": named(each.measurement.stratum, self.classes)}
                | {"floor_models": list(each.measurement.floor.models)}
                | asdict(self.effect(each))
                for each in self.report.findings
            ],
            "decisions": [
                each.row() | {"stratum_name": named(each.measurement.stratum, self.classes)}
                for each in self.report.decisions
            ],
            "agreements": [each.row() for each in self.report.agreements],
            "moved_images": [each.row() for each in self.report.moved],
            "policy_digest": report["policy_digest"],
            "level": report["level"],
            "hypotheses": report["hypotheses"],
        }
