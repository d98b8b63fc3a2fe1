"""What a worker does, on any engine: borrow the model, compute one shard in one thread, keep the results in MLflow."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from attrail_explainers.attributions import Attributions, load_attributions, save_attributions
from attrail_explainers.digest import digest_of
from attrail_explainers.errors import RecordError, RegistryError
from attrail_explainers.explainer import Explainer, name_of
from attrail_explainers.explanation import explain_part, questions_found, with_layer_found
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.description import ModelDescription, describe
from attrail_explainers.model.task import Target
from attrail_explainers.model.weight_noise import NoiseMatch, match_noise, noised_tensors
from attrail_explainers.runtime.torch_threads import one_torch_thread
from attrail_explainers.slice import Questions, Slice
from attrail_flows.engine.folder_store import store_at
from attrail_flows.engine.model_pool import POOL, ModelKey
from attrail_flows.engine.shards import LOGITS
from attrail_mlflow.registry.registry import LoadedFiles, Registry
from attrail_mlflow.runs.attribution_store import Entry, artifact_path


@dataclass(frozen=True, eq=False)
class Work:
    """One shard's work, for any process on any machine: nothing in it but values.

    ``target`` of the part's rows, None for what the model itself answers; ``keys`` as ``shards.keys`` gives them;
    ``run_id`` is the MLflow run that gets the results, in the store at ``place``. ``expected`` is what whoever hands it
    out takes the model for.
    """

    model: ModelKey
    expected: ModelDescription
    part: Slice
    explainers: tuple[Explainer, ...]
    target: Target | None
    seed: int
    keys: Mapping[str, str]
    run_id: str
    place: str | Path

    @property
    def label(self) -> str:
        """What this work is, for people."""
        what = "+".join(name_of(each) for each in self.explainers) or LOGITS
        return f"{self.model.label}-{self.part.name}-{what}-{self.part.sample_ids[0]}"


Reply = TypeVar("Reply")
Reply_co = TypeVar("Reply_co", covariant=True)


class Question(Protocol[Reply_co]):
    """What a worker is asked about a model that it may load, in values alone."""

    @property
    def model(self) -> ModelKey: ...

    def answered(self) -> Reply_co:
        """The reply, found by whoever loads the model."""
        ...


@dataclass(frozen=True, eq=False)
class Description:
    """What is this model? Asked with a few images that it takes, and the explainers whose layers are to be found."""

    model: ModelKey
    part: Slice
    explainers: tuple[Explainer, ...] = ()

    def answered(self) -> "Answer":
        """Load the model and look at it.

        Raises what ``Registry.load`` and ``describe`` raise: whether it gives numbers comes before where its evidence
        lies.
        """
        key, part = self.model, self.part
        registry = _registry(key.tracking_uri, key.flow)
        with POOL.borrowed(key, registry, part) as classifier, one_torch_thread():
            model = describe(classifier, part.images, part.sample_ids)
            explainers = tuple(with_layer_found(each, classifier, part.images) for each in self.explainers)
            shapes = {name: tuple(each.shape) for name, each in classifier.module.state_dict().items()}
            return Answer(model, explainers, registry.loaded(key.version), shapes)


@dataclass(frozen=True, eq=False)
class Matching:
    """Which noise moves this model's answers to the part's images by a mean ``divergence``, in so many ``draws``."""

    model: ModelKey
    part: Slice
    divergence: float
    draws: int
    seed: int

    def answered(self) -> "Matched":
        """Load the model and match noise to it. Raises what ``match_noise`` raises."""
        key, part = self.model, self.part
        registry = _registry(key.tracking_uri, key.flow)
        with POOL.borrowed(key, registry, part) as classifier, one_torch_thread():
            tensors = noised_tensors(classifier.working_copy(part.images))
            wanted = (classifier, part.images, part.sample_ids, self.divergence)
            found = tuple(match_noise(*wanted, draw, self.seed) for draw in range(1, self.draws + 1))
            return Matched(found, tensors)


@dataclass(frozen=True, eq=False)
class Finding:
    """What does this model's answer to the part's images ask of them? In ``classes`` of these names."""

    model: ModelKey
    part: Slice
    classes: tuple[str, ...] = ()

    def answered(self) -> Questions:
        """Load the model and look at what it finds."""
        key, part = self.model, self.part
        registry = _registry(key.tracking_uri, key.flow)
        with POOL.borrowed(key, registry, part) as classifier, one_torch_thread():
            return questions_found(classifier, part, self.classes)


@dataclass(frozen=True)
class Matched:
    """The noises that were found, and the names of the tensors that they lie on."""

    matches: tuple[NoiseMatch, ...]
    tensors: tuple[str, ...]


@dataclass(frozen=True)
class Answer:
    """A model as its worker sees it, the explainers with the layers they found, and the files it was loaded from.

    ``shapes`` are those of everything in the model's state, by name: two of one architecture have the same.
    """

    model: ModelDescription
    explainers: tuple[Explainer, ...]
    files: LoadedFiles
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


def answer(question: Question[Reply]) -> Reply:
    """The reply to a question, by this process."""
    return question.answered()


def compute(work: Work) -> list[Entry]:
    """Compute a shard and keep it; an entry for each of the work's keys, in their order.

    Raises RegistryError when the model is not the one the work is about.
    """
    registry = _registry(work.model.tracking_uri, work.model.flow)
    borrowed = POOL.borrowed(work.model, registry, work.part)
    with tempfile.TemporaryDirectory(prefix="attrail-") as folder, borrowed as classifier:
        if classifier.identity != work.expected.identity:
            raise RegistryError(f"{work.model.version.uri} changed while it was audited: audit it again")
        keys = _keys(work, classifier.working_copy(work.part.images).machine)
        with one_torch_thread():
            _compute(work, keys, classifier, Path(folder))
        return store_at(registry, work.place).put(work.run_id, Path(folder), keys.values())


def _keys(work: Work, machine: str) -> Mapping[str, str]:
    """The work's keys, where it is done by the kind of machine they are for; else keys that no audit looks for."""
    if machine == work.expected.machine:
        return work.keys
    return {name: digest_of({"key": key, "machine": machine}) for name, key in work.keys.items()}


