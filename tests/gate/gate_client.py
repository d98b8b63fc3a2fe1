"""A client of the gate: registers small models, signs what audits would sign, promotes by every route there is."""

import itertools
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import requests
from gated_server import Place
from securesystemslib.signer import CryptoSigner

from attrail_mlflow.registry.folder_digest import digest_folder
from attrail_mlflow.signing.envelope import sign
from attrail_mlflow.signing.keys import new_key, read_signer
from attrail_mlflow.statements.baseline import Baseline, InstrumentCheck
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate
from attrail_mlflow.statements.statement import payload_of
from attrail_mlflow.statements.verdict import VerdictStatement
from attrail_mlflow.statements.waiver import Waiver

API = "api/2.0/mlflow"
NUMBERS = itertools.count()
DRIFT_POLICY = "sha256:" + "1" * 64
OTHER_POLICY = "sha256:" + "2" * 64
SLICE = "sha256:" + "3" * 64
MANIFEST = "sha256:" + "4" * 64
KEY = '[[key]]\nid = "{id}"\nfile = "{name}.pub"\nmay = {may}\nowner = "{name}"\n'
POLICY = 'policies = ["{policy}"]\nslices = ["{slice}"]\nmax_age_days = 30\njournal_key = "gate"\n{more}\n{keys}'
KINDS = {
    "auditor": ["verdict", "baseline"],
    "manager": ["waiver"],
    "exporter": ["bundle"],
    "gate": ["journal"],
}


@dataclass(frozen=True)
class Keys:
    """Signers by name: those of ``KINDS`` are trusted by the policy, ``stranger`` is not."""

    folder: Path

    def __getattr__(self, name: str) -> CryptoSigner:
        return read_signer(self.folder / name)


def write_policy(folder: Path, more: str = "") -> tuple[Path, Keys]:
    """Make the keys and the gate's policy file in a folder."""
    folder.mkdir(exist_ok=True)
    ids = {name: new_key(folder / name) for name in (*KINDS, "stranger")}
    keys = "\n".join(KEY.format(id=ids[name], name=name, may=json.dumps(may)) for name, may in KINDS.items())
    path = folder / "gate.toml"
    path.write_text(POLICY.format(policy=DRIFT_POLICY, slice=SLICE, more=more, keys=keys))
    return path, Keys(folder)


