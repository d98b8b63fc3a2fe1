"""Explain a version shard by shard: take what is kept, compute what is missing on the engine, join all of it."""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import EvidenceError, ExplanationError, RecordError, RegistryError
from attrail_explainers.explainer import Explainer, name_of
from attrail_explainers.explanation import require_some_map
from attrail_explainers.runtime.torch_threads import one_torch_thread
from attrail_explainers.slice import Slice
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import Explained, explainers_for, require_fitting, warn_of_batch_size
from attrail_flows.engine.joined_maps import JoinedMaps
from attrail_flows.engine.model_pool import POOL, ModelKey
from attrail_flows.engine.own_script import script_not_run_again
from attrail_flows.engine.shards import LOGITS, ModelDescription, Shard, cut, keys, seconds
from attrail_flows.engine.task_engine import Engine
from attrail_flows.engine.task_runners import Load
from attrail_flows.engine.worker import Answer, Question, Work, read_result
from attrail_flows.inputs.large_arrays import large_array
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.runs.attribution_store import AttributionStore, Entry
from attrail_mlflow.signing.keyless_process import must_be_apart
from attrail_mlflow.signing.keys import key_hidden
from attrail_monitoring.maps.version_maps import MapKey, VersionMaps

Progress = Callable[[int], object]
Keys = Mapping[str, str]
Known = Mapping[str, Sequence[Entry]]  # complete files by key
Result = tuple[str, Attributions | NDArray[np.float32]]  # the run that holds it, and it
Results = dict[str, Result]  # by explainer, or LOGITS

SOME = 8  # images that a model is looked at with

logger = logging.getLogger("attrail.audit")


class Computes(Protocol):
    """An engine: every work with what was kept of it, in order; ``load`` is all of it together.

    ``ask`` gives the answer of a process that may load the model.
    """

    def ask(self, question: Question) -> Answer: ...

    def compute(self, works: Iterable[Work], load: Load | None = None) -> Iterator[tuple[Work, list[Entry]]]: ...


@dataclass(frozen=True)
class Draw:
    """What a rehearsal draws with: the explainers' ``seed``, and the one that shuffles the head, if it is shuffled."""

    seed: int
    head: int | None = None


@dataclass(frozen=True, eq=False)
class ExplainSession:
    """What all versions of one flow run are explained with.

    ``flow`` names the flow's run, ``parent`` the MLflow run of the audit, if there is one yet.
    """

    registry: Registry
    config: AuditConfig
    engine: Computes
    flow: str
    parent: str | None = None

    @property
    def store(self) -> AttributionStore:
        return AttributionStore(self.registry, self.config.registry.experiment)

    def explain(
        self, version: RegisteredVersion, slices: Sequence[Slice], reference: Explained | None, progress: Progress
    ) -> Explained:
        """The version's evidence on every slice. With ``reference``, its targets and layers are used."""
        key = self._key(version)
        found = self._asked(key, slices[0], tuple(explainers_for(self.config, reference)))
        require_fitting(version, found.model.classes, slices, reference)
        warn_of_batch_size(version.label, found.batch_size)
        version_ = _Version(self, key, found, reference, self.config.policy.seed)
        return version_.explained(slices, found.explainers, progress)

    def rehearse(
        self,
        version: RegisteredVersion,
        slices: Sequence[Slice],
        explainers: Sequence[Explainer],
        reference: Explained,
        draw: Draw,
        progress: Progress,
    ) -> VersionMaps:
        """The version's maps for the reference's targets, drawn otherwise; an explainer that gives none is left out."""
        key = self._key(version, draw.head)
        version_ = _Version(self, key, self._asked(key, slices[0]), reference, draw.seed)
        try:
            maps = version_.maps(slices, explainers, progress)
        except ExplanationError:
            maps = [each for explainer in explainers for each in version_.maps_if_any(slices, explainer, progress)]
        return VersionMaps(tuple(maps), reference.right, reference.regions)

    def _asked(self, key: ModelKey, slice_: Slice, explainers: tuple[Explainer, ...] = ()) -> Answer:
        """What the model is, by whoever loads it; its files are those that the registry holds it to from now on."""
        some = Shard(slice_, 0, min(SOME, len(slice_))).part
        found = self.engine.ask(Question(key, some, explainers))
        self.registry.remember(key.version, found.files)
        return found

    def _key(self, version: RegisteredVersion, head: int | None = None) -> ModelKey:
        return ModelKey(self.registry.tracking_uri, version, self.flow, self.config.policy.allow_pickle, head)


