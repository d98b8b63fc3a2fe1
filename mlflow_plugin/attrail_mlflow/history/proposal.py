"""Which versions of a model could be the noise floor of one of them, and why each was taken or left.

The registry and the runs are looked at first. Files are read of those versions alone that nothing spoke against so far.
"""

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from mlflow.entities.model_registry import ModelVersion
from mlflow.entities.model_registry.model_version_status import ModelVersionStatus

from attrail_explainers.errors import ConfigError, RegistryError, UnsupportedModelError
from attrail_explainers.model_files.export_archive import ArchivedState
from attrail_mlflow.history.training import (
    Training,
    compare_trainings,
    descends,
    spellings,
    training_of,
)
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.registry.searching import versions_named
from attrail_mlflow.registry.tags import REFERENCE_TAG, VERDICT_TAG, WAIVER_TAG
from attrail_mlflow.runs.lookup import verdicts_against

CHANGES = ("retrain", "refresh", "fine-tune")
READY = ModelVersionStatus.to_string(ModelVersionStatus.READY)
SHOWN = 3  # tensors that differ, in a message

Progress = Callable[[str], object]

logger = logging.getLogger("attrail.registry")


@dataclass(frozen=True)
class Asked:
    """Of which version, audited after which change, a floor is looked for; ``candidate`` where there is one already.

    ``reference`` and ``candidate``: alias, version or models:/ URI. ``experiment`` holds attrail's verdicts.
    """

    model: str
    reference: str
    candidate: str | None = None
    change: str = "retrain"
    experiment: str = "attrail"
    allow_pickle: bool = False


@dataclass(frozen=True)
class Considered:
    """A version, and why it was ``left``, where it was; what is ``said`` of it beside that, and its files' digest.

    ``never``: reasons to leave it that no choice sets aside, because it is another model than the reference, or none.
    """

    version: str
    left: tuple[str, ...] = ()
    never: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    files: str = ""

    @property
    def taken(self) -> bool:
        return not self.left and not self.never

    @property
    def against(self) -> str:
        """Why it was left."""
        return "; ".join((*self.never, *self.left))

    @property
    def why(self) -> str:
        """Why it was left, else what speaks for it."""
        return self.against or "; ".join(self.said)


@dataclass(frozen=True)
class Proposal:
    """Every other version of the ``reference``'s model, the newest first."""

    reference: ModelVersion
    considered: tuple[Considered, ...]

    @property
    def label(self) -> str:
        """Name and version of the reference."""
        return f"{self.reference.name}/{self.reference.version}"

    @property
    def taken(self) -> tuple[Considered, ...]:
        """The oldest first."""
        return tuple(each for each in reversed(self.considered) if each.taken)


def require_change(change: str) -> None:
    """Raise ConfigError for a declared change that a history says nothing of."""
    if change not in CHANGES:
        raise ConfigError(
            f"registry.floor = 'history' is for change = {', '.join(CHANGES[:-1])} or {CHANGES[-1]}, got {change!r}: "
            "list versions in registry.floor, or leave it empty"
        )


def propose(
    registry: Registry, asked: Asked, insisted: Collection[str] = (), progress: Progress = lambda told: None
) -> Proposal:
    """Look at every other version of the model; the files of ``insisted`` versions are looked at in any case.

    Raises ConfigError for a change that a history says nothing of and a candidate that is the reference, RegistryError
    when a version that is ``asked`` about is not there, the reference's files cannot be used, or MLflow not be asked.
    """
    require_change(asked.change)
    search = _Search(registry, asked, frozenset(insisted), progress)
    return Proposal(search.reference, tuple(search.considered(each) for each in search.others))


