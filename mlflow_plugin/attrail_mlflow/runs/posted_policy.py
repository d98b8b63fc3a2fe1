"""The policy's notice: kept in an audit's run before anything is computed, beside the policy of the audit before it."""

from collections.abc import Mapping
from typing import Any

from mlflow.artifacts import load_dict

from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.searching import newest_complete_run
from attrail_mlflow.registry.tags import MODEL_TAG, POLICY_DIGEST_TAG
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
    with asking("the policy cannot be kept in MLflow before the audit"):
        client.log_dict(run.run_id, dict(policy), f"{ROOT}/{FILE}")
        for key, value in ((MODEL_TAG, model), (POLICY_DIGEST_TAG, digest)):
            client.set_tag(run.run_id, key, value)
        this = client.get_run(run.run_id).info
        last = newest_complete_run(client, this.experiment_id, MODEL_TAG, model)
        if last is None:
            return PolicyFacts(digest, this.start_time)
        before = last.data.tags.get(POLICY_DIGEST_TAG)
        changed = () if before == digest else _changed(_policy_of(last.info.run_id), policy)
    return PolicyFacts(digest, this.start_time, last.info.run_id, before, changed)


def _policy_of(run_id: str) -> dict[str, Any]:
    with asking(f"the policy of the audit before this one, in run {run_id}, cannot be read"):
        found: dict[str, Any] = load_dict(f"runs:/{run_id}/{ROOT}/{FILE}")
        return found


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, ...]:
    """Keys whose values differ between two policies, settings by their own names."""
    old, new = _flat(before), _flat(now)
    return tuple(sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key)))


def _flat(values: Mapping[str, Any], inside: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{inside}{key}"
        found |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return found
