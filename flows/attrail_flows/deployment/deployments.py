"""Deployments: which flows Prefect runs, when and where, as a ``prefect.yaml`` says; and what its server has of them.

The packaged ``prefect.yaml`` is also a file for ``prefect deploy``. Own code reads it because ``prefect deploy`` says
nothing of what would change, writes the folder it was called in into what it registers, and passes over misspelt keys.
"""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import httpx
import yaml
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentScheduleCreate
from prefect.client.schemas.objects import ConcurrencyLimitConfig
from prefect.client.schemas.responses import DeploymentResponse
from prefect.client.schemas.schedules import CronSchedule
from prefect.deployments.runner import RunnerDeployment
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.flows import Flow, load_flow_from_entrypoint
from prefect.settings import get_current_settings
from prefect.types.entrypoint import EntrypointType
from pydantic import BaseModel, ConfigDict, ValidationError

from attrail_explainers.errors import ConfigError, UnknownNameError
from attrail_explainers.files.plain_file import read_plain
from attrail_flows.configuration import read_config

CONFIG = "config"  # the parameter that takes what an attrail.toml holds


class Strict(BaseModel):
    """A table of the file; a key that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(Strict):
    """When: a cron expression in a time zone, under a name that stays the same when the time changes."""

    slug: str
    cron: str
    timezone: str

    def to_schedule(self) -> DeploymentScheduleCreate:
        when = CronSchedule(cron=self.cron, timezone=self.timezone)
        return DeploymentScheduleCreate(schedule=when, slug=self.slug)


class Pool(Strict):
    """Where: the work pool whose workers run the flow, and what its runs are given."""

    name: str
    job_variables: dict[str, Any] = {}


class Deployment(Strict):
    """One deployment as the file says; ``entrypoint`` is MODULE.FLOW of an installed package.

    ``config`` is attrail's own, and names a file beside the attrail.toml that is deployed; ``prefect deploy`` passes
    over it. It is no parameter, as Prefect's server would hold a file's name against the schema of what the file holds.
    """

    name: str
    description: str
    entrypoint: str
    work_pool: Pool
    tags: tuple[str, ...] = ()
    parameters: dict[str, Any] = {}
    config: str | None = None
    schedules: tuple[Schedule, ...] = ()
    concurrency_limit: ConcurrencyLimitConfig | None = None

    def flow(self) -> Flow[..., Any]:
        """The flow it runs; ConfigError when the package that is installed here has no such flow."""
        try:
            return load_flow_from_entrypoint(self.entrypoint)
        except Exception as error:
            raise ConfigError(f"deployment {self.name!r}: no flow {self.entrypoint}: {error}") from error

    def to_runner(self, config_file: Path) -> RunnerDeployment:
        """The deployment as Prefect registers it, with the ``config`` of its flow, if it takes one, filled in.

        It is what ``config_file`` holds, or the file beside it that is named here. Raises ConfigError.
        """
        flow = self.flow()
        takes = {}
        if CONFIG in flow.parameters.properties:
            file = config_file.parent / (self.config or config_file.name)
            takes = {CONFIG: read_config(file).model_dump(mode="json", by_alias=True)}
        return RunnerDeployment.from_flow(
            flow,
            name=self.name,
            description=self.description,
            tags=list(self.tags),
            parameters=self.parameters | takes,
            schedules=[each.to_schedule() for each in self.schedules],
            concurrency_limit=self.concurrency_limit,
            work_pool_name=self.work_pool.name,
            job_variables=self.work_pool.job_variables,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )


class Deployments(Strict):
    """The file. ``definitions`` holds what YAML's anchors name; ``pull`` must be empty, the flows are installed."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=lambda name: name.replace("_", "-"))

    deployments: tuple[Deployment, ...]
    prefect_version: str = ""
    name: str = ""
    pull: tuple[()] = ()
    definitions: Any = None


def packaged() -> str:
    """The text of the ``prefect.yaml`` that is installed with attrail."""
    return (files("attrail_flows") / "prefect.yaml").read_text(encoding="utf-8")


