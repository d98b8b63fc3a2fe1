"""What must hold after every fault, whatever it was: looked up in the servers and on their disks."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
from fault_run import FaultRun, audit_runs
from points import finished_again
from registered import CHEAT, EXPECTED
from restarted_services import RestartedServices

from attrail_explainers.errors import AttrailError
from attrail_mlflow.journal.file import JournalFile
from attrail_mlflow.journal.hash_chain import Event
from attrail_mlflow.journal.journal import read_journal
from attrail_mlflow.registry.folder_digest import file_digest
from attrail_mlflow.registry.tags import ATTRIBUTIONS_TAG, CALIBRATION_TAG, COMPLETE_TAG, STATEMENT_TAG
from attrail_mlflow.runs.attribution_store import KEPT
from attrail_mlflow.runs.audit_run import ROOT
from attrail_mlflow.signing.envelope import read_envelope
from attrail_mlflow.signing.trusted_keys import read_trusted_keys
from attrail_mlflow.statements.statement import statement_from
from attrail_mlflow.trail.inspection import inspect_evidence
from attrail_mlflow.trail.manifest import require_manifest

Document = Mapping[str, Any]
WORKERS = {"threads": 1, "processes": 2}


def artifacts(services: RestartedServices, run: mlflow.entities.Run) -> Path:
    return services.folder / "artifacts" / run.info.experiment_id / run.info.run_id / "artifacts"


def audits(services: RestartedServices, experiment: str) -> list[mlflow.entities.Run]:
    """The runs of audits, the newest first."""
    return [
        each
        for each in audit_runs(services, experiment)
        if not {CALIBRATION_TAG, ATTRIBUTIONS_TAG} & set(each.data.tags)
    ]


def complete(services: RestartedServices, experiment: str, candidate: str) -> list[mlflow.entities.Run]:
    """The complete audits of a candidate, the newest first."""
    found = [each for each in audits(services, experiment) if each.data.tags.get(COMPLETE_TAG) == "true"]
    return [each for each in found if each.data.params["candidate"] == f"models:/digits/{candidate}"]


def document(services: RestartedServices, run: mlflow.entities.Run) -> Document:
    return dict(json.loads((artifacts(services, run) / ROOT / "audit.json").read_text()))


def wrong(services: RestartedServices, fault_run: FaultRun, undisturbed: Document) -> list[str]:
    """Everything that is wrong after an fault_run; nothing when all is well."""
    return [
        *wrong_result(services, fault_run.experiment, fault_run.candidate, undisturbed),
        *half(services, fault_run.experiment),
        *false_pass(services, fault_run.experiment),
        *journal_faults(services, fault_run.experiment),
        *_wrong_work(services, fault_run),
    ]


def wrong_result(services: RestartedServices, experiment: str, candidate: str, undisturbed: Document) -> Iterator[str]:
    runs = complete(services, experiment, candidate)
    if not runs:
        yield "no complete run"
        return
    newest = max(runs, key=lambda run: _issued(services, run))
    found = document(services, newest)
    if found["verdict"] != EXPECTED[candidate]:
        yield f"verdict {found['verdict']}"
    for part in ("maps", "measurements", "verdict", "reason"):
        if found[part] != undisturbed[part]:
            yield f"{part} are not those of an undisturbed audit"
    tags = mlflow.MlflowClient(services.mlflow).get_model_version("digits", candidate).tags
    named = statement_from(read_envelope(tags[STATEMENT_TAG].encode()).payload).run_id
    if not named == tags["attrail.run_id"] == newest.info.run_id:
        yield f"the version carries the statement of {named}, the newest complete run is {newest.info.run_id}"
    if tags["attrail.verdict"] != EXPECTED[candidate]:
        yield f"the version's tag says {tags['attrail.verdict']}"


def _issued(services: RestartedServices, run: mlflow.entities.Run) -> datetime:
    content = (artifacts(services, run) / ROOT / "statement.json").read_bytes()
    return statement_from(read_envelope(content).payload).issued


def half(services: RestartedServices, experiment: str) -> Iterator[str]:
    """Runs that look finished and lack something."""
    trusted = read_trusted_keys(services.folder / "policy/gate.toml")
    for run in audit_runs(services, experiment):
        tags, folder = run.data.tags, artifacts(services, run)
        finished, done = run.info.status == "FINISHED", tags.get(COMPLETE_TAG) == "true"
        try:
            if ATTRIBUTIONS_TAG in tags:
                yield from _missing_shards(run, folder)
            elif finished and not done:
                yield f"half: run {run.info.run_name} is FINISHED and not complete"
            elif done and CALIBRATION_TAG in tags:
                require_manifest(folder / ROOT)
            elif done:
                inspect_evidence(folder / ROOT, trusted)
        except AttrailError as error:
            yield f"half: run {run.info.run_name} looks finished: {error}"


def _missing_shards(run: mlflow.entities.Run, folder: Path) -> Iterator[str]:
    for name, digest in run.data.tags.items():
        path = folder / "attributions" / f"{name.removeprefix(KEPT)}.safetensors"
        if name.startswith(KEPT) and (not path.is_file() or file_digest(path) != digest):
            yield f"half: run {run.info.run_name} calls {path.name} complete, which it is not"


def false_pass(services: RestartedServices, experiment: str) -> Iterator[str]:
    """A PASS for the cheat anywhere: in a run, complete or not, on the version, in the journal."""
    for run in audits(services, experiment):
        cheat = run.data.params.get("candidate") == f"models:/digits/{CHEAT}"
        if cheat and run.data.tags.get("attrail.verdict", "DRIFT") != "DRIFT":
            yield f"false PASS: run {run.info.run_id}: {run.data.tags['attrail.verdict']}"
    tags = mlflow.MlflowClient(services.mlflow).get_model_version("digits", CHEAT).tags
    if tags.get("attrail.verdict", "DRIFT") != "DRIFT":
        yield f"false PASS: digits/{CHEAT} carries it"


def journal_faults(services: RestartedServices, experiment: str) -> Iterator[str]:
    """What is wrong with the worker's journal, and audits of an experiment that are not in it exactly once."""
    store = JournalFile(services.folder / "journal/audits.jsonl")
    try:
        records = list(read_journal(store, read_trusted_keys(services.folder / "policy/gate.toml")))
    except AttrailError as error:
        yield f"journal: {error}"
        return
    found = Counter(each.body["run_id"] for each in records if each.event == Event.AUDIT)
    for run in audits(services, experiment):
        times, done = found[run.info.run_id], run.data.tags.get(COMPLETE_TAG) == "true"
        if times > 1 or (done and times != 1):
            yield f"twice: run {run.info.run_id} is {times} times in the journal"
    for each in records:
        if each.event == Event.AUDIT and each.body["model"]["version"] == CHEAT and each.body["verdict"] != "DRIFT":
            yield f"false PASS: record {each.index} of the journal"


def _wrong_work(services: RestartedServices, fault_run: FaultRun) -> Iterator[str]:
    twice = finished_again(fault_run.trace)
    if twice:
        yield f"twice: finished shards were computed again: {twice}"
    again, allowed = sum(each.again for each in fault_run.hits), WORKERS[fault_run.runner] * len(fault_run.hits)
    if again > allowed:
        yield f"twice: {again} shards were computed again, {allowed} may be"
    kept = Counter(
        name for run in audit_runs(services, fault_run.experiment) for name in run.data.tags if name.startswith(KEPT)
    )
    if kept and max(kept.values()) > 1:
        yield f"twice: {sum(each > 1 for each in kept.values())} files are kept twice"
