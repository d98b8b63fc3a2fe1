"""The flow that trains the reference anew with other seeds: versions for a noise floor, which nothing may promote.

A seed that fails stops no other one; the flow's run fails at its end and says which. A recipe that fits no seed stops
it with the first.
"""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass
from typing import Annotated, Any

from prefect import flow, runtime, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Completed, Failed
from pydantic import Field

from attrail_explainers.errors import AttrailError, ConfigError, TrainingError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model.task import Task
from attrail_explainers.slice import Slice
from attrail_flows.audit_steps.tasks import flow_run
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.model_pool import ModelKey
from attrail_flows.engine.session import workers_for
from attrail_flows.engine.task_engine import Engine
from attrail_flows.engine.task_runners import workers
from attrail_flows.engine.trainer import Trained, Training, train
from attrail_flows.engine.worker import Answer, Description
from attrail_flows.flow_runs.artifact_key import artifact_key
from attrail_flows.flow_runs.progress import Clock
from attrail_flows.flow_runs.retries import DELAYS, RETRIES, may_help
from attrail_flows.inputs.preflight import preflight_version
from attrail_flows.inputs.retrain_versions import configured_recipe
from attrail_flows.inputs.slices import read_slices
from attrail_flows.recipe.code import Recipe
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.registry.retrains import Retrain, mark_retrain, remove_version, retrains_of
from attrail_mlflow.registry.retries import patiently

TIMES = 5
SOME = 4  # images that a trained model is tried with

logger = logging.getLogger("attrail.retrain")


@dataclass(frozen=True)
class Case:
    """What is trained anew, by which recipe; the retrains ``known`` of it, and a few images that it takes."""

    registry: Registry
    config: AuditConfig
    reference: RegisteredVersion
    recipe: Recipe
    known: tuple[Retrain, ...]
    part: Slice

    def training(self, seed: int, classes: int) -> Training:
        """The work of one seed."""
        where = (self.registry.tracking_uri, self.config.registry.experiment, flow_run())
        return Training(self.recipe, seed, self.reference, classes, self.part, *where, self.task)

    @property
    def task(self) -> Task:
        """What is asked of the reference and of its retrains."""
        return self.config.task.to_task()


