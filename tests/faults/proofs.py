"""What must hold after every fault, whatever it was: looked up in the servers and on their disks."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import mlflow
from arena import Arena
from ordeal import Ordeal, audit_runs
from points import finished_again
from registered import CHEAT, EXPECTED

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


def artifacts(stage: Arena, run: mlflow.entities.Run) -> Path:
    return stage.folder / "artifacts" / run.info.experiment_id / run.info.run_id / "artifacts"


def audits(stage: Arena, experiment: str) -> list[mlflow.entities.Run]:
    """The runs of audits, the newest first."""
    return [
        each for each in audit_runs(stage, experiment) if not {CALIBRATION_TAG, ATTRIBUTIONS_TAG} & set(each.data.tags)
    ]


def complete(stage: Arena, experiment: str, candidate: str) -> list[mlflow.entities.Run]:
    """The complete audits of a candidate, the newest first."""
    found = [each for each in audits(stage, experiment) if each.data.tags.get(COMPLETE_TAG) == "true"]
    return [each for each in found if each.data.params["candidate"] == f"models:/digits/{candidate}"]


def document(stage: Arena, run: mlflow.entities.Run) -> Document:
    return dict(json.loads((artifacts(stage, run) / ROOT / "audit.json").read_text()))


def wrong(stage: Arena, ordeal: Ordeal, undisturbed: Document) -> list[str]:
    """Everything that is wrong after an ordeal; nothing when all is well."""
    return [
        *wrong_result(stage, ordeal.experiment, ordeal.candidate, undisturbed),
        *half(stage, ordeal.experiment),
        *false_pass(stage, ordeal.experiment),
        *journal_faults(stage, ordeal.experiment),
        *_wrong_work(stage, ordeal),
    ]


def wrong_result(stage: Arena, experiment: str, candidate: str, undisturbed: Document) -> Iterator[str]:
    runs = complete(stage, experiment, candidate)
    if not runs:
        yield "no complete run"
        return
    newest = max(runs, key=lambda run: _issued(stage, run))
    found = document(stage, newest)
    if found["verdict"] != EXPECTED[candidate]:
        yield f"verdict {found['verdict']}"
    for part in ("maps", "measurements", "verdict", "reason"):
        if found[part] != undisturbed[part]:
            yield f"{part} are not those of an undisturbed audit"
    tags = mlflow.MlflowClient(stage.mlflow).get_model_version("digits", candidate).tags
    named = statement_from(read_envelope(tags[STATEMENT_TAG].encode()).payload).run_id
    if not named == tags["attrail.run_id"] == newest.info.run_id:
        yield f"the version carries the statement of {named}, the newest complete run is {newest.info.run_id}"
    if tags["attrail.verdict"] != EXPECTED[candidate]:
        yield f"the version's tag says {tags['attrail.verdict']}"


def _issued(stage: Arena, run: mlflow.entities.Run) -> datetime:
    content = (artifacts(stage, run) / ROOT / "statement.json").read_bytes()
    return statement_from(read_envelope(content).payload).issued


def half(stage: Arena, experiment: str) -> Iterator[str]:
    """Runs that look finished and lack something."""
    trusted = read_trusted_keys(stage.folder / "policy/gate.toml")
    for run in audit_runs(stage, experiment):
        tags, folder = run.data.tags, artifacts(stage, run)
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


def false_pass(stage: Arena, experiment: str) -> Iterator[str]:
    """A PASS for the cheat anywhere: in a run, complete or not, on the version, in the journal."""
    for run in audits(stage, experiment):
        cheat = run.data.params.get("candidate") == f"models:/digits/{CHEAT}"
        if cheat and run.data.tags.get("attrail.verdict", "DRIFT") != "DRIFT":
            yield f"false PASS: run {run.info.run_id}: {run.data.tags['attrail.verdict']}"
    tags = mlflow.MlflowClient(stage.mlflow).get_model_version("digits", CHEAT).tags
    if tags.get("attrail.verdict", "DRIFT") != "DRIFT":
        yield f"false PASS: digits/{CHEAT} carries it"


def journal_faults(stage: Arena, experiment: str) -> Iterator[str]:
    """What is wrong with the worker's journal, and audits of an experiment that are not in it exactly once."""
    store = JournalFile(stage.folder / "journal/audits.jsonl")
    try:
        records = list(read_journal(store, read_trusted_keys(stage.folder / "policy/gate.toml")))
    except AttrailError as error:
        yield f"journal: {error}"
        return
    found = Counter(each.body["run_id"] for each in records if each.event == Event.AUDIT)
    for run in audits(stage, experiment):
        times, done = found[run.info.run_id], run.data.tags.get(COMPLETE_TAG) == "true"
        if times > 1 or (done and times != 1):
            yield f"twice: run {run.info.run_id} is {times} times in the journal"
    for each in records:
        if each.event == Event.AUDIT and each.body["model"]["version"] == CHEAT and each.body["verdict"] != "DRIFT":
            yield f"false PASS: record {each.index} of the journal"


def _wrong_work(stage: Arena, ordeal: Ordeal) -> Iterator[str]:
    twice = finished_again(ordeal.trace)
    if twice:
        yield f"twice: finished shards were computed again: {twice}"
    again, allowed = sum(each.again for each in ordeal.hits), WORKERS[ordeal.runner] * len(ordeal.hits)
    if again > allowed:
        yield f"twice: {again} shards were computed again, {allowed} may be"
    kept = Counter(
        name for run in audit_runs(stage, ordeal.experiment) for name in run.data.tags if name.startswith(KEPT)
    )
    if kept and max(kept.values()) > 1:
        yield f"twice: {sum(each > 1 for each in kept.values())} files are kept twice"
