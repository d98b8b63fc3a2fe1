"""Ways around the gate. Each tries to give a version a role it has no right to, and says what must come back.

An attack is a function of a gate_client and of the scene it is played in, and returns the answer to its last step: the
promotion. Afterwards the protected roles must be held by whom they were.
"""

import base64
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest import mock

from gate_client import API, KEY, OTHER_POLICY, Answer, GateClient

from attrail_mlflow.registry.folder_digest import digest_folder
from attrail_mlflow.statements.baseline import InstrumentCheck
from attrail_mlflow.statements.bundle_seal import Seal
from attrail_mlflow.statements.predicate import ModelIdentity

AJAX = "ajax-api/2.0/mlflow"
PASS_TAGS = [{"key": "attrail.verdict", "value": "PASS"}, {"key": "attrail.run_id", "value": "0" * 32}]
PROMPT = {"key": "mlflow.prompt.is_prompt", "value": "true"}
DAY = timedelta(days=1)


@dataclass
class Scene:
    """A model whose version 1 is champion by a signed baseline. ``holder`` is who must be champion in the end."""

    gate_client: GateClient
    champion: ModelIdentity
    holder: str | None = None
    staged: frozenset[str] = frozenset()

    @property
    def name(self) -> str:
        return self.champion.name

    def promoted(self, **changes: object) -> ModelIdentity:
        """A successor that became champion honestly."""
        model = self.gate_client.successor(self.champion, **changes)
        assert self.gate_client.promote(model).status == 200
        self.holder = model.version
        return model


@dataclass(frozen=True)
class Attack:
    name: str
    expected: str
    play: Callable[[GateClient, Scene], Answer]

    def __call__(self, gate_client: GateClient) -> Answer:
        """Play the attack and return what came back, once it is sure that nobody got a role by it."""
        champion = gate_client.champion()
        scene = Scene(gate_client, champion, champion.version)
        answer = self.play(gate_client, scene)
        assert gate_client.holder(scene.name) == scene.holder, answer
        assert gate_client.holder(scene.name, "production") is None, answer
        assert gate_client.staged(scene.name) == scene.staged, answer
        assert self.expected in answer.shown, answer
        return answer


ATTACKS: list[Attack] = []


def attack(expected: str) -> Callable[[Callable[[GateClient, Scene], Answer]], Callable[[GateClient, Scene], Answer]]:
    """Enter a function into the table; ``expected`` must be part of the status and reasons that come back."""

    def enter(play: Callable[[GateClient, Scene], Answer]) -> Callable[[GateClient, Scene], Answer]:
        ATTACKS.append(Attack(play.__name__.replace("_", " "), expected, play))
        return play

    return enter


def evil(w: GateClient, scene: Scene) -> ModelIdentity:
    """A version that nobody audited."""
    return w.version(scene.name)


# Without any evidence, by every way that leads to the registry


@attack("403 missing")
def rest_without_evidence(w: GateClient, scene: Scene) -> Answer:
    return w.promote(evil(w, scene))


@attack("403 missing")
def the_path_of_the_user_interface(w: GateClient, scene: Scene) -> Answer:
    return w.promote(evil(w, scene), api=AJAX)


@attack("403 missing")
def python_client(w: GateClient, scene: Scene) -> Answer:
    from mlflow import MlflowClient
    from mlflow.exceptions import RestException

    user, password = w.login or ("", "")
    os.environ.update(MLFLOW_TRACKING_USERNAME=user, MLFLOW_TRACKING_PASSWORD=password)
    model = evil(w, scene)
    try:
        MlflowClient(w.address, w.address).set_registered_model_alias(model.name, "champion", model.version)
    except RestException as error:
        return Answer(error.get_http_status_code(), error.json)
    finally:
        del os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]
    return Answer(200)


@attack("403 missing")
def the_other_protected_alias(w: GateClient, scene: Scene) -> Answer:
    return w.promote(evil(w, scene), "production")


@attack("403 misspelt")
def capital_letter(w: GateClient, scene: Scene) -> Answer:
    return w.promote(evil(w, scene), "Champion")


@attack("403 misspelt")
def capital_letters_for_an_approved_version(w: GateClient, scene: Scene) -> Answer:
    return w.promote(w.successor(scene.champion), "CHAMPION")


@attack("403 misspelt")
def full_width_letters(w: GateClient, scene: Scene) -> Answer:
    return w.promote(evil(w, scene), "ｃｈａｍｐｉｏｎ")  # noqa: RUF001 - that is the attack


@attack("403 misspelt")
def letters_with_accents(w: GateClient, scene: Scene) -> Answer:
    """Which some databases take for the letters without."""
    return w.promote(evil(w, scene), "chámpion")


@attack("403 misspelt")
def newline_at_the_end(w: GateClient, scene: Scene) -> Answer:
    return w.promote(evil(w, scene), "champion\n")


