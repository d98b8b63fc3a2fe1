"""The audit's run in MLflow: marked finished only when every file of it is there."""

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlparse

from mlflow.entities import Dataset, DatasetInput, LoggedModelInput, Metric, Param, RunTag

from attrail_explainers.errors import RecordError
from attrail_mlflow.registry.errors import asking
from attrail_mlflow.registry.experiments import experiment_id
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.registry.retries import patiently
from attrail_mlflow.registry.tags import (
    COMPLETE_TAG,
    REASON_TAG,
    REFERENCE_TAG,
    RUN_ID_TAG,
    SEQUENCE_TAG,
    STATEMENT_TAG,
    VERDICT_TAG,
)
from attrail_mlflow.runs.ending import finishing
from attrail_mlflow.trail.attestation import Trail
from attrail_mlflow.trail.manifest import MANIFEST, STATEMENT_FILE
from attrail_monitoring.audit_record import AuditRecord
from attrail_monitoring.maps.strata import HEADLINES
from attrail_monitoring.verdict.judged import DECISIONS

ROOT = "attrail"


@dataclass(frozen=True)
class AuditRun:
    """An MLflow run that holds one audit."""

    registry: Registry
    run_id: str
    artifact_uri: str

    def location(self, name: str) -> str:
        """Where one of the audit's files is: a path when the artifact store is a local folder, else a runs:/ URI."""
        parts = urlparse(self.artifact_uri)
        if parts.scheme in ("", "file"):
            return str(Path(unquote(parts.path), ROOT, name))
        return f"runs:/{self.run_id}/{ROOT}/{name}"

    def keep(
        self, record: AuditRecord, folder: Path, reference: RegisteredVersion, candidate: RegisteredVersion
    ) -> None:
        """Log parameters, metrics, links to both versions and every file of ``folder``, then check that all arrived.

        The files get a manifest and a statement, signed if this process has a key (``attestation``), which the
        candidate carries as a tag. Once the journal has the statement only that itself and tags are left to be kept,
        and that is tried until it is done: an audit is in the journal once. Raises RecordError when a file is missing
        in the store afterwards, RegistryError when MLflow stays away.
        """
        client, trail = self.registry.client, Trail.from_environment()
        models = [LoggedModelInput(each.model_id) for each in (reference, candidate) if each.model_id]
        with self.keeping():
            client.log_batch(self.run_id, metrics=_metrics(record), params=_parameters(record), tags=_tags(record))
            client.log_inputs(self.run_id, datasets=_datasets(record), models=models)
        attested = trail.attest(
            folder,
            record.document(),
            self.registry.identity(candidate, record.candidate.weights_digest),
            self.registry.identity(reference, record.reference.weights_digest),
            self.registry.aliases(reference),
        )
        self.send_noted(folder, attested.manifest, attested.envelope, lambda: trail.note_audit(attested))
        patiently(lambda: self._publish(record, candidate, attested.envelope))

    def keeping(self) -> contextlib.AbstractContextManager[None]:
        """Write to the run or its version in the block; RegistryError when MLflow refuses or cannot be reached."""
        return asking(f"run {self.run_id}: MLflow did not keep the audit")

    def send_noted(self, folder: Path, manifest: Mapping[str, str], envelope: bytes, note: Callable[[], None]) -> None:
        """Log a folder's files, ``note`` them in the journal, and only then log their statement.

        Whoever can read a signed statement can show it to the gate, so it is not there before the journal has it.
        Raises what ``send`` and ``note`` raise.
        """
        (folder / STATEMENT_FILE).unlink(missing_ok=True)
        self.send(folder, {*manifest, MANIFEST})
        note()
        (folder / STATEMENT_FILE).write_bytes(envelope)
        patiently(lambda: self._send_statement(folder / STATEMENT_FILE))

    def send(self, folder: Path, names: set[str]) -> None:
        """Log a folder's files; RecordError when one of the ``names`` is missing in the store afterwards.

        Raises RegistryError when MLflow stays away.
        """
        missing = names - patiently(lambda: self._sent(folder))
        if missing:
            raise RecordError(f"run {self.run_id}: {len(missing)} files did not arrive, first {sorted(missing)[0]}")

    def _publish(self, record: AuditRecord, candidate: RegisteredVersion, envelope: bytes) -> None:
        """Let the version carry the statement and call the run complete; done twice it is as once."""
        client, tags = self.registry.client, {STATEMENT_TAG: envelope.decode()} | _version_tags(record, self.run_id)
        with self.keeping():
            for key, value in tags.items():  # the statement first: where it is refused, nothing else may change
                client.set_model_version_tag(candidate.name, candidate.version, key, value)
            client.set_tag(self.run_id, COMPLETE_TAG, "true")

    def _send_statement(self, path: Path) -> None:
        with asking(f"run {self.run_id}: MLflow did not take the statement"):
            self.registry.client.log_artifact(self.run_id, str(path), ROOT)

    def _sent(self, folder: Path) -> set[str]:
        """Log a folder's files and say which are there then."""
        with asking(f"run {self.run_id}: MLflow did not take the files"):
            self.registry.client.log_artifacts(self.run_id, str(folder), ROOT)
            return {path.removeprefix(f"{ROOT}/") for path in self._artifacts(ROOT)}

    def _artifacts(self, path: str) -> Iterator[str]:
        for each in self.registry.client.list_artifacts(self.run_id, path):
            if each.is_dir:
                yield from self._artifacts(each.path)
            else:
                yield each.path


