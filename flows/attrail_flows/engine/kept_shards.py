"""A model's shards: what the store keeps of them is taken, what is missing is computed on the engine and kept."""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import EvidenceError, RecordError, RegistryError
from attrail_explainers.model.description import ModelDescription
from attrail_explainers.model.task import Target, Task, make_task
from attrail_flows.engine.folder_store import Store
from attrail_flows.engine.model_pool import ModelKey
from attrail_flows.engine.shards import LOGITS, Shard, keys, seconds
from attrail_flows.engine.task_runners import Load
from attrail_flows.engine.worker import Question, Reply, Work, read_result
from attrail_mlflow.runs.attribution_store import Entry

Known = Mapping[str, Sequence[Entry]]  # complete files by key
Result = tuple[str, Attributions | NDArray[np.float32]]  # the run that holds it, and it
Results = dict[str, Result]  # by explainer, or LOGITS

logger = logging.getLogger("attrail.audit")


class Computes(Protocol):
    """An engine: every work with what was kept of it, in order; ``load`` is all of it together.

    ``ask`` gives the reply of a process that may load the model.
    """

    def ask(self, question: Question[Reply]) -> Reply: ...

    def compute(self, works: Iterable[Work], load: Load | None = None) -> Iterator[tuple[Work, list[Entry]]]: ...


@dataclass(frozen=True, eq=False)
class KeptShards:
    """The shards of one model.

    ``targets`` are what is to be explained by slice; of a slice that is not among them, what the model itself
    answers. ``parent`` is the MLflow run that new files' run is put below; ``fresh`` takes nothing that is kept.
    """

    store: Store
    engine: Computes
    key: ModelKey
    model: ModelDescription
    seed: int
    targets: Mapping[str, Target] = field(default_factory=dict)
    parent: str | None = None
    fresh: bool = False

    def results(self, shards: Sequence[Shard], folder: Path) -> Iterator[tuple[Shard, Results]]:
        """Every shard with its results, those that were kept before first; their files pass through ``folder``.

        Raises RegistryError when MLflow cannot be asked or does not keep what is computed.
        """
        missing: list[Shard] = []
        known = self._known()
        for shard in shards:
            found = self._fetched(shard, known, self._keys(shard), folder)
            if found is None:
                missing.append(shard)
            else:
                yield shard, found
        if missing:
            yield from self._computed(missing, folder)

    def _known(self) -> Known:
        """What is kept of these weights; nothing counts of a model that may be another one tomorrow."""
        unsure = self.model.program_digest is None
        return {} if self.fresh or unsure else self.store.index(self.model.weights_digest)

    def _computed(self, shards: Sequence[Shard], folder: Path) -> Iterator[tuple[Shard, Results]]:
        run_id = self.store.open(f"attributions of {self.key.label}", self.model.weights_digest, self.parent)
        with self.store.finishing(run_id):
            works = (self._work(shard, run_id) for shard in shards)
            load = Load(sum(seconds(shard, self.model) for shard in shards), self.model.device)
            for shard, (work, entries) in zip(shards, self.engine.compute(works, load), strict=True):
                made = {key: [entry] for key, entry in zip(work.keys.values(), entries, strict=True)}
                found = self._fetched(shard, made, work.keys, folder)
                if found is None:
                    raise RegistryError(f"run {run_id}: what was just kept there cannot be read", transient=True)
                yield shard, found

    def _fetched(self, shard: Shard, known: Known, wanted: Mapping[str, str], folder: Path) -> Results | None:
        """A shard's results, None unless all of them are there and right; what is wrong is said, and never fatal."""
        found: Results = {}
        for name, key in wanted.items():
            read = (self._read(shard, name, entry, folder) for entry in known.get(key, ()))
            result = next(filter(None, read), None)
            if result is None:
                return None
            found[name] = result
        return found

    def _read(self, shard: Shard, name: str, entry: Entry, folder: Path) -> Result | None:
        try:
            path = self.store.fetch(entry, folder)
            result = read_result(name, path)
            require_about(result, name, shard, self.model, self.key.task or make_task())
        except (EvidenceError, RecordError) as error:
            logger.warning("%s; it is not used", error)
            return None
        path.unlink()
        return entry.run_id, result

    def _keys(self, shard: Shard) -> dict[str, str]:
        return keys(shard, self.model, self._target(shard), self.seed)

    def _work(self, shard: Shard, run_id: str) -> Work:
        return Work(
            model=self.key,
            expected=self.model,
            part=shard.part,
            explainers=shard.explainers,
            target=self._target(shard),
            seed=self.seed,
            keys=self._keys(shard),
            run_id=run_id,
            place=self.store.place,
        )

    def _target(self, shard: Shard) -> Target | None:
        whole = self.targets.get(shard.whole.name)
        return None if whole is None else whole.rows(shard.rows)


def require_about(
    result: Attributions | NDArray[np.float32], name: str, shard: Shard, model: ModelDescription, task: Task
) -> None:
    """Raise RecordError unless a result is this explainer's, of this model, on these samples: a tag proves nothing."""
    if isinstance(result, Attributions):
        found = (result.explainer, (result.weights_digest, result.program_digest), result.sample_ids)
        right = found == (name, model.identity, shard.whole.sample_ids[shard.rows])
    else:
        right = name == LOGITS and (len(result), task.count(result.shape)) == (len(shard), model.classes)
    if not right:
        raise RecordError(f"a kept file is not {name} of {shard.whole.name!r} {shard.start} to {shard.stop}")
