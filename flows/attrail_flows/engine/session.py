"""Explain a version shard by shard: take what is kept, compute what is missing on the engine, join all of it."""

import contextlib
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ExplanationError
from attrail_explainers.explainer import Explainer, name_of
from attrail_explainers.explanation import require_some_map
from attrail_explainers.model.task import Target, Task, make_task
from attrail_explainers.model.weight_noise import WeightNoise
from attrail_explainers.runtime.torch_threads import one_torch_thread
from attrail_explainers.slice import Slice
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import (
    Explained,
    decisions_of,
    explainers_for,
    pictured,
    require_fitting,
    targets_of,
    warn_of,
)
from attrail_flows.engine.folder_store import store_at
from attrail_flows.engine.joined_maps import JoinedMaps
from attrail_flows.engine.kept_shards import Computes, KeptShards
from attrail_flows.engine.model_pool import POOL, ModelKey
from attrail_flows.engine.own_script import script_not_run_again
from attrail_flows.engine.shards import Shard, cut
from attrail_flows.engine.task_engine import Engine
from attrail_flows.engine.worker import Answer, Description, Finding, Matched, Matching
from attrail_flows.inputs.large_arrays import large_array
from attrail_flows.inputs.slices import asked_slice
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.signing.keyless_process import must_be_apart
from attrail_mlflow.signing.keys import key_hidden
from attrail_monitoring.maps.version_maps import MapKey, VersionMaps

Progress = Callable[[int], object]
Logits = Mapping[str, NDArray[np.float32]]  # (N,classes) by slice
Targets = Mapping[str, Target]  # by slice

SOME = 8  # images that a model is looked at with

logger = logging.getLogger("attrail.audit")


@dataclass(frozen=True)
class Draw:
    """What a rehearsal draws with: the explainers' ``seed``, the one that shuffles the head, if it is shuffled.

    ``noise`` is what is put on the weights, if anything.
    """

    seed: int
    head: int | None = None
    noise: WeightNoise | None = None


@dataclass(frozen=True, eq=False)
class ExplainSession:
    """What all versions of one flow run are explained with.

    ``flow`` names the flow's run, ``parent`` the MLflow run of the audit, if there is one yet. Where a ``folder`` is
    given, results pass through that and nothing is kept in MLflow.
    """

    registry: Registry
    config: AuditConfig
    engine: Computes
    flow: str
    parent: str | None = None
    folder: Path | None = None

    def asking(self, version: RegisteredVersion, slices: Sequence[Slice]) -> tuple[Slice, ...]:
        """The slices with a row for each question; what their tables leave open is what ``version`` finds in them."""
        key = self._key(version, self._task(None))
        names, leaves_open = tuple(version.class_names), self._task(None).leaves_open
        return tuple(
            asked_slice(each, self.engine.ask(Finding(key, each, names))) if leaves_open(each) else each
            for each in slices
        )

    def explain(
        self,
        version: RegisteredVersion,
        slices: Sequence[Slice],
        reference: Explained | None,
        progress: Progress,
        noise: WeightNoise | None = None,
    ) -> Explained:
        """The version's evidence on every slice. With ``reference``, its targets and layers are used.

        ``noise`` is put on the version's weights before.
        """
        key = self._key(version, self._task(reference), noise=noise)
        found = self._asked(key, slices[0], tuple(explainers_for(self.config, reference)))
        require_fitting(version, self._task(reference), found.model.classes, slices, reference)
        warn_of(version, found.model.batch_size)
        targets = targets_of(self.config, slices, reference)
        version_ = self._version(key, found, targets, self.config.policy.seed)
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
        key = self._key(version, self._task(reference), draw.head, draw.noise)
        version_ = self._version(key, self._asked(key, slices[0]), reference.targets, draw.seed)
        try:
            maps = version_.maps(slices, explainers, progress)
        except ExplanationError:  # after all shards, which were counted
            maps = [each for explainer in explainers for each in version_.maps_if_any(slices, explainer, _uncounted)]
        return VersionMaps(tuple(maps), reference.right, reference.regions, reference.decisions)

    def match(self, version: RegisteredVersion, part: Slice, divergence: float, draws: int, seed: int) -> Matched:
        """Noise that moves the version's answers to a part of a slice by so much; raises what ``match_noise`` does."""
        key = self._key(version, self.config.task.to_task())
        return self.engine.ask(Matching(key, part, divergence, draws, seed))

    def _asked(self, key: ModelKey, slice_: Slice, explainers: tuple[Explainer, ...] = ()) -> Answer:
        """What the model is, by whoever loads it; its files are those that the registry holds it to from now on."""
        some = Shard(slice_, 0, min(SOME, len(slice_))).part
        found = self.engine.ask(Description(key, some, explainers))
        self.registry.remember(key.version, found.files)
        return found

    def _version(self, key: ModelKey, found: Answer, targets: Targets, seed: int) -> "_Version":
        store = store_at(self.registry, self.folder or self.config.registry.experiment)
        shards = KeptShards(
            store, self.engine, key, found.model, seed, targets, parent=self.parent, fresh=self.config.run.fresh
        )
        return _Version(shards, found.files.pickled, self.config.policy.looks)

    def _task(self, reference: Explained | None) -> Task:
        """What is asked: of the same part of what a version returns as of the reference."""
        return self.config.task.to_task() if reference is None else reference.task

    def _key(
        self, version: RegisteredVersion, task: Task, head: int | None = None, noise: WeightNoise | None = None
    ) -> ModelKey:
        pickles = self.config.policy.allow_pickle
        return ModelKey(self.registry.tracking_uri, version, self.flow, pickles, head, noise, task)


