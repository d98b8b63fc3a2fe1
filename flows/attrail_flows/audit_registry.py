"""The nightly flow: the newest version of every model against whoever holds its protected aliases.

One model that cannot be audited never stops the others; the flow's run fails at its end and says which. A version that
carries a verdict of an audit against the same holder is left alone, so runs that come late, or twice, audit nothing
twice.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import create_table_artifact
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from attrail_explainers.errors import AttrailError
from attrail_flows.audit import audit
from attrail_flows.configuration import AuditConfig
from attrail_flows.flow_runs.late_runs import newest_when_late
from attrail_flows.flow_runs.retries import DELAYS, RETRIES, may_help
from attrail_mlflow.registry.models import ListedModel, models
from attrail_mlflow.registry.registry import Registry

PROTECTED = ("champion", "production")

logger = logging.getLogger("attrail.registry")


@dataclass(frozen=True)
class AuditPair:
    """A model whose newest version is audited against the version that an alias names."""

    model: str
    alias: str
    reference: str
    candidate: str


@task(
    name="find pairs", cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=DELAYS, retry_condition_fn=may_help
)
def find_pairs(config: AuditConfig, matching: str, aliases: Sequence[str], again: bool) -> list[AuditPair]:
    """What is to be audited."""
    registry = Registry(config.registry.tracking_uri)
    return [pair for model in models(registry, matching) for pair in pairs_of(model, aliases, again)]


def pairs_of(model: ListedModel, aliases: Sequence[str], again: bool = False) -> list[AuditPair]:
    """The audits of one model: one for each version that holds an alias, none for a version against itself."""
    found: dict[str, AuditPair] = {}
    for alias in aliases:
        holder = model.aliases.get(alias)
        if holder in (None, model.newest) or (model.was_audited_against(str(holder)) and not again):
            continue
        found.setdefault(str(holder), AuditPair(model.name, alias, str(holder), model.newest))
    return list(found.values())


def run_name() -> str:
    """The flow run's name: the models and the aliases."""
    parameters = runtime.flow_run.parameters
    return f"audit-registry-{parameters['matching'] or 'all'}-against-{'-'.join(parameters['aliases'])}"


@flow(name="attrail-audit-registry", flow_run_name=run_name, validate_parameters=True)
@newest_when_late
def audit_registry(
    config: AuditConfig,
    matching: str = "",
    aliases: tuple[str, ...] = PROTECTED,
    again: bool = False,
) -> State[Any]:
    """Audit the newest version of every model against the holders of its protected aliases.

    Args:
        config: What ``attrail.toml`` holds, for every model: its slices, explainers, floor and policy. The model, the
            reference and the candidate are put in for each.
        matching: MLflow's filter for registered models, such as ``name LIKE 'digits%'``; every model when empty.
        aliases: The protected aliases.
        again: Audit a version again that carries a verdict of an audit against the same holder.

    Returns:
        One row per audit; the run fails when one of them could not be made.
    """
    logging.getLogger("attrail").setLevel(logging.INFO)
    rows = [audited(config, pair) for pair in find_pairs(config, matching, aliases, again)]
    create_table_artifact(table=rows, key="attrail-registry", description="Newest versions against protected aliases")
    errors = [f"{row['model']}/{row['candidate']}" for row in rows if row["verdict"] == "ERROR"]
    if errors:
        return Failed(message=f"{len(errors)} of {len(rows)} audits could not be made: {', '.join(errors)}", data=rows)
    return Completed(message=_summary(rows), data=rows)


def audited(config: AuditConfig, pair: AuditPair) -> dict[str, Any]:
    """One audit, as a run of the audit flow of its own; what goes wrong in it becomes a row that says so."""
    row: dict[str, Any] = asdict(pair)
    try:
        found: Mapping[str, Any] = audit(config.between(pair.model, pair.reference, pair.candidate))
    except AttrailError as error:
        logger.warning("%s/%s against %s: %s", pair.model, pair.candidate, pair.reference, error)
        return row | {"verdict": "ERROR", "reason": str(error), "run_id": None}
    except Exception as error:  # whatever a library raises about one model is no reason to leave out the others
        logger.exception("%s/%s against %s", pair.model, pair.candidate, pair.reference)
        return row | {"verdict": "ERROR", "reason": f"{type(error).__name__}: {error}", "run_id": None}
    return row | {name: found[name] for name in ("verdict", "reason", "run_id")}


def _summary(rows: Sequence[Mapping[str, Any]]) -> str:
    if not rows:
        return "nothing new to audit"
    verdicts = [row["verdict"] for row in rows]
    return ", ".join(f"{verdicts.count(each)} {each}" for each in sorted(set(verdicts)))