def _compute(work: Work, keys: Mapping[str, str], classifier: Classifier, folder: Path) -> None:
    (folder / artifact_path("")).parent.mkdir()
    if not work.explainers:
        logits = classifier.logits(work.part.images, work.part.sample_ids)
        _save_logits(logits, folder / artifact_path(keys[LOGITS]))
        return
    target = work.target
    if target is None:
        outputs = classifier.logits(work.part.images, work.part.sample_ids)
        target = classifier.asked.answered(work.part, outputs)
    for each in explain_part(classifier, work.part, work.explainers, target, work.seed):
        save_attributions(each, folder / artifact_path(keys[each.explainer]))


def _save_logits(logits: NDArray[np.float32], path: Path) -> None:
    try:
        save_file({LOGITS: np.ascontiguousarray(logits)}, path)  # others are written in the order of their memory
    except (OSError, SafetensorError) as error:
        raise RecordError(f"{path} cannot be written: {error}; make room there, or set TMPDIR elsewhere") from error


def read_result(name: str, path: Path) -> Attributions | NDArray[np.float32]:
    """What ``compute`` wrote under a name: an explainer's maps, or logits (N,classes) under ``LOGITS``.

    Raises RecordError when the file is neither.
    """
    if name != LOGITS:
        return load_attributions(path)
    try:
        found: NDArray[np.float32] = load_file(path)[LOGITS]
    except (OSError, KeyError, SafetensorError) as error:
        raise RecordError(f"{path} is not a file of logits: {error}") from error
    return found


@lru_cache(maxsize=64)
def _registry(tracking_uri: str, flow: str) -> Registry:
    """One for each run of a flow: a registry remembers the files it read, and refuses others of the same version."""
    return Registry(tracking_uri)