def _uncounted(maps: int) -> None:
    """Progress of what was counted before."""


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
        with workers_for(config, apart=apart) as engine, one_torch_thread():
            yield ExplainSession(registry, config, engine, flow, parent)
    finally:
        POOL.forget(flow)


@contextlib.contextmanager
def workers_for(config: AuditConfig, *, apart: bool) -> Iterator[Engine]:
    """Workers for one run of a flow, which are not told where the signing key is; ``apart`` as ``Engine`` takes it."""
    with key_hidden(), script_not_run_again(), Engine(config.run, apart=apart) as engine:
        yield engine


@dataclass(frozen=True, eq=False)
class _Version:
    """One version while it is being explained; ``pickled`` says that it was loaded from a pickle.

    ``looks`` are the numbers of images that no shard goes across.
    """

    kept: KeptShards
    pickled: bool
    looks: tuple[int, ...] = ()

    @property
    def label(self) -> str:
        return self.kept.key.label

    def explained(self, slices: Sequence[Slice], explainers: Sequence[Explainer], progress: Progress) -> Explained:
        shards = [shard for each in slices for shard in cut(each, explainers, self.kept.model, self.looks)]
        return self._whole(slices, *self._joined(slices, explainers, shards, progress))

    def maps(
        self, slices: Sequence[Slice], explainers: Sequence[Explainer], progress: Progress
    ) -> Sequence[Attributions]:
        """Maps alone; ExplanationError when an explainer gives none for any image of a slice."""
        shards = [
            shard for each in slices for shard in cut(each, explainers, self.kept.model, self.looks) if shard.explainers
        ]
        _, joined = self._joined(slices, explainers, shards, progress)
        return self._maps(joined, self.kept.targets)

    def maps_if_any(self, slices: Sequence[Slice], explainer: Explainer, progress: Progress) -> Sequence[Attributions]:
        """Maps of one explainer, slice by slice; nothing of slices for which it gives none."""
        found: list[Attributions] = []
        for each in slices:
            try:
                found += self.maps([each], [explainer], progress)
            except ExplanationError:
                logger.info("%s gives no map of %s on slice %s", name_of(explainer), self.label, each.name)
        return found

    def _joined(
        self, slices: Sequence[Slice], explainers: Sequence[Explainer], shards: Sequence[Shard], progress: Progress
    ) -> tuple[Logits, Mapping[MapKey, JoinedMaps]]:
        """Logits, as far as they are among the shards, and maps by slice and explainer."""
        joined = {(each.name, name_of(explainer)): JoinedMaps(each) for each in slices for explainer in explainers}
        logits: dict[str, NDArray[np.float32]] = {}
        with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
            for shard, results in self.kept.results(shards, Path(folder)):
                for name, (run_id, found) in results.items():
                    if isinstance(found, Attributions):
                        joined[shard.whole.name, name].add(shard, found, run_id)
                    else:
                        if shard.whole.name not in logits:
                            logits[shard.whole.name] = large_array((len(shard.whole), *found.shape[1:]))
                        logits[shard.whole.name][shard.rows] = found
                progress(len(shard) * len(shard.explainers))
        return logits, joined

    def _whole(self, slices: Sequence[Slice], logits: Logits, joined: Mapping[MapKey, JoinedMaps]) -> Explained:
        model, task = self.kept.model, self.kept.key.task or make_task()
        targets = {
            each.name: self.kept.targets.get(each.name) or task.answered(each, logits[each.name]) for each in slices
        }
        decisions = {each.name: decisions_of(each, logits[each.name], targets[each.name]) for each in slices}
        known = {name: each for name, each in decisions.items() if each is not None}
        return Explained(
            version=self.kept.key.version,
            label=self.label,
            weights_digest=model.weights_digest,
            classes=model.classes,
            pickled=self.pickled,
            maps=self._maps(joined, targets),
            predictions={name: each.predictions for name, each in known.items()},
            targets=targets,
            right={name: each.right for name, each in known.items() if each.right is not None},
            regions={each.name: each.regions for each in slices if each.regions is not None},
            made_in={f"{name}/{explainer}/{self.label}": each.made_in for (name, explainer), each in joined.items()},
            outputs=model.outputs,
            program_digest=model.program_digest,
            machine=model.machine,
            batch_size=model.batch_size,
            logits=logits,
            noise=self.kept.key.noise,
            decisions=known,
            images={each.name: found for each in slices if (found := pictured(each)) is not None},
            task=replace(task, output=task.output or model.output),
        )

    def _maps(self, joined: Mapping[MapKey, JoinedMaps], targets: Targets) -> tuple[Attributions, ...]:
        digest = self.kept.model.weights_digest
        maps = tuple(each.whole(self.label, digest, targets[name]) for (name, _), each in joined.items())
        for each in maps:
            require_some_map(each)
        return maps
