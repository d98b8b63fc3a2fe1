"""The policy's notice: kept in an audit's run before anything is computed, beside the policy of the audit before it."""

from collections.abc import Mapping
from typing import Any

from mlflow.exceptions import MlflowException

from attrail_mlflow.registry.errors import registry_error
from attrail_mlflow.registry.searching import newest_run
from attrail_mlflow.registry.tags import COMPLETE_TAG, MODEL_TAG, POLICY_DIGEST_TAG
from attrail_mlflow.runs.audit_run import ROOT, AuditRun
from attrail_mlflow.trail.attestation import Trail
from attrail_monitoring.audit_record import PolicyFacts

FILE = "policy.json"


def post_policy(run: AuditRun, model: str, policy: Mapping[str, Any], digest: str) -> PolicyFacts:
    """Keep a policy in a run that has computed nothing yet, and say how it differs from the model's last audit's.

    RegistryError when MLflow cannot be reached, ConfigError or RecordError when the key or the journal is of no use.
    """
    client = run.registry.client
    Trail.from_environment().note_policy(run.run_id, policy, digest)
    try:
        client.log_dict(run.run_id, dict(policy), f"{ROOT}/{FILE}")
        before = _last_audit(run, model)
        for key, value in ((MODEL_TAG, model), (POLICY_DIGEST_TAG, digest)):
            client.set_tag(run.run_id, key, value)
        started = client.get_run(run.run_id).info.start_time
    except (MlflowException, OSError) as error:
        raise registry_error("the policy cannot be kept in MLflow before the audit", error) from error
    if before is None:
        return PolicyFacts(digest, started)
    changed = () if before.data.tags.get(POLICY_DIGEST_TAG) == digest else _changed(run, before.info.run_id, policy)
    return PolicyFacts(digest, started, before.info.run_id, before.data.tags.get(POLICY_DIGEST_TAG), changed)


def _last_audit(run: AuditRun, model: str) -> Any:
    client = run.registry.client
    experiment = client.get_run(run.run_id).info.experiment_id
    return newest_run(client, experiment, {MODEL_TAG: model, COMPLETE_TAG: "true"})


def _changed(run: AuditRun, other: str, policy: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys whose values differ from the policy of another run, settings by their own names."""
    from mlflow.artifacts import load_dict  # noqa: PLC0415 - it loads pandas

    before, now = (_flat(each) for each in (load_dict(f"runs:/{other}/{ROOT}/{FILE}"), policy))
    return tuple(sorted(key for key in before.keys() | now.keys() if before.get(key) != now.get(key)))


def _flat(values: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{inside}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found
