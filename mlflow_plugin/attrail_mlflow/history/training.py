"""How a version was trained, as far as MLflow knows: its run's parameters, commit, entry point, data."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath

from mlflow.entities import LifecycleStage, Run, RunStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.utils.mlflow_tags import (
    MLFLOW_DATASET_CONTEXT,
    MLFLOW_GIT_COMMIT,
    MLFLOW_PROJECT_ENTRY_POINT,
    MLFLOW_SOURCE_NAME,
)

from attrail_mlflow.history.parameters import ComparedParameters, compare_parameters
from attrail_mlflow.registry.errors import found_or_none
from attrail_mlflow.registry.registry import Registry

OF_TRAINING = {"", "train", "training"}  # contexts of data sets; other data were only looked at
NOT_ENDED_WELL = {RunStatus.FAILED, RunStatus.KILLED}
DIGITS = 12  # of a commit, in messages


@dataclass(frozen=True)
class Training:
    """What a version's run says, with None and nothing where it does not; ``unknown`` says why there is none at all.

    ``data`` are names and digests of the data sets it was trained on; ``named`` all that can name another model: the
    values of parameters and tags, the models it took in.
    """

    label: str
    run_id: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    commit: str | None = None
    program: str | None = None
    entry_point: str | None = None
    data: frozenset[tuple[str, str]] = frozenset()
    named: frozenset[str] = frozenset()
    unknown: str = ""


@dataclass(frozen=True)
class ComparedTrainings:
    """In words: how two trainings ``differ``, and what is ``said`` of them beside that."""

    differ: tuple[str, ...]
    said: tuple[str, ...]


def training_of(registry: Registry, version: ModelVersion) -> Training:
    """How a version was trained; RegistryError when MLflow cannot be asked."""
    label = f"{version.name}/{version.version}"
    if not version.run_id:
        return Training(label, unknown="it was registered without a run")
    with registry.asking(f"the run {version.run_id} of {label} cannot be read"):
        run = found_or_none(registry.client.get_run, version.run_id)
    if run is None or run.info.lifecycle_stage == LifecycleStage.DELETED:
        return Training(label, unknown=f"its run {version.run_id} is deleted")
    if RunStatus.from_string(run.info.status) in NOT_ENDED_WELL:
        return Training(label, unknown=f"its run {version.run_id} ended {run.info.status}")
    if not run.data.params:
        return Training(label, unknown=f"its run {version.run_id} has no parameters")
    tags = run.data.tags
    return Training(
        label,
        run.info.run_id,
        run.data.params,
        tags.get(MLFLOW_GIT_COMMIT),
        tags.get(MLFLOW_SOURCE_NAME),
        tags.get(MLFLOW_PROJECT_ENTRY_POINT),
        frozenset(_data(run)),
        frozenset(_named(run)),
    )


def compare_trainings(own: Training, other: Training, *, refreshed: bool = False) -> ComparedTrainings:
    """A training held against another one; ``refreshed``: other data are what was declared."""
    parameters = compare_parameters(own.parameters, other.parameters, other.label, refreshed=refreshed)
    differ, said, unknown = list(parameters.differ), [_same_parameters(parameters)], []
    for what, mine, theirs in _facts(own, other, refreshed=refreshed):
        if mine and theirs and mine != theirs:
            differ.append(f"its {what} is {mine}, {other.label} has {theirs}")
        elif mine and theirs:
            said.append(f"same {what} {mine}")
        elif mine or theirs or what != "entry point":  # only projects have one
            unknown.append(what if not mine and not theirs else f"{what} of {other.label if mine else own.label}")
    return ComparedTrainings(tuple(differ), (*said, *([f"not known: {', '.join(unknown)}"] if unknown else [])))


def _same_parameters(compared: ComparedParameters) -> str:
    others = f", other {', '.join(compared.passed_over)}" if compared.passed_over else ""
    return f"same {compared.same} parameters{others}"


def _facts(own: Training, other: Training, *, refreshed: bool) -> Iterator[tuple[str, str | None, str | None]]:
    """What two trainings must share beside parameters, where both know it."""
    yield "commit", own.commit and own.commit[:DIGITS], other.commit and other.commit[:DIGITS]
    yield "program", *_programs(own.program, other.program)
    yield "entry point", own.entry_point, other.entry_point
    if not refreshed:
        yield "training data", _shown(own.data), _shown(other.data)


def spellings(version: ModelVersion) -> set[str]:
    """All by which a parameter, a tag or an input may name a version, but aliases: who held one then is not known."""
    label, source = f"{version.name}/{version.version}", str(version.source)
    found = {label, f"models:/{label}", source, source.removeprefix("models:/")}
    return found | {text for text in (version.run_id, version.run_id and f"runs:/{version.run_id}") if text}


def descends(training: Training, ancestors: set[str]) -> bool:
    """Whether a training names a version, by one of its ``spellings`` or a file below one, as what it began with."""
    return any(each in ancestors or each.startswith(tuple(f"{name}/" for name in ancestors)) for each in training.named)


def _data(run: Run) -> Iterator[tuple[str, str]]:
    for each in run.inputs.dataset_inputs if run.inputs else ():
        context = next((tag.value for tag in each.tags if tag.key == MLFLOW_DATASET_CONTEXT), "")
        if context in OF_TRAINING:
            yield each.dataset.name, each.dataset.digest


def _named(run: Run) -> Iterator[str]:
    yield from run.data.params.values()
    yield from (value for key, value in run.data.tags.items() if not key.startswith("mlflow."))
    yield from (each.model_id for each in (run.inputs.model_inputs if run.inputs else None) or ())


def _programs(own: str | None, other: str | None) -> tuple[str | None, str | None]:
    """Both programs, the last part of absolute paths alone: a checkout lies elsewhere on every machine."""
    if own and other and (PurePath(own).is_absolute() or PurePath(other).is_absolute()):
        return PurePath(own).name, PurePath(other).name
    return own, other


def _shown(data: frozenset[tuple[str, str]]) -> str:
    return ", ".join(f"{name} ({digest})" for name, digest in sorted(data))
