"""What lets a promotion through, and the reason for everything that does not."""

import inspect
import re
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_audit import NOW, RUN_ID, digest, document, model, signer_of, trusted_of

from attrail_explainers.errors import GateRefusal
from attrail_mlflow.gate import coverage
from attrail_mlflow.gate.coverage import Promotion, require_covers
from attrail_mlflow.signing import envelope
from attrail_mlflow.signing.envelope import sign
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.signing.refusal import Reason
from attrail_mlflow.statements import verification
from attrail_mlflow.statements.baseline import Baseline, InstrumentCheck
from attrail_mlflow.statements.bundle_seal import Seal
from attrail_mlflow.statements.predicate import Predicate
from attrail_mlflow.statements.statement import payload_of
from attrail_mlflow.statements.verdict import Binding, VerdictStatement, statement_of
from attrail_mlflow.statements.verification import SKEW, verify_statement
from attrail_mlflow.statements.waiver import Waiver

SIGNER = signer_of("auditor")
TRUSTED = trusted_of(SIGNER)
LATER = NOW + timedelta(days=30)
CHECK = InstrumentCheck("validation", "gradcam", "random_head", True, {})


def verdict(word: str = "PASS") -> VerdictStatement:
    return statement_of(document(word), Binding(model("7"), model("1"), ("champion",), digest("manifest"), NOW, LATER))


WAIVER = Waiver(NOW, LATER, model("7", weights_digest=None), "champion", "Ada", "outage", "waiver-1")
BASELINE = Baseline(
    NOW, LATER, model("7"), {"validation": digest("p")}, {}, (CHECK,), verdict().policy_digest, RUN_ID, digest("m")
)
HONEST = Promotion(model("7", weights_digest=None), "champion", model("1", weights_digest=None))
FIRST = replace(HONEST, champion=None)
OTHER_BYTES = {"artifact_digest": digest("other")}


def verified(statement: Predicate, now: Any = NOW, trusted: Any = TRUSTED) -> Predicate:
    return verify_statement(sign(payload_of(statement), [SIGNER]), trusted, now)


def reason(act: Callable[[], object]) -> str:
    with pytest.raises(GateRefusal) as refused:
        act()
    assert len(str(refused.value)) > 20
    return refused.value.reason


@pytest.mark.parametrize(
    ("statement", "promotion"),
    [
        (verdict(), HONEST),
        (verdict(), replace(HONEST, policies={verdict().policy_digest, digest("another")})),
        (verdict(), replace(HONEST, model=model("7"), champion=model("1"))),
        (WAIVER, HONEST),
        (WAIVER, replace(HONEST, alias="Champion", used_waivers={"waiver-2"})),
        (WAIVER, FIRST),
        (BASELINE, FIRST),
    ],
)
def test_honest_promotions_are_let_through(statement: Predicate, promotion: Promotion) -> None:
    require_covers(verified(statement), promotion)