@contextlib.contextmanager
def audit_run(registry: Registry, experiment: str, name: str) -> Iterator[AuditRun]:
    """A run for one audit that ends with the block as ``finishing`` says; RegistryError when it cannot be begun."""
    run = open_run(registry, experiment, name)
    with finishing(registry, run.run_id):
        yield run


def open_run(registry: Registry, experiment: str, name: str) -> AuditRun:
    """Begin a run; RegistryError when MLflow refuses or cannot be reached."""
    client = registry.client
    with asking("the audit's run cannot be started in MLflow"):
        info = client.create_run(experiment_id(client, experiment), run_name=name, tags={COMPLETE_TAG: "false"}).info
    return AuditRun(registry, info.run_id, info.artifact_uri)


def _metrics(record: AuditRecord) -> list[Metric]:
    """What the verdict rests on; other strata and classes are in measurements.csv."""
    found: dict[str, float] = {}
    for row in (each.row() for each in record.report.findings if each.measurement.stratum in HEADLINES):
        for part in ("value", "lower", "upper", "limit", "undefined"):
            if row[part] is not None:
                found[f"{row['slice']}/{row['explainer']}/{row['statistic']}/{part}"] = float(row[part])
    for row in (each.row() for each in record.report.decisions if not each.measurement.localised):
        for part in ("value", "lower", "upper", "limit"):
            found[f"{row['slice']}/{DECISIONS}/{row['statistic']}/{part}"] = float(row[part])
    for each in record.slices:
        for model in (record.reference, record.candidate):
            if model.label in each.accuracy:
                found[f"{each.name}/accuracy/{model.role}"] = each.accuracy[model.label]
    return [Metric(key, value, 0, 0) for key, value in found.items()]


def _parameters(record: AuditRecord) -> list[Param]:
    facts = {
        "reference": record.reference.uri,
        "candidate": record.candidate.uri,
        "change": record.change,
        "floor": ", ".join(each.uri for each in record.floor) or "none",
        "policy_digest": record.report.policy_digest,
    }
    facts |= {f"slice.{each.name}": each.digest for each in record.slices}
    for each in record.explainers:
        facts[f"explainer.{each['name']}"] = json.dumps(each["parameters"], sort_keys=True)
    return [Param(key, value) for key, value in facts.items()]


def _tags(record: AuditRecord) -> list[RunTag]:
    tags = {VERDICT_TAG: record.report.verdict.value, REASON_TAG: record.report.reason}
    if record.sequence is not None:
        tags[SEQUENCE_TAG] = record.sequence["name"]
    return [RunTag(key, value) for key, value in tags.items()]


def _version_tags(record: AuditRecord, run_id: str) -> dict[str, str]:
    return {
        RUN_ID_TAG: run_id,
        VERDICT_TAG: record.report.verdict.value,
        REFERENCE_TAG: record.reference.uri,
    }


def _datasets(record: AuditRecord) -> list[DatasetInput]:
    """The slices as MLflow dataset inputs; MLflow cuts digests at 36 characters, the whole one is in audit.json."""
    return [
        DatasetInput(
            Dataset(each.name, each.digest.removeprefix("sha256:")[:36], "local", json.dumps({"uri": each.source}))
        )
        for each in record.slices
    ]
