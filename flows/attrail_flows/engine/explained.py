"""What a version was explained with, and what came of it."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import SliceError
from attrail_explainers.explainer import Explainer, make_explainer
from attrail_explainers.model.task import Target, Task, make_task
from attrail_explainers.model.weight_noise import WeightNoise
from attrail_explainers.slice import Slice
from attrail_flows.configuration import AuditConfig
from attrail_flows.inputs import remarks
from attrail_flows.inputs.versions import require_same_classes
from attrail_mlflow.registry.registry import RegisteredVersion
from attrail_monitoring.audit_record import ModelFacts
from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.maps.version_maps import VersionMaps

logger = logging.getLogger("attrail.audit")


@dataclass(frozen=True, eq=False)
class Explained:
    """One version's evidence: maps per slice and explainer; per slice predictions, targets and ``right``, N of each.

    ``label`` is the version's, or says which ``noise`` was put on its weights. ``logits`` (N,classes) per slice are
    what the predictions were read off, ``decisions`` hold these with the labels; of a slice about which nothing is
    decided there are no predictions, and without labels nobody knows which are ``right``.
    ``made_in`` says for maps, as slice/explainer/label, how many shards of them each MLflow run holds; ``pickled`` that
    the version was loaded from a pickle; ``outputs`` what the model returns. ``program_digest`` says what it
    computes with its weights, and ``machine`` on which kind of machine it was run.
    ``batch_size`` is the only one that it takes, None where it takes any. ``task`` is what was asked of it, with the
    ``output`` that was found to answer that. ``images`` says, by slice, which image each row is about, where
    several are about one.
    """

    version: RegisteredVersion
    label: str
    weights_digest: str
    classes: int
    maps: tuple[Attributions, ...]
    predictions: Mapping[str, NDArray[Any]]
    targets: Mapping[str, Target]
    right: Mapping[str, NDArray[np.bool_]]
    regions: Mapping[str, NDArray[np.bool_]]
    pickled: bool = False
    made_in: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    outputs: str = "logits"
    program_digest: str | None = None
    machine: str = ""
    batch_size: int | None = None
    logits: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    noise: WeightNoise | None = None
    decisions: Mapping[str, Decisions] = field(default_factory=dict)
    task: Task = field(default_factory=make_task)
    images: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)

    @property
    def accuracy(self) -> dict[str, float]:
        return {name: float(right.mean()) for name, right in self.right.items()}

    @property
    def version_maps(self) -> VersionMaps:
        return VersionMaps(self.maps, self.right, self.regions, self.decisions, self.images)


def joined_maps(parts: Sequence[Explained]) -> VersionMaps:
    """The maps of one version that was explained in parts, each on slices of its own."""
    found = [each.version_maps for each in parts]
    return VersionMaps(
        tuple(maps for each in found for maps in each.maps),
        {name: rows for each in found for name, rows in each.right.items()},
        {name: rows for each in found for name, rows in each.regions.items()},
        {name: decided for each in found for name, decided in each.decisions.items()},
        {name: images for each in found for name, images in each.images.items()},
    )


def require_fitting(
    version_: RegisteredVersion, task: Task, classes: int, slices: Sequence[Slice], reference: Explained | None
) -> None:
    """Raise SliceError if a label is no class of the model, IncomparableError if the reference has other classes.

    Raises ConfigError for what else a slice asks that the model cannot be asked.
    """
    for each in slices:
        if task.answers in ("classes", "labels"):
            _require_labels(each, classes, version_.label)
        target = task.asked(each)
        if target is not None:
            target.require(classes, version_.label)
    if reference is not None:
        require_same_classes(reference.version.label, reference.classes, version_.label, classes)


def warn_of(version: RegisteredVersion, batch_size: int | None) -> None:
    """Say it when a model takes batches of one size alone, and when it is a file that somebody's code is around."""
    if version.wrapped is not None:
        logger.warning(remarks.wrapped(version.label, version.wrapped))
    if batch_size is not None:
        logger.warning(remarks.batch_size(version.label, batch_size))


def targets_of(
    config: AuditConfig, slices: Sequence[Slice], reference: Explained | None = None
) -> Mapping[str, Target]:
    """What a version is explained for, by slice: the same as the reference, where there is one.

    Else what the slices ask, as by their labels; none where the version itself has to tell, as the policy may say of
    classes.
    """
    if reference is not None:
        return reference.targets
    task = config.task.to_task()
    if task.asks_by == "label" and config.policy.targets != "label":
        return {}
    asked = {each.name: task.asked(each) for each in slices}
    return {name: target for name, target in asked.items() if target is not None}


def decisions_of(slice_: Slice, logits: NDArray[np.float32], target: Target) -> Decisions | None:
    """What a version decided about a slice and its target by its logits (N,...); None where nothing is decided."""
    found = target.task.decided(slice_, logits, target)
    if found is None:
        return None
    answers = (found.predictions, found.truths, found.confidences, found.tolerance)
    return Decisions(*answers, images=pictured(slice_))


def pictured(slice_: Slice) -> NDArray[np.str_] | None:
    """The image (N,) that each row of a slice is about, None where each is about another."""
    return None if slice_.image_ids is None else np.array(slice_.image_ids)


def explainers_for(config: AuditConfig, reference: Explained | None) -> list[Explainer]:
    """The configured explainers, or exactly those the reference was explained with: same layer, same settings."""
    if reference is None:
        return [each.to_explainer() for each in config.explainers]
    return explainers_of(reference)


def explainers_of(explained: Explained) -> list[Explainer]:
    """The explainers a version was explained with: same layer, same settings."""
    return [make_explainer(each["name"], each["parameters"]) for each in explainer_facts(explained)]


def explainer_facts(explained: Explained) -> list[Mapping[str, Any]]:
    """Name and parameters of each explainer as used; the seed is the policy's, not the explainer's."""
    found = {}
    for maps in explained.maps:
        found[maps.explainer] = {key: value for key, value in maps.parameters.items() if key != "seed"}
    return [{"name": name, "parameters": parameters} for name, parameters in found.items()]


def model_facts(explained: Explained, role: str) -> ModelFacts:
    """What a record says of a version."""
    found = explained.version
    digest = explained.weights_digest
    facts = (explained.label, found.uri, digest, role, found.version, found.source, found.run_id)
    return ModelFacts(*facts, explained.pickled, explained.outputs, explained.program_digest, explained.batch_size)


def _require_labels(slice_: Slice, classes: int, label: str) -> None:
    outside = np.flatnonzero((slice_.labels < 0) | (slice_.labels >= classes))
    if len(outside):
        row = int(outside[0])
        raise SliceError(
            f"slice {slice_.name!r}: image {slice_.sample_ids[row]!r} has the label {slice_.labels[row]}, "
            f"{label} knows 0..{classes - 1}; correct the table"
        )