class _Search:
    """One look at a model's versions; it remembers whose runs and weights were taken already."""

    def __init__(self, registry: Registry, asked: Asked, insisted: frozenset[str], progress: Progress) -> None:
        self.registry, self.asked, self.insisted, self.progress = registry, asked, insisted, progress
        self.reference = registry.find(asked.model, asked.reference)
        self.label = f"{self.reference.name}/{self.reference.version}"
        self.uri = f"models:/{self.label}"
        self.candidate = registry.find(asked.model, asked.candidate) if asked.candidate else None
        if self.candidate and (self.candidate.name, self.candidate.version) == (
            self.reference.name,
            self.reference.version,
        ):
            raise ConfigError(f"{self.label} is the candidate and the reference: name two versions")
        with registry.asking(f"the versions of {self.reference.name} and their verdicts cannot be looked up"):
            every = list(versions_named(registry.client, self.reference.name))
            self.verdicts = verdicts_against(registry, asked.experiment, self.reference.name, self.uri)
        self.others = [each for each in every if str(each.version) != str(self.reference.version)]
        self.runs: dict[str, str] = {}
        self.weights: dict[str, str] = {}

    def considered(self, version: ModelVersion) -> Considered:
        number = str(version.version)
        left = list(self._standing(version))
        training = training_of(self.registry, version)
        said: tuple[str, ...] = ()
        if not left or number in self.insisted:
            trained, said = self._trained(training)
            left += trained
        if left and number not in self.insisted:
            return Considered(number, tuple(left))
        found = self._with_files(version, left, said)
        if training.run_id and not found.never and (not found.left or number in self.insisted):
            self.runs.setdefault(training.run_id, training.label)
        return found

    def _standing(self, version: ModelVersion) -> Iterator[str]:
        """What the registry itself, and attrail's evidence in it, say against a version."""
        candidate, uri = self.candidate, f"models:/{version.name}/{version.version}"
        if candidate is not None and candidate.name == version.name:
            if int(version.version) == int(candidate.version):
                yield "it is the candidate"
            elif int(version.version) > int(candidate.version):
                yield f"it is newer than the candidate, {candidate.name}/{candidate.version}"
        if version.status != READY:
            yield f"its registration is {version.status}"
        if WAIVER_TAG in version.tags:
            yield "it carries a waiver: it was let through without a verdict"
        verdict, run_id = self.verdicts.get(uri, ("", ""))
        if verdict == "DRIFT":
            yield f"it was found DRIFT against {self.label} in run {run_id}"
        elif version.tags.get(VERDICT_TAG) == "DRIFT" and version.tags.get(REFERENCE_TAG) == self.uri:
            yield f"it was found DRIFT against {self.label}"

    def _trained(self, training: Training) -> tuple[list[str], tuple[str, ...]]:
        """What its training says against a version, and what is said beside that."""
        recipe = self._recipe
        if training.unknown or recipe is None or recipe.unknown:
            return [training.unknown or self._no_recipe], ()
        if training.run_id == self.reference.run_id:
            return [f"the run of {self.label} logged it as well: it is a checkpoint of that training"], ()
        if training.run_id in self.runs:
            return [f"its run logged {self.runs[training.run_id]} as well: one version stands for a training"], ()
        if self.asked.change == "fine-tune" and not descends(training, self.ancestors):
            return [f"no parameter, tag or input of its run names {self.label}: it is no fine-tune of it"], ()
        if training.label == recipe.label:
            return [], (f"the newest fine-tune of {self.label}: the others are held against it",)
        compared = compare_trainings(training, recipe, refreshed=self.asked.change == "refresh")
        return list(compared.differ), compared.said

    @cached_property
    def ancestors(self) -> set[str]:
        return spellings(self.reference)

    @cached_property
    def _recipe(self) -> Training | None:
        """The training that others must be like: the reference's, but of fine-tunes the candidate's or the newest."""
        if self.asked.change != "fine-tune":
            return training_of(self.registry, self.reference)
        if self.candidate is not None:
            return training_of(self.registry, self.candidate)
        trainings = (training_of(self.registry, each) for each in self.others)
        return next((each for each in trainings if descends(each, self.ancestors)), None)

    @property
    def _no_recipe(self) -> str:
        """Why there is no training to hold others against."""
        if self._recipe is None:
            return f"no run names {self.label}: it has no fine-tune"
        return f"nothing says how {self._recipe.label} was trained: {self._recipe.unknown}"

    def _with_files(self, version: ModelVersion, left: Sequence[str], said: Sequence[str]) -> Considered:
        number, (reference, expected) = str(version.version), (self.model, self.state)
        try:
            described = self.registry.described(version)
            never = list(_other_model(described, reference))
            state, files = self._state(described)
        except (RegistryError, UnsupportedModelError) as error:
            if getattr(error, "transient", False):
                raise
            return Considered(number, tuple(left), (f"its files cannot be used: {error}",))
        if state is None or expected is None:
            which = described.label if state is None else reference.label
            return Considered(
                number, (*left, f"{which} is pickled: its tensors are not known before it is run"), files=files
            )
        never += _other_state(state, expected, self.label)
        never += self._known_weights(state, expected, described.label, taken=not left or number in self.insisted)
        said = (*said, f"same {len(state.tensors)} tensors by name and shape")
        return Considered(number, tuple(left), tuple(never), said, files)

    def _known_weights(self, state: ArchivedState, reference: ArchivedState, label: str, *, taken: bool) -> list[str]:
        if state.digest == reference.digest:
            return [f"it has the weights of {self.label}"]
        if state.digest in self.weights:
            return [f"it has the weights of {self.weights[state.digest]}"]
        if taken:
            self.weights[state.digest] = label
        return []

    @cached_property
    def model(self) -> RegisteredVersion:
        return self.registry.described(self.reference)

    @cached_property
    def state(self) -> ArchivedState | None:
        return self._state(self.model)[0]

    def _state(self, version: RegisteredVersion) -> tuple[ArchivedState | None, str]:
        """A version's tensors, None where they can only be loaded, as a pickle's, and its files' digest."""
        self.progress(f"reading the files of {version.label}")
        with self.registry.files(version, allow_pickle=self.asked.allow_pickle) as (folder, digest):
            return folder.flavour.state(folder.path, version.label), digest


def _other_model(version: RegisteredVersion, reference: RegisteredVersion) -> Iterator[str]:
    """What a version says of itself that makes it another model than the reference."""
    for what, mine, theirs in (
        ("classes", version.classes, reference.classes),
        ("class names", ", ".join(version.class_names), ", ".join(reference.class_names)),
        ("images (C,H,W)", version.input_shape, reference.input_shape),
        ("preprocessing", version.facts.get("preprocessing"), reference.facts.get("preprocessing")),
    ):
        if mine and theirs and mine != theirs:
            yield f"it was logged with other {what}: {mine}, {reference.label} with {theirs}"


def _other_state(own: ArchivedState, other: ArchivedState, label: str) -> list[str]:
    """That tensors have other names, types or sizes."""
    mine, theirs = own.tensors, other.tensors
    names = sorted(name for name in mine.keys() | theirs.keys() if mine.get(name) != theirs.get(name))
    if not names:
        return []
    shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
    return [f"its tensors are not those of {label} in name, type or shape: {shown}"]
