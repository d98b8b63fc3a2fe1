"""The baseline's run in MLflow: the evidence for a first champion, signed and carried by the version."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from attrail_explainers.attributions import Attributions, save_attributions
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.registry.registry import RegisteredVersion
from attrail_mlflow.registry.tags import COMPLETE_TAG, STATEMENT_TAG
from attrail_mlflow.runs.audit_run import AuditRun
from attrail_mlflow.statements.baseline import Baseline, InstrumentCheck
from attrail_mlflow.statements.predicate import ModelIdentity
from attrail_mlflow.trail.attestation import Trail
from attrail_mlflow.trail.manifest import manifest_digest

FORMAT = "attrail.baseline/1"


@dataclass(frozen=True, eq=False)
class BaselineEvidence:
    """What a baseline rests on. ``slices`` maps names to digests; the policy is the drift policy with its digest."""

    maps: Sequence[Attributions]
    slices: Mapping[str, str]
    checks: Sequence[InstrumentCheck]
    policy: Mapping[str, Any]
    policy_digest: str
    config: Mapping[str, Any]
    environment: Mapping[str, str]

    def write(self, folder: Path, model: ModelIdentity) -> None:
        """Write every file below ``folder``: baseline.json, config.json, policy.json, environment.json and the maps."""
        document = {
            "format": FORMAT,
            "model": asdict(model),
            "slices": dict(self.slices),
            "explanations": self.explanations(),
            "checks": [asdict(each) for each in self.checks],
            "policy_digest": self.policy_digest,
        }
        files = {"baseline": document, "config": self.config, "policy": self.policy, "environment": self.environment}
        for name, content in files.items():
            (folder / f"{name}.json").write_text(json.dumps(content, indent=1, default=dict) + "\n", encoding="utf-8")
        for each in self.maps:
            save_attributions(each, folder / "maps" / each.slice_name / each.explainer / "baseline.safetensors")

    def statement(self, model: ModelIdentity, run_id: str, manifest: str, valid_for: timedelta) -> Baseline:
        """The baseline that is signed, from now on; ``manifest`` is the digest of the manifest of these files."""
        now = datetime.now(UTC).replace(microsecond=0)
        return Baseline(
            issued=now,
            expires=now + valid_for,
            model=model,
            slices=self.slices,
            explanations=self.explanations(),
            checks=tuple(self.checks),
            policy_digest=self.policy_digest,
            run_id=run_id,
            manifest_digest=manifest,
        )

    def explanations(self) -> dict[str, str]:
        """Digests of the maps by slice/explainer."""
        return {f"{each.slice_name}/{each.explainer}": each.digest for each in self.maps}


def keep_baseline(
    run: AuditRun, version: RegisteredVersion, weights_digest: str, evidence: BaselineEvidence, folder: Path
) -> Baseline:
    """Keep a baseline's files in a run, signed if this process has a key; the version carries the statement as a tag.

    Raises RecordError when a file did not arrive, the version was not loaded here or its statement is too long for a
    tag, ConfigError when the key or the journal is of no use, RegistryError when MLflow refuses or stays away.
    """
    client, trail = run.registry.client, Trail.from_environment()
    model = run.registry.identity(version, weights_digest)
    evidence.write(folder, model)
    manifest = trail.list_files(folder)
    statement = evidence.statement(model, run.run_id, manifest_digest(folder), trail.valid_for)
    envelope = trail.carried(statement)
    body = {
        "run_id": run.run_id,
        "model": {"name": model.name, "version": model.version},
        "policy_digest": evidence.policy_digest,
        "passed": passed(evidence.checks),
    }
    run.send_noted(folder, manifest, envelope, lambda: trail.note(Event.BASELINE, body))
    with run.keeping():
        client.set_model_version_tag(version.name, version.version, STATEMENT_TAG, envelope.decode())
        client.set_tag(run.run_id, COMPLETE_TAG, "true")
    return statement


def passed(checks: Sequence[InstrumentCheck]) -> bool:
    """Whether the explainers can be relied on: there are checks, and none failed."""
    return bool(checks) and all(each.passed for each in checks)
