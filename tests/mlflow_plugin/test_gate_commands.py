"""The commands of the gate, against a real server: exit statuses, and what is printed."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import mlflow
import pytest
from click.testing import CliRunner, Result
from gate_client import API, GateClient

from attrail_explainers.errors import RegistryError
from attrail_flows.commands.gate import gate, reconcile, waive
from attrail_mlflow.gate.client import Candidate
from attrail_mlflow.gate.policy import read_gate_policy
from attrail_mlflow.gate.reconciliation import held_roles
from attrail_mlflow.registry.registry import Registry

Run = Callable[..., Result]


@pytest.fixture
def run(gate_client: GateClient) -> Iterator[Run]:
    """A command with its arguments, told where the server and the policy are."""
    before = mlflow.get_tracking_uri()
    where = {"MLFLOW_TRACKING_URI": gate_client.address, "ATTRAIL_GATE_POLICY": str(gate_client.place.policy)}

    def invoke(command, *arguments: str, **environment: str) -> Result:
        return CliRunner(env=where | environment).invoke(command, arguments)

    yield invoke
    mlflow.set_tracking_uri(before)


def test_a_version_with_evidence_is_promoted(run: Run, gate_client: GateClient) -> None:
    model = gate_client.successor(gate_client.champion())
    done = run(gate, f"models:/{model.label}")
    assert done.exit_code == 0, done.output
    assert f"evidence  {model.label} may become champion: a signed verdict covers it" in done.output
    assert f"promoted  {model.label} is champion" in done.output
    assert gate_client.holder(model.name) == model.version


def test_a_dry_run_changes_nothing(run: Run, gate_client: GateClient) -> None:
    champion = gate_client.champion()
    model = gate_client.successor(champion)
    assert run(gate, f"models:/{model.label}", "--dry-run").exit_code == 0
    assert gate_client.holder(model.name) == champion.version


@pytest.mark.parametrize(
    ("verdict", "status", "reason"), [("DRIFT", 1, "verdict-drift"), ("INCONCLUSIVE", 3, "verdict-inconclusive")]
)
@pytest.mark.parametrize("policy", [True, False], ids=["looked at here", "refused by the server"])
def test_a_refusal_has_the_audits_exit_status(
    verdict: str, status: int, reason: str, policy: bool, run: Run, gate_client: GateClient
) -> None:
    model = gate_client.successor(gate_client.champion(), verdict=verdict)
    done = run(gate, f"models:/{model.label}", **({} if policy else {"ATTRAIL_GATE_POLICY": ""}))
    assert done.exit_code == status, done.output
    assert done.output.startswith("REFUSED   ")
    assert done.output.count(f"[{reason}]") == 1
    assert f"{model.label} may not become champion: the verdict is {verdict}" in done.output


@pytest.mark.parametrize("policy", [True, False], ids=["looked at here", "refused by the server"])
@pytest.mark.parametrize("gone", [True, False], ids=["removed", "swapped"])
def test_a_champion_whose_files_changed_is_named_with_the_way_out(
    gone: bool, policy: bool, run: Run, gate_client: GateClient
) -> None:
    champion = gate_client.champion()
    model = gate_client.successor(champion)
    shutil.rmtree(gate_client.files(champion))
    if not gone:
        gate_client.upload(f"{champion.source}/MLmodel", b"flavors: {}\n")
    done = run(gate, f"models:/{model.label}", **({} if policy else {"ATTRAIL_GATE_POLICY": ""}))
    assert done.exit_code == 3, done.output
    assert (
        f"{model.label} may not become champion: the files of {champion.label}, which is champion, are not those that "
        "the candidate was compared with: restore them and audit again, or ask for a waiver [stale-reference]"
    ) in done.output
    assert "evidence  " not in done.output
    assert gate_client.holder(model.name) == champion.version


def test_what_mlflow_refuses_is_one_sentence(gate_client: GateClient) -> None:
    model = gate_client.successor(gate_client.champion())
    candidate = Candidate.find(Registry(gate_client.address), f"models:/{model.label}")
    body = {"name": model.name, "version": model.version}
    assert gate_client.send("DELETE", f"{API}/model-versions/delete", body).status == 200
    for step in (partial(candidate.promote, "champion"), partial(candidate.carry, "attrail.waiver", b"{}")):
        with pytest.raises(RegistryError, match=r"be set|be promoted") as raised:
            step()
        said = str(raised.value)
        assert f"(MLflow at {gate_client.address} says: " in said
        assert f"Model Version (name={model.name}, version={model.version}) not found" in said
        assert "\n" not in said
        assert not raised.value.transient


def test_what_only_the_server_knows_is_the_servers_to_refuse(run: Run, gate_client: GateClient) -> None:
    """The alias was removed, so a client sees no champion, and takes the baseline for good."""
    champion = gate_client.champion()
    gate_client.unset(champion.name)
    model = gate_client.version(champion.name)
    gate_client.attest(gate_client.baseline(model))
    done = run(gate, f"models:/{model.label}")
    assert done.exit_code == 3
    assert "evidence  " in done.output
    assert "[not-first]" in done.output


@pytest.mark.parametrize("gone", ["alias", "version"])
def test_a_verdict_against_who_held_the_alias_last_counts_here_too(
    gone: str, run: Run, gate_client: GateClient
) -> None:
    champion = gate_client.champion()
    model = gate_client.successor(champion)
    if gone == "alias":
        gate_client.unset(champion.name)
    else:
        body = {"name": champion.name, "version": champion.version}
        assert gate_client.send("DELETE", f"{API}/model-versions/delete", body).status == 200
    done = run(gate, f"models:/{model.label}")
    assert done.exit_code == 0, done.output
    assert f"if {champion.label} was the last to be champion, which the server knows" in done.output
    assert gate_client.holder(model.name) == model.version


def test_an_alias_in_another_spelling_is_refused_here_too(run: Run, gate_client: GateClient) -> None:
    model = gate_client.successor(gate_client.champion())
    for options in ([], ["--dry-run"]):
        done = run(gate, f"models:/{model.label}", "--alias", "Champion", *options)
        assert done.exit_code == 3
        assert "the protected alias is written 'champion' [misspelt]" in done.output
        assert "evidence  " not in done.output


def test_a_logged_models_id_is_promoted_and_waived(run: Run, gate_client: GateClient, tmp_path: Path) -> None:
    """MLflow 3 prints models:/m-... everywhere; what is promoted is the one version that has its files."""
    mlflow.set_tracking_uri(gate_client.address)
    client, name = mlflow.MlflowClient(), gate_client.fresh_name()
    logged = [client.create_logged_model("0", name="model").model_id for _ in range(2)]
    for each in logged:
        (tmp_path / "MLmodel").write_text(f"model_id: {each}\n")
        client.log_model_artifacts(each, str(tmp_path))
        client.finalize_logged_model(each, "READY")
        client.create_model_version(name, f"models:/{each}", model_id=each)
    manager = {"ATTRAIL_SIGNING_KEY": str(gate_client.keys.folder / "manager")}
    assert run(gate, f"models:/{logged[0]}").exit_code == 3
    assert run(waive, f"models:/{logged[0]}", "--reason", "the first", **manager).exit_code == 0
    done = run(gate, f"models:/{logged[0]}")
    assert (done.exit_code, gate_client.holder(name)) == (0, "1"), done.output
    client.create_model_version(name, f"models:/{logged[1]}", model_id=logged[1])
    assert f"registered as models:/{name}/2, models:/{name}/3: write which one" in str(
        run(gate, f"models:/{logged[1]}").exception
    )


def test_a_waiver_is_granted_and_used(run: Run, gate_client: GateClient) -> None:
    model = gate_client.version(gate_client.champion().name)
    key = {"ATTRAIL_SIGNING_KEY": str(gate_client.keys.folder / "manager")}
    done = run(waive, f"models:/{model.label}", "--reason", "the champion is down", "--hours", "2", **key)
    assert done.exit_code == 0, done.output
    assert f"waived    {model.label} may become champion once, until " in done.output
    done = run(gate, f"models:/{model.label}")
    assert done.exit_code == 0, done.output
    assert "a signed waiver covers it" in done.output


def test_a_waiver_must_be_signed(run: Run, gate_client: GateClient) -> None:
    done = run(waive, "models:/m/1", "--reason", "x", ATTRAIL_SIGNING_KEY="")
    assert "a waiver must be signed" in str(done.exception)


@pytest.mark.parametrize(
    ("words", "said"),
    [(["m/1"], "is no model URI"), (["models:/nowhere/1"], "has no version"), (["m/1", "--dry-run"], "is no model")],
)
def test_what_cannot_be_asked_is_said(words: list[str], said: str, run: Run) -> None:
    done = run(gate, *words)
    assert done.exit_code == 1
    assert said in str(done.exception)


def test_an_alias_that_is_not_protected_needs_no_gate(run: Run, gate_client: GateClient) -> None:
    done = run(gate, f"models:/{gate_client.champion().label}", "--alias", "challenger")
    assert "the policy does not protect the alias 'challenger'" in str(done.exception)


def test_who_holds_a_role_without_evidence_is_reported_and_hides_nobody_else(run: Run, gate_client: GateClient) -> None:
    """Files that were swapped, files that are gone, and half a prompt, which MLflow lists and does not show."""
    swapped, gone = gate_client.champion(), gate_client.champion()
    gate_client.upload(f"{swapped.source}/data/weights.bin", b"evil")
    shutil.rmtree(gate_client.artifacts / gone.source.removeprefix("mlflow-artifacts:/"))
    half = gate_client.fresh_name("p")
    tag = {"key": "mlflow.prompt.is_prompt", "value": "true"}
    assert gate_client.promote(gate_client.register(half, "dummy-source", tags=[tag])).status == 200
    gate_client.post("registered-models/rename", name=half, new_name=gate_client.fresh_name("r"))
    good = gate_client.champion()
    done = run(reconcile)
    assert done.exit_code == 3, done.output
    assert f"ok        {good.label} is champion by a signed baseline" in done.output
    assert f"DOUBTFUL  {swapped.label} is champion: its files are not those its statement is about" in done.output
    (told,) = [line for line in done.output.splitlines() if f" {gone.label} is champion" in line]
    assert told.startswith("DOUBTFUL")
    assert "holds no files: a model was expected" in told
    assert f"DOUBTFUL  {half} is listed, but MLflow does not show it" in done.output


def test_a_revoked_key_is_reported(run: Run, gate_client: GateClient) -> None:
    champion = gate_client.champion()
    policy = read_gate_policy(gate_client.place.policy, serving=False)
    revoked = [key.id for key in policy.trusted if key.owner == "auditor"]
    policy.trusted.keys.pop(revoked[0])  # type: ignore[attr-defined]
    found = {each.model.label: each.reasons for each in held_roles(Registry(gate_client.address), policy)}
    assert found[champion.label] == ("untrusted-key",)


def test_a_waiver_that_cannot_be_journaled_is_not_valid(run: Run, gate_client: GateClient) -> None:
    model = gate_client.version(gate_client.champion().name)
    own = {
        "ATTRAIL_SIGNING_KEY": str(gate_client.keys.folder / "manager"),
        "ATTRAIL_JOURNAL": str(gate_client.keys.folder),
        "ATTRAIL_TRUSTED_KEYS": str(gate_client.place.policy),
    }
    assert run(waive, f"models:/{model.label}", "--reason", "x", **own).exception is not None
    assert "attrail.waiver" not in gate_client.tags(model)


@pytest.mark.parametrize(
    ("key", "more", "said"),
    [
        ("auditor", (), "may not sign a waiver: the policy trusts it for baseline, verdict alone"),
        ("stranger", (), "may not sign a waiver: the policy does not trust it"),
        ("manager", ("--alias", "challenger"), "does not protect the alias 'challenger'"),
    ],
)
def test_a_waiver_that_the_gate_would_refuse_is_not_granted(
    key: str, more: tuple[str, ...], said: str, run: Run, gate_client: GateClient
) -> None:
    model = gate_client.champion()
    own = {"ATTRAIL_SIGNING_KEY": str(gate_client.keys.folder / key)}
    assert said in str(run(waive, f"models:/{model.label}", "--reason", "x", *more, **own).exception)
    assert "attrail.waiver" not in gate_client.tags(model)


def test_a_waiver_too_long_for_a_tag_is_refused_before_it_is_journaled(
    run: Run, gate_client: GateClient, tmp_path: Path
) -> None:
    model = gate_client.champion()
    own = {
        "ATTRAIL_SIGNING_KEY": str(gate_client.keys.folder / "manager"),
        "ATTRAIL_JOURNAL": str(tmp_path / "journal.jsonl"),
    }
    done = run(waive, f"models:/{model.label}", "--reason", "x" * 80_000, **own)
    assert "MLflow keeps no tag longer than 100000: give a shorter reason" in str(done.exception)
    assert not (tmp_path / "journal.jsonl").exists()
