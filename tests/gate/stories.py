"""Honest stories: what must go through the gate, and what it must leave alone."""

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from attacks import PROMPT
from gate_client import API, Answer, GateClient

STORIES: list[Callable[[GateClient], Answer]] = []


def story(play: Callable[[GateClient], Answer]) -> Callable[[GateClient], Answer]:
    """Enter a function into the table; its answer must be a success."""
    STORIES.append(play)
    return play


@story
def first_champion_by_a_signed_baseline(w: GateClient) -> Answer:
    champion = w.champion()
    assert w.holder(champion.name) == champion.version
    return w.promote(champion)


@story
def successors_by_signed_verdicts(w: GateClient) -> Answer:
    model = w.champion()
    for _ in range(3):
        model = w.successor(model)
        answer = w.promote(model)
        assert answer.status == 200, answer
        assert w.holder(model.name) == model.version
    return answer


@story
def promotion_repeated_by_a_client(w: GateClient) -> Answer:
    model = w.successor(w.champion())
    assert w.promote(model).status == 200
    return w.promote(model)


@story
def two_aliases_each_with_its_champion(w: GateClient) -> Answer:
    first = w.champion()
    second = w.version(first.name)
    w.attest(w.baseline(second))
    assert w.promote(second, "production").status == 200
    third = w.successor(second)
    assert "stale-reference" in w.promote(third).shown
    return w.promote(third, "production")


@story
def stage_by_a_baseline_and_then_a_verdict(w: GateClient) -> Answer:
    first = w.version(w.fresh_name())
    w.attest(w.baseline(first))
    assert w.stage(first).status == 200
    second = w.successor(first)
    answer = w.stage(second, archive_existing_versions=True)
    assert w.staged(first.name) == {second.version}
    return answer


@story
def stage_left_from_the_oldest_on(w: GateClient) -> Answer:
    first = w.version(w.fresh_name())
    w.attest(w.baseline(first))
    second = w.successor(first)
    assert w.stage(first).status == w.stage(second).status == 200
    assert w.stage(first, "Archived").status == 200
    return w.stage(second, "Archived")


@story
def waiver_for_an_unaudited_version(w: GateClient) -> Answer:
    model = w.version(w.champion().name)
    w.attest(w.waiver(model), "manager", key="attrail.waiver")
    answer = w.promote(model)
    assert w.holder(model.name) == model.version
    return answer


@story
def waiver_for_a_stage(w: GateClient) -> Answer:
    model = w.version(w.fresh_name())
    w.attest(w.waiver(model, "stage/Production"), "manager", key="attrail.waiver")
    return w.stage(model)


@story
def verdict_after_a_waiver(w: GateClient) -> Answer:
    model = w.version(w.champion().name)
    w.attest(w.waiver(model), "manager", key="attrail.waiver")
    assert w.promote(model).status == 200
    return w.promote(w.successor(model))


@story
def audited_again_after_it_was_refused(w: GateClient) -> Answer:
    champion = w.champion()
    now = datetime.now(UTC).replace(microsecond=0)
    model = w.successor(champion, verdict="INCONCLUSIVE", reason="too few images", issued=now - timedelta(hours=1))
    assert "inconclusive" in w.promote(model).shown
    w.attest(w.verdict(model, champion))
    return w.promote(model)


@story
def promoted_again_after_the_alias_was_removed(w: GateClient) -> Answer:
    """Against the champion that was: its removal changed nothing about what the next one is compared with."""
    champion = w.champion()
    model = w.successor(champion)
    assert w.unset(champion.name).status == 200
    return w.promote(model)


@story
def files_restored_after_they_were_swapped(w: GateClient) -> Answer:
    model = w.successor(w.champion())
    path = w.files(model) / "data" / "weights.bin"
    good = path.read_bytes()
    w.upload(f"{model.source}/data/weights.bin", b"evil")
    assert "wrong-bytes" in w.promote(model).shown
    w.upload(f"{model.source}/data/weights.bin", good)
    return w.promote(model)