@contextlib.contextmanager
def explaining(
    registry: Registry, config: AuditConfig, flow: str, parent: str | None = None
) -> Iterator[ExplainSession]:
    """Workers and models for one run of a flow, which are let go at the end of the block.

    This process loads no model when it signs, or when the policy lets models be pickled: its workers do, and they are
    not told where the key is.
    """
    apart = must_be_apart(allow_pickle=config.policy.allow_pickle)
    try:
        with key_hidden(), script_not_run_again(), Engine(config.run, apart=apart) as engine, one_torch_thread():
            yield ExplainSession(registry, config, engine, flow, parent)
    finally:
        POOL.forget(flow)


@dataclass(frozen=True, eq=False)
class _Version:
    """One version while it is being explained."""

    how: ExplainSession
    key: ModelKey
    asked: Answer
    reference: Explained | None
    seed: int

    @property
    def model(self) -> ModelDescription:
        return self.asked.model

    def explained(self, slices: Sequence[Slice], explainers: Sequence[Explainer], progress: Progress) -> Explained:
        shards = [shard for each in slices for shard in cut(each, explainers, self.model)]
        return self._whole(slices, *self._joined(slices, explainers, shards, progress))

    def maps(
        self, slices: Sequence[Slice], explainers: Sequence[Explainer], progress: Progress
    ) -> Sequence[Attributions]:
        """Maps alone; ExplanationError when an explainer gives none for any image of a slice."""
        shards = [shard for each in slices for shard in cut(each, explainers, self.model) if shard.explainers]
        _, joined = self._joined(slices, explainers, shards, progress)
        targets = {} if self.reference is None else self.reference.targets
        return self._maps(joined, targets)

    def maps_if_any(self, slices: Sequence[Slice], explainer: Explainer, progress: Progress) -> Sequence[Attributions]:
        """Maps of one explainer, slice by slice; nothing of slices for which it gives none."""
        found: list[Attributions] = []
        for each in slices:
            try:
                found += self.maps([each], [explainer], progress)
            except ExplanationError:
                logger.info("%s gives no map of %s on slice %s", name_of(explainer), self.key.label, each.name)
        return found

    def _joined(
        self, slices: Sequence[Slice], explainers: Sequence[Explainer], shards: Sequence[Shard], progress: Progress
    ) -> tuple[dict[str, NDArray[np.float32]], dict[MapKey, JoinedMaps]]:
        """Logits (N,classes) by slice, as far as they are among the shards, and maps by slice and explainer."""
        joined = {(each.name, name_of(explainer)): JoinedMaps(each) for each in slices for explainer in explainers}
        logits = {each.name: large_array((len(each), self.model.classes)) for each in slices}
        with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
            for shard, entries in self._results(shards, Path(folder)):
                for name, (run_id, found) in entries.items():
                    if isinstance(found, Attributions):
                        joined[shard.whole.name, name].add(shard, found, run_id)
                    else:
                        logits[shard.whole.name][shard.rows] = found
                progress(len(shard) * len(shard.explainers))
        return logits, joined

    def _results(self, shards: Sequence[Shard], folder: Path) -> Iterator[tuple[Shard, Results]]:
        """Every shard with its results, those that were kept before first."""
        store = self.how.store
        unsure = self.model.program_digest is None
        known = {} if self.how.config.run.fresh or unsure else store.index(self.model.weights_digest)
        missing: list[Shard] = []
        for shard in shards:
            found = self._fetched(shard, known, self._keys(shard), folder)
            if found is None:
                missing.append(shard)
            else:
                yield shard, found
        if not missing:
            return
        run_id = store.open(f"attributions of {self.key.label}", self.model.weights_digest, self.how.parent)
        with store.finishing(run_id):
            works = (self._work(shard, run_id) for shard in missing)
            load = Load(sum(seconds(shard, self.model) for shard in missing), self.model.device)
            for shard, (work, entries) in zip(missing, self.how.engine.compute(works, load), strict=True):
                made = {key: [entry] for key, entry in zip(work.keys.values(), entries, strict=True)}
                found = self._fetched(shard, made, work.keys, folder)
                if found is None:
                    raise RegistryError(f"run {run_id}: what was just kept there cannot be read", transient=True)
                yield shard, found

    def _fetched(self, shard: Shard, known: Known, wanted: Keys, folder: Path) -> Results | None:
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
            path = self.how.store.fetch(entry, folder)
            result = read_result(name, path)
            require_about(result, name, shard, self.model)
        except (EvidenceError, RecordError) as error:
            logger.warning("%s; it is not used", error)
            return None
        path.unlink()
        return entry.run_id, result

    def _keys(self, shard: Shard) -> Keys:
        return keys(shard, self.model, self._targets(shard), self.seed)

    def _work(self, shard: Shard, run_id: str) -> Work:
        return Work(
            model=self.key,
            expected=self.model,
            part=shard.part,
            explainers=shard.explainers,
            targets=self._targets(shard),
            seed=self.seed,
            keys=self._keys(shard),
            run_id=run_id,
            experiment=self.how.config.registry.experiment,
        )

    def _targets(self, shard: Shard) -> NDArray[np.int64] | None:
        """The shard's targets as far as they are known before the model was asked."""
        if self.how.config.policy.targets == "label":
            return shard.whole.labels[shard.rows]
        return None if self.reference is None else self.reference.predictions[shard.whole.name][shard.rows]

    def _whole(
        self,
        slices: Sequence[Slice],
        logits: Mapping[str, NDArray[np.float32]],
        joined: Mapping[MapKey, JoinedMaps],
    ) -> Explained:
        predictions = {name: found.argmax(axis=1).astype(np.int64) for name, found in logits.items()}
        source = predictions if self.reference is None else self.reference.predictions
        by_label = self.how.config.policy.targets == "label"
        targets = {each.name: each.labels if by_label else source[each.name] for each in slices}
        return Explained(
            version=self.key.version,
            weights_digest=self.model.weights_digest,
            classes=self.model.classes,
            pickled=self.asked.files.pickled,
            maps=self._maps(joined, targets),
            predictions=predictions,
            targets=targets,
            right={each.name: predictions[each.name] == each.labels for each in slices},
            regions={each.name: each.regions for each in slices if each.regions is not None},
            made_in={
                f"{name}/{explainer}/{self.key.label}": each.made_in for (name, explainer), each in joined.items()
            },
            outputs=self.model.outputs,
            program_digest=self.model.program_digest,
            machine=self.model.machine,
            batch_size=self.asked.batch_size,
        )

    def _maps(
        self, joined: Mapping[MapKey, JoinedMaps], targets: Mapping[str, NDArray[np.int64]]
    ) -> tuple[Attributions, ...]:
        digest = self.model.weights_digest
        maps = tuple(each.whole(self.key.label, digest, targets[name]) for (name, _), each in joined.items())
        for each in maps:
            require_some_map(each)
        return maps


def require_about(result: Attributions | NDArray[np.float32], name: str, shard: Shard, model: ModelDescription) -> None:
    """Raise RecordError unless a result is this explainer's, of this model, on these samples: a tag proves nothing."""
    if isinstance(result, Attributions):
        found = (result.explainer, (result.weights_digest, result.program_digest), result.sample_ids)
        right = found == (name, model.identity, shard.whole.sample_ids[shard.rows])
    else:
        right = name == LOGITS and result.shape == (len(shard), model.classes)
    if not right:
        raise RecordError(f"a kept file is not {name} of {shard.whole.name!r} {shard.start} to {shard.stop}")