@task(name="load case", cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def load_case(config: AuditConfig) -> Case:
    """Find the reference, its recipe and what was trained before, once nothing can be seen to be wrong."""
    recipe = configured_recipe(config)
    registry, reference = preflight_version(config, config.registry.reference)
    known = retrains_of(registry, reference.name, reference.source)
    first = config.slices[0].model_copy(update={"limit": SOME})
    (part,) = read_slices(config.model_copy(update={"slices": (first,)}), reference)
    ours = tuple(each for each in known if each.recipe == recipe.digest)
    return Case(registry, config, reference, recipe, ours, part)


@task(name="train", task_run_name="train-{work.label}", cache_policy=NO_CACHE, persist_result=False)
def train_seed(work: Training) -> Trained:
    """Train with one seed on whatever worker this is, and register what comes of it."""
    return train(work)


def run_name() -> str:
    """The flow run's name: the model, its reference and how many seeds."""
    parameters = runtime.flow_run.parameters
    section = parameters["config"].registry
    return f"retrain-{section.model}-{section.reference}-{parameters['times']}-times"


# It returns a State[Any]; with that as its annotation, processes could not read what Prefect tells them of the flow.
@flow(name="attrail-retrain", flow_run_name=run_name, validate_parameters=True)
def retrain(config: AuditConfig, times: Annotated[int, Field(ge=1, le=1000)] = TIMES) -> Any:
    """Train the reference anew with other seeds, and register that as retrains, which no alias can promote.

    Args:
        config: What ``attrail.toml`` holds, its ``[recipe]`` above all; ``registry.candidate`` is not needed.
        times: With how many seeds, from the recipe's first on; what was trained with one of them before is there.

    Returns:
        One row per seed; the run fails when one of them failed.
    """
    logging.getLogger("attrail").setLevel(logging.INFO)
    case = load_case(config)
    first = config.recipe.first_seed if config.recipe else 0
    rows = sorted(retrained(case, range(first, first + times)), key=lambda row: int(row["seed"]))
    key = artifact_key(f"attrail-retrains-{case.reference.label}")
    create_table_artifact(table=rows, key=key, description=f"Retrains of {case.reference.label}")
    failed = [row for row in rows if row["outcome"] == "failed"]
    if failed:
        return Failed(message=f"{len(failed)} of {times} seeds failed: {failed[0]['error']}", data=rows)
    return Completed(message=f"{case.reference.label} has {len(rows)} retrains by {case.recipe.train}", data=rows)


def retrained(case: Case, seeds: Sequence[int]) -> Iterator[dict[str, Any]]:
    """A row for each seed: trained, there already, or failed and why; ConfigError when the recipe fits none."""
    known = {each.seed: each for each in case.known}
    missing = [seed for seed in seeds if seed not in known]
    for seed in seeds:
        if seed in known:
            logger.info("seed %d: %s is there already", seed, known[seed].label)
            yield _row(seed, "there already", known[seed])
    weights = {each.weights: each.seed for each in case.known}
    while missing:  # again where a process ended: the seeds that are left get new ones
        with workers_for(case.config, apart=True) as engine:  # the user's own code is run: never where the key is
            for row in trained_by(engine, case, tuple(missing), weights):
                missing.remove(row["seed"])
                yield row


def trained_by(engine: Engine, case: Case, seeds: Sequence[int], weights: dict[str, int]) -> Iterator[dict[str, Any]]:
    """A row for each seed, once its training on an engine is over; ConfigError when the recipe fits none.

    ``weights`` are the seeds that gave weights of a digest, these among them from then on. When a process of the
    engine ended, that of the first seed which misses it, the seeds after that are left.
    """
    model = ModelKey(
        case.registry.tracking_uri, case.reference, flow_run(), case.config.policy.allow_pickle, task=case.task
    )
    reference = engine.ask(Description(model, case.part))
    clock = Clock(len(seeds), started=time.monotonic())
    with contextlib.closing(_begun(engine, case, seeds, reference.model.classes)) as begun:
        for seed, future in begun:
            try:
                row = _marked(case, seed, future, reference, weights)
            except BrokenExecutor as error:
                logger.warning("seed %d: %s", seed, error)
                told = f"the process that trained with seed {seed} ended before it answered"
                yield _row(seed, "failed", error=f"{told}: see whether this machine has enough memory")
                return
            clock.step(f"seed {seed}: {row['retrain'] or row['outcome']}")
            yield row


def _begun(
    engine: Engine, case: Case, seeds: Sequence[int], classes: int
) -> Generator[tuple[int, PrefectFuture[Trained]], None, None]:
    """Every seed with its training, in order, as many under way as there are workers.

    What is under way when nobody asks for more is waited for, and leaves no version behind.
    """
    waiting: deque[tuple[int, PrefectFuture[Trained]]] = deque()
    try:
        for seed in seeds:
            if len(waiting) == workers(engine.section):
                yield waiting.popleft()
            waiting.append((seed, engine.submit(train_seed, work=case.training(seed, classes))))
        while waiting:
            yield waiting.popleft()
    finally:
        for _, future in waiting:
            _drop(case.registry, future)


def _drop(registry: Registry, future: PrefectFuture[Trained]) -> None:
    try:
        found = future.result()
    except Exception as error:  # noqa: BLE001 - whatever it raises: it is of no use any more
        logger.info("%s", error)
    else:
        remove_version(registry, found.version.name, found.version.version)


def _marked(
    case: Case, seed: int, future: PrefectFuture[Trained], reference: Answer, weights: dict[str, int]
) -> dict[str, Any]:
    """The row of a seed whose training was begun, once what came of it is marked as a retrain.

    ``weights`` are the seeds that gave weights of a digest, and this one from now on.
    """
    try:
        found = future.result()
        made = _retrain(case, seed, found, reference, weights)
    except (ConfigError, BrokenExecutor):
        raise
    except AttrailError as error:
        logger.warning("%s", error)
        return _row(seed, "failed", error=str(error))
    except Exception as error:  # whatever a library raises: the others go on
        logger.exception("seed %d", seed)
        return _row(seed, "failed", error=f"seed {seed}: {type(error).__name__}: {excerpt(error)}")
    weights[made.weights] = seed
    return _row(seed, "trained", made)


def _retrain(case: Case, seed: int, found: Trained, reference: Answer, weights: dict[str, int]) -> Retrain:
    """A registered version as a retrain, or no version any more and the error that says why it is none."""
    version, digest = found.version, found.seen.model.weights_digest
    try:
        _require_retrain(case, seed, found.seen, reference, weights)
    except AttrailError:
        remove_version(case.registry, version.name, version.version)
        raise
    made = Retrain(version.name, version.version, case.recipe.digest, seed, digest)
    patiently(lambda: mark_retrain(case.registry, made, case.reference.source, reference.model.weights_digest))
    return made


def _require_retrain(case: Case, seed: int, seen: Answer, reference: Answer, weights: dict[str, int]) -> None:
    """Raise ConfigError for another architecture, or weights that no seed moves; TrainingError for the reference's."""
    train_, label = case.recipe.train, case.reference.label
    for name in sorted({*seen.shapes, *reference.shapes}):
        here, there = seen.shapes.get(name), reference.shapes.get(name)
        if here != there:
            raise ConfigError(
                f"{train_} trains another architecture than {label}: {name} has the shape {here or 'of nothing'}, in "
                f"{label} {there or 'of nothing'}; a retrain differs from the reference by its seed alone"
            )
    digest = seen.model.weights_digest
    if digest in weights:
        raise ConfigError(f"seeds {weights[digest]} and {seed} give the same weights: {train_} does not use its seed")
    if digest == reference.model.weights_digest:
        raise TrainingError(
            f"seed {seed} gives the weights of {label} itself, so it is no retrain of it: set recipe.first_seed to a "
            "greater one"
        )


def _row(seed: int, outcome: str, made: Retrain | None = None, error: str | None = None) -> dict[str, Any]:
    return {"seed": seed, "outcome": outcome, "retrain": made.label if made else None, "error": error}