@dataclass(frozen=True)
class Answer:
    """What a server answered: the status, MLflow's error code and message, the gate's reasons."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reasons(self) -> list[str]:
        return list(self.body.get("attrail", {}).get("reasons", []))

    @property
    def message(self) -> str:
        return str(self.body.get("message", ""))

    @property
    def shown(self) -> str:
        return f"{self.status} {', '.join(self.reasons) or self.body.get('error_code', '')}".strip()


@dataclass(frozen=True)
class GateClient:
    """One server and the keys that its policy trusts."""

    place: Place
    keys: Keys
    address: str
    login: tuple[str, str] | None = None
    session: requests.Session = field(default_factory=requests.Session)

    @property
    def artifacts(self) -> Path:
        return self.place.folder / "artifacts"

    # MLflow's routes

    def send(self, method: str, path: str, body: Any = None, **more: Any) -> Answer:
        more.setdefault("auth", self.login)
        answer = self.session.request(method, f"{self.address}/{path}", json=body, timeout=120, **more)
        try:
            found = answer.json()
        except ValueError:
            found = {"message": answer.text}
        return Answer(answer.status_code, found if isinstance(found, dict) else {"message": str(found)})

    def post(self, path: str, api: str = API, **body: Any) -> Answer:
        return self.send("POST", f"{api}/{path}", body)

    def post_text(self, text: str, kind: str = "application/json") -> Answer:
        """Ask for an alias with a body spelt as given."""
        headers = {"Content-Type": kind}
        return self.send("POST", f"{API}/registered-models/alias", data=text.encode(), headers=headers)

    def need(self, path: str, **body: Any) -> Mapping[str, Any]:
        answer = self.post(path, **body)
        assert answer.status == 200, answer
        return answer.body

    def get(self, path: str, **query: Any) -> Mapping[str, Any]:
        return self.send("GET", f"{API}/{path}", params=query).body

    # Models

    def fresh_name(self, prefix: str = "m") -> str:
        name = f"{prefix}{os.getpid()}-{next(NUMBERS)}"
        self.need("registered-models/create", name=name)
        return name

    def version(self, name: str, content: bytes | None = None, **more: Any) -> ModelIdentity:
        """Register a version whose files are an MLmodel and some weights."""
        run = self.need("runs/create", experiment_id="0")["run"]["info"]
        files = {"MLmodel": b"flavors: {}\n", "data/weights.bin": content or os.urandom(400)}
        for path, data in files.items():
            self.upload(f"{run['artifact_uri']}/model/{path}", data)
        return self.register(name, f"{run['artifact_uri']}/model", run_id=run["run_id"], **more)

    def register(self, name: str, source: str, **more: Any) -> ModelIdentity:
        found = self.need("model-versions/create", name=name, source=source, **more)["model_version"]
        return self.with_digest(ModelIdentity(name, str(found["version"]), found["source"], ""))

    def with_digest(self, model: ModelIdentity) -> ModelIdentity:
        folder = self.files(model)
        digest = digest_folder(folder) if folder.is_dir() else "sha256:" + "0" * 64
        return replace(model, artifact_digest=digest, weights_digest="sha256:" + "5" * 64)

    def files(self, model: ModelIdentity) -> Path:
        """Where a version's files lie on the server's disk."""
        return self.artifacts / model.source.removeprefix("mlflow-artifacts:/")

    def upload(self, uri: str, data: bytes) -> int:
        path = uri.removeprefix("mlflow-artifacts:/")
        address = f"{self.address}/api/2.0/mlflow-artifacts/artifacts/{path}"
        return self.session.put(address, data=data, timeout=120, auth=self.login).status_code

    def copy(self, model: ModelIdentity, name: str) -> ModelIdentity:
        """What ``MlflowClient.copy_model_version`` does: another version of the same files, with all its tags."""
        tags = [{"key": key, "value": value} for key, value in self.tags(model).items()]
        copied = self.register(name, f"models:/{model.label}", tags=tags)
        return replace(copied, artifact_digest=model.artifact_digest)

    def tags(self, model: ModelIdentity) -> dict[str, str]:
        found = self.get("model-versions/get", name=model.name, version=model.version)["model_version"]
        return {tag["key"]: tag["value"] for tag in found.get("tags", [])}

    # Evidence

    def verdict(self, model: ModelIdentity, reference: ModelIdentity, **changes: Any) -> VerdictStatement:
        now = datetime.now(UTC).replace(microsecond=0)
        facts: dict[str, Any] = {
            "issued": now,
            "expires": now + timedelta(days=30),
            "model": model,
            "reference": reference,
            "reference_aliases": ("champion",),
            "verdict": "PASS",
            "reason": "every primary statistic stayed within its limit",
            "change": "retrain",
            "tier": "B",
            "slices": {"validation": SLICE},
            "explainers": ({"name": "gradcam", "parameters": {"layer": "bn2"}},),
            "policy_digest": DRIFT_POLICY,
            "run_id": "5c7625910df547c7aecba7d51319f652",
            "manifest_digest": MANIFEST,
        }
        return VerdictStatement(**(facts | changes))

    def baseline(self, model: ModelIdentity, **changes: Any) -> Baseline:
        now = datetime.now(UTC).replace(microsecond=0)
        facts: dict[str, Any] = {
            "issued": now,
            "expires": now + timedelta(days=30),
            "model": model,
            "slices": {"validation": SLICE},
            "explanations": {"validation/gradcam": "sha256:" + "6" * 64},
            "checks": (InstrumentCheck("validation", "gradcam", "random_head", True, {}),),
            "policy_digest": DRIFT_POLICY,
            "run_id": "5c7625910df547c7aecba7d51319f653",
            "manifest_digest": MANIFEST,
        }
        return Baseline(**(facts | changes))

    def waiver(self, model: ModelIdentity, alias: str = "champion", **changes: Any) -> Waiver:
        now = datetime.now(UTC).replace(microsecond=0)
        facts: dict[str, Any] = {
            "issued": now,
            "expires": now + timedelta(hours=2),
            "model": replace(model, weights_digest=None),
            "alias": alias,
            "granted_by": "on-call",
            "reason": "the champion answers with errors",
        }
        return Waiver(**(facts | changes))

    def signed(self, statement: Predicate, *names: str) -> str:
        return sign(payload_of(statement), [getattr(self.keys, name) for name in names]).decode()

    def tag(self, model: ModelIdentity, value: str, key: str = "attrail.statement") -> Answer:
        return self.post("model-versions/set-tag", name=model.name, version=model.version, key=key, value=value)

    def attest(self, statement: Any, *names: str, key: str = "attrail.statement") -> str:
        """Sign a statement, by the auditor unless told otherwise, and let the version it is about carry it."""
        envelope = self.signed(statement, *(names or ("auditor",)))
        answer = self.tag(statement.model, envelope, key)
        assert answer.status == 200, answer
        return envelope

    # Promotions

    def promote(self, model: ModelIdentity, alias: str = "champion", **more: Any) -> Answer:
        body = {"name": model.name, "alias": alias, "version": model.version} | more
        return self.post("registered-models/alias", **body)

    def stage(self, model: ModelIdentity, stage: str = "Production", **more: Any) -> Answer:
        return self.post("model-versions/transition-stage", name=model.name, version=model.version, stage=stage, **more)

    def unset(self, name: str, alias: str = "champion") -> Answer:
        return self.send("DELETE", f"{API}/registered-models/alias", {"name": name, "alias": alias})

    def holder(self, name: str, alias: str = "champion") -> str | None:
        """The version that has an alias."""
        found = self.get("registered-models/alias", name=name, alias=alias).get("model_version")
        return str(found["version"]) if found else None

    def staged(self, name: str) -> set[str]:
        found = self.get("registered-models/get", name=name).get("registered_model", {})
        latest = found.get("latest_versions", [])
        return {str(each["version"]) for each in latest if each["current_stage"] == "Production"}

    # Stories

    def champion(self, name: str | None = None, alias: str = "champion") -> ModelIdentity:
        """A first version that holds an alias by a signed baseline."""
        model = self.version(name or self.fresh_name())
        self.attest(self.baseline(model))
        answer = self.promote(model, alias)
        assert answer.status == 200, answer
        return model

    def successor(self, champion: ModelIdentity, **changes: Any) -> ModelIdentity:
        """A new version with a signed verdict against the champion, PASS unless told otherwise."""
        model = self.version(champion.name)
        self.attest(self.verdict(model, champion, **changes))
        return model