REFUSED: list[tuple[Reason, Callable[[], object]]] = [
    (Reason.MISSING, lambda: verify_statement(None, TRUSTED, NOW)),
    (Reason.MISSING, lambda: verify_statement(b"", TRUSTED, NOW)),
    (Reason.MALFORMED, lambda: verify_statement(b"PASS", TRUSTED, NOW)),
    (Reason.MALFORMED, lambda: verify_statement(sign(b'{"verdict":"PASS"}', [SIGNER]), TRUSTED, NOW)),
    (Reason.UNSIGNED, lambda: verify_statement(sign(payload_of(verdict()), []), TRUSTED, NOW)),
    (Reason.UNTRUSTED_KEY, lambda: verified(verdict(), trusted=trusted_of(signer_of("somebody else")))),
    (Reason.UNTRUSTED_KEY, lambda: verified(verdict(), trusted=trusted_of(SIGNER, may=frozenset({Kind.WAIVER})))),
    (Reason.UNTRUSTED_KEY, lambda: verified(WAIVER, trusted=trusted_of(SIGNER, may=frozenset({Kind.VERDICT})))),
    (Reason.BAD_SIGNATURE, lambda: verify_statement(forged(), TRUSTED, NOW)),
    (Reason.NOT_YET_VALID, lambda: verified(verdict(), NOW - SKEW - timedelta(seconds=1))),
    (Reason.EXPIRED, lambda: verified(verdict(), LATER)),
    (Reason.EXPIRED, lambda: verified(WAIVER, LATER + timedelta(days=1))),
    (Reason.WRONG_KIND, lambda: require_covers(Seal(NOW, RUN_ID, {}), HONEST)),
    (Reason.WRONG_MODEL, lambda: require_covers(verdict(), replace(HONEST, model=model("8")))),
    (Reason.WRONG_MODEL, lambda: require_covers(verdict(), replace(HONEST, model=model("7", name="other")))),
    (Reason.WRONG_MODEL, lambda: require_covers(WAIVER, replace(HONEST, model=model("8")))),
    (Reason.WRONG_SOURCE, lambda: require_covers(verdict(), replace(HONEST, model=model("7", source="models:/m-9")))),
    (Reason.WRONG_BYTES, lambda: require_covers(verdict(), replace(HONEST, model=model("7", **OTHER_BYTES)))),
    (Reason.WRONG_BYTES, lambda: require_covers(WAIVER, replace(HONEST, model=model("7", **OTHER_BYTES)))),
    (Reason.WRONG_BYTES, lambda: require_covers(BASELINE, replace(FIRST, model=model("7", **OTHER_BYTES)))),
    (
        Reason.WRONG_BYTES,
        lambda: require_covers(verdict(), replace(HONEST, model=model("7", weights_digest=digest("x")))),
    ),
    (Reason.VERDICT_DRIFT, lambda: require_covers(verdict("DRIFT"), HONEST)),
    (Reason.VERDICT_INCONCLUSIVE, lambda: require_covers(verdict("INCONCLUSIVE"), HONEST)),
    (Reason.WRONG_POLICY, lambda: require_covers(verdict(), replace(HONEST, policies={digest("strict")}))),
    (Reason.WRONG_POLICY, lambda: require_covers(verdict(), replace(HONEST, policies=()))),
    (Reason.WRONG_POLICY, lambda: require_covers(BASELINE, replace(FIRST, policies={digest("strict")}))),
    (Reason.STALE_REFERENCE, lambda: require_covers(verdict(), replace(HONEST, champion=model("2")))),
    (Reason.STALE_REFERENCE, lambda: require_covers(verdict(), replace(HONEST, champion=model("1", **OTHER_BYTES)))),
    (Reason.STALE_REFERENCE, lambda: require_covers(verdict(), FIRST)),
    (Reason.WRONG_ALIAS, lambda: require_covers(WAIVER, replace(HONEST, alias="production"))),
    (Reason.ALREADY_USED, lambda: require_covers(WAIVER, replace(HONEST, used_waivers={"waiver-1"}))),
    (Reason.NOT_FIRST, lambda: require_covers(BASELINE, HONEST)),
    (Reason.CHECKS_FAILED, lambda: require_covers(replace(BASELINE, checks=(replace(CHECK, passed=False),)), FIRST)),
    (Reason.CHECKS_FAILED, lambda: require_covers(replace(BASELINE, checks=()), FIRST)),
]


def forged() -> bytes:
    """The payload of a PASS under the signature of a DRIFT."""
    drift, passed = (sign(payload_of(verdict(word)), [SIGNER]) for word in ("DRIFT", "PASS"))
    return passed.partition(b'"signatures"')[0] + b'"signatures"' + drift.partition(b'"signatures"')[2]


@pytest.mark.parametrize(("expected", "act"), REFUSED, ids=[f"{row}-{each}" for row, (each, _) in enumerate(REFUSED)])
def test_everything_else_is_refused_with_its_reason(expected: Reason, act: Callable[[], object]) -> None:
    assert reason(act) == expected


def test_every_reason_is_reached() -> None:
    sources = "".join(inspect.getsource(module) for module in (verification, coverage, envelope))
    assert {expected for expected, _ in REFUSED} == {Reason[name] for name in re.findall(r"Reason\.([A-Z_]+)", sources)}


@given(st.integers(-(10**7), 10**7))
def test_a_statement_is_valid_from_its_issue_to_its_expiry(seconds: int) -> None:
    now = NOW + timedelta(seconds=seconds)
    if NOW - SKEW <= now < LATER:
        assert verified(verdict(), now) == verdict()
    else:
        expected = Reason.EXPIRED if now >= LATER else Reason.NOT_YET_VALID
        assert reason(lambda: verified(verdict(), now)) == expected