def read_deployments(
    path: Path | None = None, only: Sequence[str] = (), pool: str | None = None, timezone: str | None = None
) -> tuple[Deployment, ...]:
    """The deployments of a file, of the packaged one without a path; ``pool`` and ``timezone`` instead of the file's.

    ``only`` names those that are wanted, all when empty. Raises ConfigError naming the first key that is wrong.
    """
    where = path or "prefect.yaml"
    try:
        text = read_plain(path).decode("utf-8") if path else packaged()
        found = Deployments.model_validate(yaml.safe_load(text)).deployments
        return tuple(_moved(each, pool, timezone) for each in _chosen(found, only))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{where} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise ConfigError(f"{where}: {'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


@contextlib.contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """Prefect's server; ConfigError when PREFECT_API_URL names none, or it does not answer."""
    address = get_current_settings().api.url
    if not address:
        raise ConfigError("PREFECT_API_URL names no Prefect server: set it, as http://prefect:4200/api")
    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.TransportError, PrefectHTTPStatusError) as error:
        raise ConfigError(f"Prefect's server at {address}: {error}; start it, or correct PREFECT_API_URL") from error


def changes(wanted: RunnerDeployment, client: SyncPrefectClient) -> list[str] | None:
    """What would become other at the server, a line each; None when it has no such deployment."""
    try:
        found = client.read_deployment_by_name(wanted.full_name)
    except ObjectNotFound:
        return None
    return list(_differences(_registered(found), _stated(wanted)))


def register(wanted: RunnerDeployment, client: SyncPrefectClient, *, dry_run: bool) -> list[str]:
    """Make a deployment at the server what it is to be; return what that changed, or would change, line by line."""
    found = changes(wanted, client)
    if found == []:
        return [f"unchanged {wanted.full_name}"]
    if not dry_run:
        wanted.apply()
    if found is None:
        return [f"new       {wanted.full_name}"]
    return [f"changed   {wanted.full_name}", *(f"          {line}" for line in found)]


def _chosen(found: Sequence[Deployment], only: Sequence[str]) -> Sequence[Deployment]:
    known = {each.name: each for each in found}
    for name in only:
        if name not in known:
            raise UnknownNameError.of("deployment", name, known)
    return [known[name] for name in only] if only else found


def _moved(deployment: Deployment, pool: str | None, timezone: str | None) -> Deployment:
    """A copy of the deployment in another pool and time zone, both looked at."""
    place = deployment.work_pool.model_copy(update={"name": pool} if pool else {})
    zone = {"timezone": timezone} if timezone else {}
    times = tuple(each.model_copy(update=zone) for each in deployment.schedules)
    for each in times:
        each.to_schedule()
    return deployment.model_copy(update={"work_pool": place, "schedules": times})


def _stated(wanted: RunnerDeployment) -> dict[str, Any]:
    """What a deployment is to be, as JSON values."""
    limit, options = wanted.concurrency_limit, wanted.concurrency_options
    return _plain(
        {
            "entrypoint": wanted.entrypoint,
            "description": wanted.description,
            "tags": sorted(wanted.tags),
            "parameters": wanted.model_dump(mode="json")["parameters"],
            "work pool": wanted.work_pool_name,
            "job variables": wanted.job_variables,
            "at once": [limit, options.collision_strategy if options else None] if limit else None,
            "form": wanted._parameter_openapi_schema.model_dump(exclude_unset=True),
            "schedules": _times(wanted.schedules or []),
        }
    )


def _registered(found: DeploymentResponse) -> dict[str, Any]:
    """The facts of a deployment at the server that ``attrail deploy`` compares."""
    limit, options = found.global_concurrency_limit, found.concurrency_options
    return _plain(
        {
            "entrypoint": found.entrypoint,
            "description": found.description,
            "tags": sorted(found.tags),
            "parameters": found.parameters,
            "work pool": found.work_pool_name,
            "job variables": found.job_variables,
            "at once": [limit.limit, options.collision_strategy if options else None] if limit else None,
            "form": found.parameter_openapi_schema,
            "schedules": _times(found.schedules),
        }
    )


def _times(schedules: Sequence[Any]) -> dict[str, str]:
    """Schedules by name: whether one is paused is for whoever paused it to say."""
    return {str(each.slug): f"{each.schedule.cron} {each.schedule.timezone}" for each in schedules}


def _plain(facts: Mapping[str, Any]) -> dict[str, Any]:
    return dict(json.loads(json.dumps(facts, sort_keys=True, default=str)))


def _differences(before: Mapping[str, Any], after: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Every leaf that differs, as ``path: before -> after``."""
    for name in sorted({*before, *after}):
        old, new = before.get(name), after.get(name)
        here = f"{path}{name}"
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            yield from _differences(old, new, f"{here}.")
        elif old != new:
            yield f"{here}: {_short(old)} -> {_short(new)}"


def _short(value: Any, limit: int = 60) -> str:
    text = "nothing" if value is None else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else text[: limit - 3] + "..."