@story
def champion_replaced_once_its_files_were_restored(w: GateClient) -> Answer:
    champion = w.champion()
    model = w.successor(champion)
    path = w.files(champion) / "data" / "weights.bin"
    before = path.read_bytes()
    w.upload(f"{champion.source}/data/weights.bin", b"evil")
    assert "stale-reference" in w.promote(model).shown
    path.write_bytes(before)
    return w.promote(model)


@story
def waiver_when_the_champions_files_are_lost(w: GateClient) -> Answer:
    champion = w.champion()
    model = w.successor(champion)
    w.upload(f"{champion.source}/data/weights.bin", b"evil")
    w.attest(w.waiver(model), "manager", key="attrail.waiver")
    return w.promote(model)


@story
def audited_again_after_a_drift_from_a_slow_clock(w: GateClient) -> Answer:
    champion = w.champion()
    now = datetime.now(UTC).replace(microsecond=0)
    model = w.successor(champion, issued=now - timedelta(minutes=2))
    w.attest(w.verdict(model, champion, verdict="DRIFT", reason="gradcam moved", issued=now - timedelta(days=1)))
    time.sleep(1.1)
    w.attest(w.verdict(model, champion))
    return w.promote(model)


@story
def download_that_leaves_its_note(w: GateClient) -> Answer:
    model = w.successor(w.champion())
    (w.files(model) / "registered_model_meta").write_text("model_name: m\n")
    return w.promote(model)


@story
def unprotected_alias(w: GateClient) -> Answer:
    model = w.version(w.fresh_name())
    answer = w.promote(model, "challenger")
    assert w.holder(model.name, "challenger") == model.version
    assert w.unset(model.name, "challenger").status == 200
    return answer


@story
def unprotected_stage(w: GateClient) -> Answer:
    model = w.version(w.fresh_name())
    assert w.stage(model, "Staging").status == 200
    return w.stage(model, "Archived")


@story
def prompt(w: GateClient) -> Answer:
    name = w.fresh_name("p")
    for number in ("1", "2"):
        model = w.register(name, "dummy-source", tags=[PROMPT])
        answer = w.promote(model)
        assert answer.status == 200, answer
        assert w.holder(name) == number
    assert w.post("registered-models/rename", name=name, new_name=f"{name}-renamed").status == 200
    return answer


@story
def copy_of_a_version(w: GateClient) -> Answer:
    champion = w.champion()
    copied = w.copy(champion, w.fresh_name("copy"))
    assert "attrail.statement" not in w.tags(copied)
    w.attest(w.baseline(copied))
    return w.promote(copied)


@story
def rename_without_a_role(w: GateClient) -> Answer:
    model = w.version(w.fresh_name())
    renamed = replace(model, name=f"{model.name}-renamed")
    assert w.post("registered-models/rename", name=model.name, new_name=renamed.name).status == 200
    w.attest(w.baseline(renamed))
    return w.promote(renamed)


@story
def other_tags(w: GateClient) -> Answer:
    model = w.version(w.fresh_name(), tags=[{"key": "team", "value": "vision"}])
    assert w.tags(model) == {"team": "vision"}
    assert w.tag(model, "x", "attrail.verdict").status == 200
    body = {"name": model.name, "version": model.version, "key": "attrail.verdict"}
    assert w.send("DELETE", f"{API}/model-versions/delete-tag", body).status == 200
    assert w.tags(model) == {"team": "vision"}
    return w.tag(model, "speech", "team")


@story
def versions_and_models_deleted(w: GateClient) -> Answer:
    champion = w.champion()
    model = w.version(champion.name)
    body = {"name": model.name, "version": model.version}
    assert w.send("DELETE", f"{API}/model-versions/delete", body).status == 200
    return w.send("DELETE", f"{API}/registered-models/delete", {"name": champion.name})