@attack("403 missing")
def body_encoded_twice(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    inner = json.dumps({"name": model.name, "alias": "champion", "version": model.version})
    return w.post_text(json.dumps(inner))


@attack("403 missing")
def the_same_key_twice(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    return w.post_text(
        f'{{"name": "{model.name}", "version": "{model.version}", "alias": "harmless", "alias": "champion"}}'
    )


@attack("403 missing")
def escaped_letters(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    return w.post_text(f'{{"name": "{model.name}", "version": "{model.version}", "alias": "\\u0063hampion"}}')


@attack("40")
def body_as_plain_text(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    body = json.dumps({"name": model.name, "alias": "champion", "version": model.version})
    return w.post_text(body, "text/plain")


@attack("40")
def parameters_in_the_address(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    query = {"name": model.name, "alias": "champion", "version": model.version}
    return w.send("POST", f"{API}/registered-models/alias", params=query)


@attack("403 missing")
def two_slashes(w: GateClient, scene: Scene) -> Answer:
    return w.promote(evil(w, scene), api=f"/{API}")


@attack("404")
def slash_at_the_end(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    return w.post("registered-models/alias/", name=model.name, alias="champion", version=model.version)


@attack("403 missing")
def method_in_a_header(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    body = {"name": model.name, "alias": "champion", "version": model.version}
    return w.send("POST", f"{API}/registered-models/alias", body, headers={"X-HTTP-Method-Override": "PUT"})


@attack("405")
def another_method(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    body = {"name": model.name, "alias": "champion", "version": model.version}
    return w.send("PUT", f"{API}/registered-models/alias", body)


@attack("403 missing")
def leading_zeros(w: GateClient, scene: Scene) -> Answer:
    return w.promote(evil(w, scene), version="0002")


@attack("403 missing")
def digits_of_another_script(w: GateClient, scene: Scene) -> Answer:
    evil(w, scene)
    return w.promote(scene.champion, version="٢")


@attack("403 missing")
def blanks_around_the_version(w: GateClient, scene: Scene) -> Answer:
    evil(w, scene)
    return w.promote(scene.champion, version=" 2 ")


@attack("403 missing")
def stage(w: GateClient, scene: Scene) -> Answer:
    return w.stage(evil(w, scene))


@attack("403 missing")
def stage_in_another_spelling(w: GateClient, scene: Scene) -> Answer:
    return w.stage(evil(w, scene), "pRoDuCtIoN")


@attack("403 missing")
def stage_that_archives_the_others(w: GateClient, scene: Scene) -> Answer:
    return w.stage(evil(w, scene), archive_existing_versions=True)


@attack("403 missing")
def stage_by_the_path_of_the_user_interface(w: GateClient, scene: Scene) -> Answer:
    return w.stage(evil(w, scene), api=AJAX)


@attack("403 stale-reference")
def stage_on_a_verdict_for_the_alias(w: GateClient, scene: Scene) -> Answer:
    return w.stage(w.successor(scene.champion))


@attack("200")
def aliases_when_a_version_is_created(w: GateClient, scene: Scene) -> Answer:
    source = evil(w, scene).source
    more = {"aliases": ["champion"], "current_stage": "Production", "run_id": source.split("/")[-3]}
    return w.post("model-versions/create", name=scene.name, source=source, **more)


@attack("200")
def aliases_when_a_model_is_updated(w: GateClient, scene: Scene) -> Answer:
    aliases = [{"alias": "champion", "version": evil(w, scene).version}]
    body = {"name": scene.name, "description": "x", "aliases": aliases}
    return w.send("PATCH", f"{API}/registered-models/update", body)


@attack("200")
def stage_when_a_version_is_updated(w: GateClient, scene: Scene) -> Answer:
    body = {"name": scene.name, "version": evil(w, scene).version, "description": "x", "current_stage": "Production"}
    return w.send("PATCH", f"{API}/model-versions/update", body | {"aliases": ["champion"]})


@attack("40")
def graphql(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    text = f'setRegisteredModelAlias(name: "{model.name}", alias: "champion", version: "{model.version}")'
    answer = w.send("POST", "graphql", {"query": f"mutation {{ {text} {{ ok }} }}"})
    refused = answer.status >= 400 or "errors" in answer.body
    return Answer(400 if refused else answer.status, answer.body)


# Past the server, with the server's own registry address and policy


@attack("403 missing")
def direct_store_method(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    return _in_process(w, lambda store: store.set_registered_model_alias(model.name, "champion", model.version))


@attack("403 missing")
def method_for_prompts_of_the_store(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    return _in_process(w, lambda store: store.set_prompt_alias(model.name, "champion", model.version))


@attack("403 missing")
def client_of_the_gated_database(w: GateClient, scene: Scene) -> Answer:
    from mlflow import MlflowClient

    model, address = evil(w, scene), f"attrail+{w.place.database_uri}"
    return _in_process(
        w,
        lambda _: MlflowClient(w.address, address).set_registered_model_alias(model.name, "champion", model.version),
    )


@attack("403 other-policy")
def worker_started_anew_with_a_policy_that_protects_nothing(w: GateClient, scene: Scene) -> Answer:
    return _worker_anew(w, evil(w, scene), 'aliases = ["elsewhere"]\nstages = []\n' + w.place.policy.read_text())


@attack("403 other-policy")
def worker_started_anew_with_a_policy_that_trusts_a_stranger(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.verdict(model, scene.champion), "stranger")
    stranger = KEY.format(id=w.keys.stranger.public_key.keyid, name="stranger", may='["verdict"]')
    return _worker_anew(w, model, w.place.policy.read_text() + stranger)


@attack("killed")
def gate_killed_between_check_and_write(w: GateClient, scene: Scene) -> Answer:
    return _killed(w, scene, "pass")


@attack("killed")
def gate_killed_between_write_and_commit(w: GateClient, scene: Scene) -> Answer:
    return _killed(w, scene, "write(*arguments)")


# With forged evidence


@attack("403 missing")
def a_tag_that_says_pass(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.tag(model, "PASS", "attrail.verdict")
    return w.promote(model)


@attack("403 missing")
def tags_given_at_creation(w: GateClient, scene: Scene) -> Answer:
    honest = w.successor(scene.champion)
    tags = [*PASS_TAGS, {"key": "attrail.statement", "value": w.tags(honest)["attrail.statement"]}]
    return w.promote(w.version(scene.name, tags=tags))


@attack("403 missing")
def a_copy_of_an_approved_version(w: GateClient, scene: Scene) -> Answer:
    return w.promote(w.copy(w.champion(), scene.name))


@attack("403 wrong-model")
def a_copy_with_its_statement(w: GateClient, scene: Scene) -> Answer:
    other = w.champion()
    copied = w.copy(other, scene.name)
    w.tag(copied, w.tags(other)["attrail.statement"])
    return w.promote(copied)


@attack("403 missing")
def a_copy_into_a_new_model(w: GateClient, scene: Scene) -> Answer:
    copied = w.copy(scene.champion, w.fresh_name("copy"))
    return w.promote(copied)


@attack("403 retrain")
def a_retrain_with_a_signed_baseline(w: GateClient, scene: Scene) -> Answer:
    return w.promote(_retrain(w))


@attack("403 retrain")
def a_retrain_with_a_waiver_into_a_stage(w: GateClient, scene: Scene) -> Answer:
    model = _retrain(w)
    w.attest(w.waiver(model, "stage/Production"), "manager", key="attrail.waiver")
    return w.stage(model)


@attack("403 retrain")
def a_retrain_under_another_name(w: GateClient, scene: Scene) -> Answer:
    model, name = _retrain(w), f"{scene.name}-renamed"
    assert w.post("registered-models/rename", name=model.name, new_name=name).status == 200
    return w.promote(replace(model, name=name))


@attack("403 retrain")
def a_retrain_whose_tag_is_deleted(w: GateClient, scene: Scene) -> Answer:
    model = _retrain(w)
    body = {"name": model.name, "version": model.version, "key": "attrail.retrain"}
    assert w.send("DELETE", f"{API}/model-versions/delete-tag", body).reasons == ["protected-tag"]
    return w.promote(model)


@attack("403 missing")
def a_copy_of_a_retrain(w: GateClient, scene: Scene) -> Answer:
    return w.promote(w.copy(_retrain(w), scene.name))


def _retrain(w: GateClient) -> ModelIdentity:
    """A version that was trained for a noise floor, with a signed baseline."""
    name = f"{w.fresh_name()}-retrains"
    w.need("registered-models/create", name=name)
    model = w.version(name)
    assert w.tag(model, "models:/m-1", "attrail.retrain").status == 200
    w.attest(w.baseline(model))
    return model


@attack("403 wrong-model")
def the_statement_of_another_version(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.tag(model, w.tags(w.successor(scene.champion))["attrail.statement"])
    return w.promote(model)


@attack("403 missing")
def the_statement_under_another_spelling_of_its_tag(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.tag(model, w.signed(w.verdict(model, scene.champion), "auditor"), "Attrail.Statement")
    return w.promote(model)


@attack("403 unsigned")
def unsigned_statement(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.tag(model, w.signed(w.verdict(model, scene.champion)))
    return w.promote(model)


@attack("403 untrusted-key")
def key_of_a_stranger(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.verdict(model, scene.champion), "stranger")
    return w.promote(model)


@attack("403 untrusted-key")
def a_stranger_beside_a_trusted_key(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.verdict(model, scene.champion), "auditor", "stranger")
    return w.promote(model)


@attack("403 untrusted-key")
def a_key_that_may_not_sign_verdicts(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.verdict(model, scene.champion), "manager")
    return w.promote(model)


@attack("403 bad-signature")
def drift_rewritten_as_pass(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    envelope = json.loads(w.signed(w.verdict(model, scene.champion, verdict="DRIFT"), "auditor"))
    payload = base64.b64decode(envelope["payload"]).replace(b'"DRIFT"', b'"PASS"')
    envelope["payload"] = base64.b64encode(payload).decode()
    w.tag(model, _canonical(envelope))
    return w.promote(model)


@attack("403 bad-signature")
def a_trusted_id_over_a_strangers_signature(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    statement = w.verdict(model, scene.champion)
    envelope = json.loads(w.signed(statement, "stranger"))
    envelope["signatures"][0]["keyid"] = json.loads(w.signed(statement, "auditor"))["signatures"][0]["keyid"]
    w.tag(model, _canonical(envelope))
    return w.promote(model)


@attack("403 malformed")
def no_envelope_at_all(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.tag(model, "PASS")
    return w.promote(model)


@attack("403 malformed")
def the_same_envelope_spelt_otherwise(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.tag(model, json.dumps(json.loads(w.signed(w.verdict(model, scene.champion), "auditor")), indent=1))
    return w.promote(model)


@attack("403 verdict-drift")
def verdict_drift(w: GateClient, scene: Scene) -> Answer:
    return w.promote(w.successor(scene.champion, verdict="DRIFT", reason="gradcam moved"))


@attack("403 verdict-inconclusive")
def verdict_inconclusive(w: GateClient, scene: Scene) -> Answer:
    return w.promote(w.successor(scene.champion, verdict="INCONCLUSIVE", reason="too few images"))


@attack("403 expired")
def expired_statement(w: GateClient, scene: Scene) -> Answer:
    now = datetime.now(UTC).replace(microsecond=0)
    return w.promote(w.successor(scene.champion, issued=now - 2 * DAY, expires=now - DAY))


@attack("403 expired")
def statement_older_than_the_policy_allows(w: GateClient, scene: Scene) -> Answer:
    now = datetime.now(UTC).replace(microsecond=0)
    return w.promote(w.successor(scene.champion, issued=now - 31 * DAY, expires=now + 300 * DAY))


@attack("403 not-yet-valid")
def statement_from_the_future(w: GateClient, scene: Scene) -> Answer:
    later = datetime.now(UTC).replace(microsecond=0) + DAY
    return w.promote(w.successor(scene.champion, issued=later))


@attack("403 wrong-policy")
def judged_under_another_policy(w: GateClient, scene: Scene) -> Answer:
    return w.promote(w.successor(scene.champion, policy_digest=OTHER_POLICY))


@attack("403 wrong-policy")
def judged_on_an_easier_slice(w: GateClient, scene: Scene) -> Answer:
    return w.promote(w.successor(scene.champion, slices={"validation": "sha256:" + "7" * 64}))


@attack("403 wrong-kind")
def a_signed_statement_of_another_kind(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    seal = Seal(datetime.now(UTC).replace(microsecond=0), "0" * 32, {"audit.json": "sha256:" + "8" * 64})
    w.tag(model, w.signed(seal, "exporter"))
    return w.promote(model)


# Compared with the wrong reference, or with none


@attack("403 stale-reference")
def compared_with_another_version(w: GateClient, scene: Scene) -> Answer:
    return w.promote(w.successor(evil(w, scene)))


@attack("403 stale-reference")
def compared_with_itself(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.verdict(model, model))
    return w.promote(model)


@attack("403 stale-reference")
def compared_with_an_earlier_champion(w: GateClient, scene: Scene) -> Answer:
    late = w.successor(scene.champion)
    scene.promoted()
    return w.promote(late)


@attack("403 stale-reference")
def champion_swapped_before_the_audit(w: GateClient, scene: Scene) -> Answer:
    """So that a bad candidate is compared with a bad reference, and nothing seems to have moved."""
    w.upload(f"{scene.champion.source}/data/weights.bin", b"evil")
    return w.promote(w.successor(w.with_digest(scene.champion)))


@attack("403 not-first")
def baseline_for_a_second_champion(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.baseline(model))
    return w.promote(model)


@attack("403 not-first")
def alias_deleted_to_be_first_again(w: GateClient, scene: Scene) -> Answer:
    scene.holder = None
    w.unset(scene.name)
    model = evil(w, scene)
    w.attest(w.baseline(model))
    return w.promote(model)


@attack("403 not-first")
def champion_deleted_to_be_first_again(w: GateClient, scene: Scene) -> Answer:
    scene.holder = None
    body = {"name": scene.name, "version": scene.champion.version}
    w.send("DELETE", f"{API}/model-versions/delete", body)
    model = evil(w, scene)
    w.attest(w.baseline(model))
    return w.promote(model)


@attack("403 stale-reference")
def verdict_for_a_first_champion(w: GateClient, scene: Scene) -> Answer:
    name = w.fresh_name()
    return w.promote(w.successor(w.version(name)))


@attack("403 checks-failed")
def baseline_whose_explainer_failed_its_check(w: GateClient, scene: Scene) -> Answer:
    model = w.version(w.fresh_name())
    w.attest(w.baseline(model, checks=(InstrumentCheck("validation", "gradcam", "random_head", False, {}),)))
    return w.promote(model)


@attack("403 checks-failed")
def baseline_without_any_check(w: GateClient, scene: Scene) -> Answer:
    model = w.version(w.fresh_name())
    w.attest(w.baseline(model, checks=()))
    return w.promote(model)


@attack("403 stale-reference")
def champions_files_swapped_after_the_audit(w: GateClient, scene: Scene) -> Answer:
    """What the candidate was compared with is served no longer."""
    model = w.successor(scene.champion)
    w.upload(f"{scene.champion.source}/data/weights.bin", b"evil")
    return w.promote(model)


@attack("403 stale-reference")
def champions_files_removed_after_the_audit(w: GateClient, scene: Scene) -> Answer:
    model = w.successor(scene.champion)
    for name in ("data/weights.bin", "MLmodel"):
        (w.files(scene.champion) / name).unlink()
    return w.promote(model)


# Other bytes than those that were audited


@attack("403 wrong-bytes")
def weights_swapped_after_the_audit(w: GateClient, scene: Scene) -> Answer:
    model = w.successor(scene.champion)
    w.upload(f"{model.source}/data/weights.bin", b"evil")
    return w.promote(model)


@attack("403 wrong-bytes")
def weights_swapped_after_promotion(w: GateClient, scene: Scene) -> Answer:
    model = scene.promoted()
    w.upload(f"{model.source}/data/weights.bin", b"evil")
    return w.promote(model)


@attack("403 wrong-bytes")
def weights_swapped_and_their_time_put_back(w: GateClient, scene: Scene) -> Answer:
    """Once the server has hashed the files and remembers them; the new ones have the same size."""
    model = w.successor(scene.champion)
    time.sleep(2.1)
    assert w.promote(model).status == 200
    scene.holder = model.version
    path = w.files(model) / "data" / "weights.bin"
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"evil")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (before.st_size, before.st_mtime_ns)
    return w.promote(model)


@attack("403 wrong-bytes")
def model_description_swapped(w: GateClient, scene: Scene) -> Answer:
    model = w.successor(scene.champion)
    w.upload(f"{model.source}/MLmodel", b"flavors: {python_function: {loader_module: os}}\n")
    return w.promote(model)


@attack("403 wrong-bytes")
def file_added(w: GateClient, scene: Scene) -> Answer:
    model = w.successor(scene.champion)
    w.upload(f"{model.source}/code/loader.py", b"print('evil')")
    return w.promote(model)


@attack("403 wrong-bytes")
def file_removed(w: GateClient, scene: Scene) -> Answer:
    model = w.successor(scene.champion)
    (w.files(model) / "data" / "weights.bin").unlink()
    return w.promote(model)


@attack("403 wrong-bytes")
def all_files_removed(w: GateClient, scene: Scene) -> Answer:
    model = w.successor(scene.champion)
    for name in ("data/weights.bin", "MLmodel"):
        (w.files(model) / name).unlink()
    return w.promote(model)


@attack("403 wrong-bytes")
def file_replaced_by_a_link_to_its_copy(w: GateClient, scene: Scene) -> Answer:
    model = w.successor(scene.champion)
    path = w.files(model) / "data" / "weights.bin"
    path.rename(path.parents[2] / "elsewhere.bin")
    path.symlink_to(path.parents[2] / "elsewhere.bin")
    return w.promote(model)


@attack("403 wrong-bytes")
def a_source_that_is_read_in_two_ways(w: GateClient, scene: Scene) -> Answer:
    """Clients list what is in ``mo%64el``, fetch it from ``model``, and the server could hash either."""
    root = evil(w, scene).source.removesuffix("/model")
    model = w.register(scene.name, f"{root}/mo%64el", run_id=root.split("/")[-2])
    w.files(model).mkdir()
    (w.files(model) / "MLmodel").write_bytes(b"flavors: {}\n")
    w.attest(w.verdict(w.with_digest(model), scene.champion))
    return w.promote(model)


@attack("403 wrong-bytes")
def a_source_on_another_server(w: GateClient, scene: Scene) -> Answer:
    """This server's copy was audited and would be hashed; clients fetch from the host in the address."""
    folder = w.fresh_name("experiment")
    place = {"name": folder, "artifact_location": f"mlflow-artifacts://elsewhere.example/{folder}"}
    experiment = w.need("experiments/create", **place)["experiment_id"]
    run = w.need("runs/create", experiment_id=experiment)["run"]["info"]
    assert w.upload(f"{folder}/{run['run_id']}/artifacts/model/MLmodel", b"flavors: {}\n") == 200
    model = w.register(scene.name, f"{run['artifact_uri']}/model", run_id=run["run_id"])
    digest = digest_folder(w.artifacts / folder / run["run_id"] / "artifacts" / "model")
    model = replace(model, artifact_digest=digest)
    w.attest(w.verdict(model, scene.champion))
    return w.promote(model)


# Stages, in which several versions can be, and the newest is served


@attack("403 holds-role")
def newest_moved_out_of_a_stage_to_serve_a_swapped_one(w: GateClient, scene: Scene) -> Answer:
    return w.stage(_above_a_swapped_one(w, scene), "Archived")


@attack("403 holds-role")
def newest_in_a_stage_deleted_to_serve_a_swapped_one(w: GateClient, scene: Scene) -> Answer:
    body = {"name": scene.name, "version": _above_a_swapped_one(w, scene).version}
    return w.send("DELETE", f"{API}/model-versions/delete", body)


@attack("403 stale-reference")
def newest_in_a_stage_swapped_once_another_was_promoted_below_it(w: GateClient, scene: Scene) -> Answer:
    """It was approved with other files; that another version was approved since must not make the gate forget it."""
    assert w.stage(scene.champion).status == 200
    below = w.version(scene.name)
    newest = w.successor(scene.champion)
    assert w.stage(newest, archive_existing_versions=True).status == 200
    w.attest(w.verdict(below, newest))
    assert w.stage(below).status == 200
    scene.staged = frozenset({newest.version})
    w.upload(f"{newest.source}/data/weights.bin", b"evil")
    return w.stage(w.successor(w.with_digest(newest)))


# Evidence that was good once


@attack("403 already-used")
def statement_replayed_after_a_rollback(w: GateClient, scene: Scene) -> Answer:
    model = scene.promoted()
    w.attest(w.waiver(scene.champion), "manager", key="attrail.waiver")
    assert w.promote(scene.champion).status == 200
    scene.holder = scene.champion.version
    return w.promote(model)


@attack("403 verdict-drift")
def older_pass_put_in_the_place_of_a_newer_drift(w: GateClient, scene: Scene) -> Answer:
    now = datetime.now(UTC).replace(microsecond=0)
    model = w.successor(scene.champion, issued=now - DAY)
    older = w.tags(model)["attrail.statement"]
    w.attest(w.verdict(model, scene.champion, verdict="DRIFT", reason="gradcam moved"))
    assert "superseded" in w.tag(model, older).shown
    return w.promote(model)


@attack("403 superseded")
def older_pass_brought_back_when_the_newer_drift_expired(w: GateClient, scene: Scene) -> Answer:
    now = datetime.now(UTC).replace(microsecond=0)
    model = w.version(scene.name)
    soon = now + timedelta(seconds=5)
    w.attest(w.verdict(model, scene.champion, verdict="DRIFT", reason="gradcam moved", expires=soon))
    time.sleep((soon - datetime.now(UTC)).total_seconds() + 1)
    w.attest(w.verdict(model, scene.champion, issued=now - DAY))
    return w.promote(model)


@attack("403 verdict-drift")
def pass_put_in_the_place_of_a_drift_from_a_slow_clock(w: GateClient, scene: Scene) -> Answer:
    """The machine that found the drift is a day behind: the gate saw it after the pass all the same."""
    now = datetime.now(UTC).replace(microsecond=0)
    model = w.successor(scene.champion)
    older = w.tags(model)["attrail.statement"]
    w.attest(w.verdict(model, scene.champion, verdict="DRIFT", reason="gradcam moved", issued=now - DAY))
    assert "superseded" in w.tag(model, older).shown
    return w.promote(model)


@attack("403 superseded")
def older_pass_shown_after_a_drift_from_a_fast_clock(w: GateClient, scene: Scene) -> Answer:
    now = datetime.now(UTC).replace(microsecond=0)
    model = w.version(scene.name)
    w.attest(w.verdict(model, scene.champion, verdict="DRIFT", reason="gradcam moved", issued=now + DAY))
    w.attest(w.verdict(model, scene.champion, issued=now - timedelta(hours=1)))
    return w.promote(model)


@attack("403 verdict-drift")
def pass_of_the_same_second_as_a_drift(w: GateClient, scene: Scene) -> Answer:
    now = datetime.now(UTC).replace(microsecond=0)
    model = w.version(scene.name)
    w.attest(w.verdict(model, scene.champion, verdict="DRIFT", reason="gradcam moved", issued=now))
    assert "superseded" in w.tag(model, w.signed(w.verdict(model, scene.champion, issued=now), "auditor")).shown
    return w.promote(model)


@attack("403 protected-tag")
def newer_drift_deleted(w: GateClient, scene: Scene) -> Answer:
    model = w.successor(scene.champion, verdict="DRIFT", reason="gradcam moved")
    body = {"name": model.name, "version": model.version, "key": "attrail.statement"}
    return w.send("DELETE", f"{API}/model-versions/delete-tag", body)


@attack("403 protected-tag")
def newer_drift_overwritten(w: GateClient, scene: Scene) -> Answer:
    return w.tag(w.successor(scene.champion, verdict="DRIFT", reason="gradcam moved"), "rubbish")


@attack("403 wrong-source")
def model_deleted_and_registered_anew(w: GateClient, scene: Scene) -> Answer:
    scene.holder = None
    approved = w.tags(w.successor(scene.champion))["attrail.statement"]
    _recreate(w, scene.name)
    evil(w, scene)
    model = evil(w, scene)
    w.tag(model, approved)
    return w.promote(model)


@attack("403 wrong-source")
def first_champion_deleted_and_registered_anew(w: GateClient, scene: Scene) -> Answer:
    scene.holder = None
    approved = w.tags(scene.champion)["attrail.statement"]
    _recreate(w, scene.name)
    model = evil(w, scene)
    w.tag(model, approved)
    return w.promote(model)


@attack("403 not-first")
def model_deleted_to_be_first_again(w: GateClient, scene: Scene) -> Answer:
    scene.holder = None
    _recreate(w, scene.name)
    model = evil(w, scene)
    w.attest(w.baseline(model))
    return w.promote(model)


# Names


@attack("403 holds-role")
def another_champion_renamed_to_this_name(w: GateClient, scene: Scene) -> Answer:
    scene.holder = None
    other = w.champion()
    w.send("DELETE", f"{API}/registered-models/delete", {"name": scene.name})
    return w.post("registered-models/rename", name=other.name, new_name=scene.name)


@attack("403 holds-role")
def a_version_in_production_renamed_to_this_name(w: GateClient, scene: Scene) -> Answer:
    scene.holder = None
    other = w.version(w.fresh_name())
    w.attest(w.baseline(other))
    assert w.stage(other).status == 200
    w.send("DELETE", f"{API}/registered-models/delete", {"name": scene.name})
    return w.post("registered-models/rename", name=other.name, new_name=scene.name)


@attack("403 wrong-model")
def promoted_after_a_rename(w: GateClient, scene: Scene) -> Answer:
    scene.holder = None
    other = w.champion()
    w.unset(other.name)
    w.send("DELETE", f"{API}/registered-models/delete", {"name": scene.name})
    assert w.post("registered-models/rename", name=other.name, new_name=scene.name).status == 200
    return w.promote(replace(other, name=scene.name))


# Prompts, which may take any alias


@attack("403 missing")
def model_tagged_as_a_prompt(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.post("registered-models/set-tag", name=scene.name, **PROMPT)
    w.tag(model, PROMPT["value"], PROMPT["key"])
    answer = w.promote(model)
    w.send("DELETE", f"{API}/registered-models/delete-tag", {"name": scene.name, "key": PROMPT["key"]})
    return answer


@attack("403 missing")
def prompt_among_the_versions_of_a_model(w: GateClient, scene: Scene) -> Answer:
    model = w.register(scene.name, "dummy-source", tags=[PROMPT])
    return w.promote(model)


@attack("403 missing")
def prompt_in_the_place_of_a_removed_champion(w: GateClient, scene: Scene) -> Answer:
    scene.holder = None
    w.unset(scene.name)
    return w.promote(w.register(scene.name, "dummy-source", tags=[PROMPT]))


@attack("403 holds-role")
def prompt_renamed_to_the_name_of_a_model(w: GateClient, scene: Scene) -> Answer:
    scene.holder = None
    prompt = w.fresh_name("p")
    assert w.promote(w.register(prompt, "dummy-source", tags=[PROMPT])).status == 200
    w.send("DELETE", f"{API}/registered-models/delete", {"name": scene.name})
    return w.post("registered-models/rename", name=prompt, new_name=scene.name)


@attack("400")
def model_registered_as_a_prompt(w: GateClient, scene: Scene) -> Answer:
    source = evil(w, scene).source
    return w.post("model-versions/create", name=scene.name, source=source, tags=[PROMPT])


# Waivers


@attack("403 missing, already-used")
def waiver_used_twice(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.waiver(model), "manager", key="attrail.waiver")
    assert w.promote(model).status == 200
    scene.holder = None
    w.unset(scene.name)
    return w.promote(model)


@attack("403 missing, expired")
def expired_waiver(w: GateClient, scene: Scene) -> Answer:
    now = datetime.now(UTC).replace(microsecond=0)
    model = evil(w, scene)
    w.attest(w.waiver(model, issued=now - DAY, expires=now - timedelta(hours=1)), "manager", key="attrail.waiver")
    return w.promote(model)


@attack("403 missing, wrong-alias")
def waiver_for_another_alias(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.waiver(model, "production"), "manager", key="attrail.waiver")
    return w.promote(model)


@attack("403 missing, wrong-alias")
def waiver_for_an_alias_used_for_a_stage(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.waiver(model, "production"), "manager", key="attrail.waiver")
    return w.stage(model)


@attack("403 missing, wrong-model")
def waiver_for_another_version(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.tag(model, w.signed(w.waiver(evil(w, scene)), "manager"), "attrail.waiver")
    return w.promote(model)


@attack("403 missing, wrong-bytes")
def weights_swapped_after_the_waiver(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.waiver(model), "manager", key="attrail.waiver")
    w.upload(f"{model.source}/data/weights.bin", b"evil")
    return w.promote(model)


@attack("403 missing, untrusted-key")
def waiver_signed_by_an_auditor(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.waiver(model), "auditor", key="attrail.waiver")
    return w.promote(model)


@attack("403 missing, unsigned")
def unsigned_waiver(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.tag(model, w.signed(w.waiver(model)), "attrail.waiver")
    return w.promote(model)


@attack("403 missing, wrong-kind")
def verdict_given_as_a_waiver(w: GateClient, scene: Scene) -> Answer:
    model = evil(w, scene)
    w.attest(w.verdict(model, scene.champion), key="attrail.waiver")
    return w.promote(model)


# At the same time


@attack("403 stale-reference")
def two_promotions_racing(w: GateClient, scene: Scene) -> Answer:
    rivals = [w.successor(scene.champion) for _ in range(4)]
    start = threading.Barrier(len(rivals))
    answers: dict[str, Answer] = {}

    def run(model: ModelIdentity) -> None:
        start.wait()
        answers[model.version] = GateClient(w.place, w.keys, w.address, w.login).promote(model)

    threads = [threading.Thread(target=run, args=(model,)) for model in rivals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (scene.holder,) = (version for version, answer in answers.items() if answer.status == 200)
    refused = [answer for answer in answers.values() if answer.status != 200]
    assert {answer.shown for answer in refused} == {"403 stale-reference"}, answers
    return refused[0]


KILLED = """
import os, signal, sys
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
write = SqlAlchemyStore.set_registered_model_alias
def stop(*arguments):
    {step}
    os.kill(os.getpid(), signal.SIGKILL)
from attrail_mlflow.plugin.registry_store import build
store = build(sys.argv[1])
SqlAlchemyStore.set_registered_model_alias = stop
store.set_registered_model_alias(*sys.argv[2:])
"""


def _killed(w: GateClient, scene: Scene, step: str) -> Answer:
    """A process with the gate in it dies while it promotes: nothing has happened, and the promotion can be repeated."""
    model = w.successor(scene.champion)
    words = [f"attrail+{w.place.database_uri}", model.name, "champion", model.version]
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(step=step), *words],
        env=w.place.environment() | {"_MLFLOW_SERVER_ARTIFACT_DESTINATION": str(w.artifacts)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert w.holder(scene.name) == scene.holder
    assert w.promote(model).status == 200
    scene.holder = model.version
    return Answer(0, {"error_code": "killed"})


def _worker_anew(w: GateClient, model: ModelIdentity, policy: str) -> Answer:
    """A worker ends, and the one in its place reads a policy file that was changed since the server's start."""
    start = {"_MLFLOW_SERVER_BOOT_ID": os.urandom(16).hex()}
    assert _in_process(w, lambda _: None, **start).status == 200
    path = w.place.policy.with_name(f"{model.name}.toml")
    path.write_text(policy)
    answer = _in_process(
        w,
        lambda store: store.set_registered_model_alias(model.name, "champion", model.version),
        ATTRAIL_GATE_POLICY=str(path),
        **start,
    )
    assert w.promote(model).status == 403
    return answer


def _in_process(w: GateClient, step: Callable[[Any], object], **environment: str) -> Answer:
    """Use the gated store in this process, as somebody with the server's settings could."""
    from mlflow.exceptions import MlflowException

    from attrail_mlflow.plugin.registry_store import build

    with mock.patch.dict(os.environ, {"ATTRAIL_GATE_POLICY": str(w.place.policy)} | environment):
        try:
            step(build(f"attrail+{w.place.database_uri}"))
        except MlflowException as error:
            return Answer(error.get_http_status_code(), error.json_kwargs)
    return Answer(200)


def _above_a_swapped_one(w: GateClient, scene: Scene) -> ModelIdentity:
    """The newest of two versions in Production; the other's files were exchanged."""
    assert w.stage(scene.champion).status == 200
    newest = w.successor(scene.champion)
    assert w.stage(newest).status == 200
    scene.staged = frozenset({newest.version})
    w.upload(f"{scene.champion.source}/data/weights.bin", b"evil")
    return newest


def _canonical(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))


def _recreate(w: GateClient, name: str) -> None:
    w.send("DELETE", f"{API}/registered-models/delete", {"name": name})
    w.need("registered-models/create", name=name)
