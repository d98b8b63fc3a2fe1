"""The gate's decision: which statement counts, and what a refusal says."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_audit import digest, signer_of, trusted_of

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.gate.decision import Case, Decision, decide, statement_digest
from attrail_mlflow.gate.evidence_tags import Objection
from attrail_mlflow.gate.policy import GatePolicy
from attrail_mlflow.signing.envelope import sign
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.statements.baseline import Baseline, InstrumentCheck
from attrail_mlflow.statements.predicate import ModelIdentity
from attrail_mlflow.statements.statement import payload_of
from attrail_mlflow.statements.waiver import Waiver

NOW = datetime(2026, 11, 21, 17, 6, 32, tzinfo=UTC)
SOON = NOW + timedelta(days=30)
AUDITOR, SECOND = signer_of("auditor"), signer_of("second auditor")
POLICY = GatePolicy(trusted_of(AUDITOR, SECOND), max_age=timedelta(days=30))
MODEL = ModelIdentity("digits", "7", "models:/m-7", digest("files"), digest("weights"))
CHECK = InstrumentCheck("validation", "gradcam", "random_head", True, {})


def baseline(**changes: Any) -> bytes:
    facts = {"slices": {"validation": digest("pixels")}, "explanations": {}, "checks": (CHECK,)}
    facts |= {"policy_digest": digest("policy"), "run_id": "a" * 32, "manifest_digest": digest("manifest")}
    found = Baseline(**({"issued": NOW, "expires": SOON, "model": MODEL, **facts} | changes))
    return sign(payload_of(found), [AUDITOR])


def waiver(**changes: Any) -> bytes:
    facts = {"model": MODEL, "alias": "champion", "granted_by": "on-call", "reason": "outage"}
    return sign(payload_of(Waiver(**({"issued": NOW, "expires": SOON, **facts} | changes))), [AUDITOR])


def case(**changes: Any) -> Case:
    bare = replace(MODEL, artifact_digest="", weights_digest=None)
    return replace(Case(bare, "champion", lambda: MODEL.artifact_digest, baseline()), **changes)


def never() -> str:
    raise AssertionError("files were hashed for a request without valid evidence")


def unreadable() -> str:
    raise EvidenceError("the disk is gone")


def test_a_decision_tells_what_it_rests_on() -> None:
    found = decide(case(), POLICY, NOW)
    assert found.allowed
    assert (found.by, found.evidence, found.model) == (Kind.BASELINE, statement_digest(baseline()), MODEL)
    document = found.document()
    assert document["model"] == {"name": "digits", "version": "7"}
    assert document["run_id"] == "a" * 32


@pytest.mark.parametrize(
    ("changes", "reasons"),
    [
        ({"statement": None}, ("missing",)),
        ({"statement": b"PASS"}, ("malformed",)),
        ({"used": {statement_digest(baseline())}}, ("already-used",)),
        ({"newest": NOW + timedelta(seconds=1)}, ("superseded",)),
        ({"statement": baseline(issued=NOW - timedelta(days=30))}, ("expired",)),
        ({"statement": baseline(model=replace(MODEL, version="8"))}, ("wrong-model",)),
        ({"statement": baseline(model=replace(MODEL, source="models:/m-8"))}, ("wrong-source",)),
        ({"statement": waiver(alias="production")}, ("wrong-alias",)),
        ({"statement": None, "waiver": baseline()}, ("missing", "wrong-kind")),
        ({"statement": None, "waiver": waiver(alias="production")}, ("missing", "wrong-alias")),
        ({"champion": replace(MODEL, version="1")}, ("not-first",)),
        ({"retrain": True}, ("retrain",)),
        ({"retrain": True, "statement": None, "waiver": waiver()}, ("retrain",)),
    ],
)
def test_what_is_refused_before_any_file_is_read(changes: dict[str, Any], reasons: tuple[str, ...]) -> None:
    found = decide(case(hash_files=never, **changes), POLICY, NOW)
    assert found.reasons == reasons
    assert found.sentence.startswith("digits/7 may not become champion: ")
    assert not found.allowed


@pytest.mark.parametrize("hash_files", [lambda: digest("others"), unreadable])
def test_other_or_unreadable_files_are_refused(hash_files: Callable[[], str]) -> None:
    assert decide(case(hash_files=hash_files), POLICY, NOW).reasons == ("wrong-bytes",)


def test_a_required_slice_must_be_covered() -> None:
    assert decide(case(), replace(POLICY, slices=frozenset({digest("pixels")})), NOW).allowed
    assert decide(case(), replace(POLICY, slices=frozenset({digest("others")})), NOW).reasons == ("wrong-policy",)


def test_a_waiver_counts_only_when_the_statement_does_not() -> None:
    assert decide(case(waiver=waiver()), POLICY, NOW).by == Kind.BASELINE
    found = decide(case(statement=None, waiver=waiver()), POLICY, NOW)
    assert found.by == Kind.WAIVER
    assert found.waiver_id


def test_a_waiver_is_good_once() -> None:
    granted = waiver()
    first = decide(case(statement=None, waiver=granted), POLICY, NOW)
    for used in ({first.evidence}, {first.waiver_id}):
        assert decide(case(statement=None, waiver=granted, used=used), POLICY, NOW).reasons == (
            "missing",
            "already-used",
        )


def test_setting_again_what_is_set_needs_the_same_files_and_no_evidence() -> None:
    held = case(statement=None, champion=MODEL, holds=True)
    assert decide(held, POLICY, NOW).by == "unchanged"
    assert decide(replace(held, hash_files=lambda: digest("others")), POLICY, NOW).reasons == ("wrong-bytes",)


def test_a_statement_is_the_same_whoever_signed_it() -> None:
    """Else a used statement with two signatures could be used again with one of them cut off."""
    payload = payload_of(Waiver(NOW, SOON, MODEL, "champion", "on-call", "outage"))
    both, one = sign(payload, [AUDITOR, SECOND]), sign(payload, [AUDITOR])
    assert both != one
    assert statement_digest(both) == statement_digest(one)


@given(st.integers(-60, 60), st.integers(-60, 60))
def test_time_decides_alike_for_every_order(issued: int, expires: int) -> None:
    """Allowed exactly between issue, with five minutes of clock skew, and the earlier of expiry and greatest age."""
    start, end = NOW + timedelta(days=issued), NOW + timedelta(days=expires)
    found = decide(case(statement=baseline(issued=start, expires=end)), POLICY, NOW)
    assert found.allowed == (start <= NOW < min(end, start + timedelta(days=30)))


@given(st.integers(-60, 60), st.integers(-60, 0), st.integers(-60, 0))
def test_only_an_audit_signed_after_the_objection_was_seen_outvotes_it(clock: int, seen: int, issued: int) -> None:
    """Whatever the clock said that signed the objection; if the gate saw it after this very statement, nothing does."""
    objection = Objection(NOW + timedelta(minutes=clock), NOW + timedelta(minutes=seen))
    asked = case(statement=baseline(issued=NOW + timedelta(minutes=issued)), objections=(objection,))
    assert decide(asked, POLICY, NOW).allowed == (issued > seen or issued == seen > clock)
    later = replace(asked, objections=(replace(objection, later=True),))
    found = decide(later, POLICY, NOW)
    assert found.reasons == ("superseded",)
    assert "superseded by one against the version" in found.sentence


def test_decisions_are_values() -> None:
    assert decide(case(), POLICY, NOW) == decide(case(), POLICY, NOW)
    assert isinstance(decide(case(statement=None), POLICY, NOW), Decision)
