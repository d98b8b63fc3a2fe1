"""MLflow's webhooks: only MLflow's, only fresh ones, and every version once."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.webhooks.delivery import LIMIT, TOLERANCE, Delivery, read_delivery, sign_delivery
from attrail_mlflow.webhooks.inbox import Inbox

NOW = datetime(2026, 11, 21, 17, 6, 32, tzinfo=UTC)
SECRET = b"what MLflow and the receiver know"
DATA = {"name": "digits", "version": "7", "source": "models:/m-7", "run_id": None, "tags": {}, "description": None}
CREATED = json.dumps({"entity": "model_version", "action": "created", "timestamp": "now", "data": DATA}).encode()


def headers(body: bytes = CREATED, sent: datetime = NOW, secret: bytes = SECRET) -> dict[str, str]:
    time = str(int(sent.timestamp()))
    signature = sign_delivery("delivery-1", time, body, secret)
    return {"X-MLflow-Delivery-Id": "delivery-1", "X-MLflow-Timestamp": time, "X-MLflow-Signature": signature}


def test_a_delivery_of_mlflows_own_is_read() -> None:
    """The signature is held against MLflow's own function."""
    from mlflow.webhooks.delivery import _generate_hmac_signature

    theirs = _generate_hmac_signature(SECRET.decode(), "delivery-1", str(int(NOW.timestamp())), CREATED.decode())
    assert headers()["X-MLflow-Signature"] == theirs
    found = read_delivery(headers(), CREATED, SECRET, NOW)
    assert (found.id, found.version) == ("delivery-1", ("digits", "7", "models:/m-7"))


@given(st.binary(min_size=1, max_size=300))
def test_any_other_body_is_refused(body: bytes) -> None:
    if body != CREATED:
        with pytest.raises(EvidenceError, match="signature does not fit"):
            read_delivery(headers(), body, SECRET, NOW)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"X-MLflow-Signature": ""}, "x-mlflow-signature is missing"),
        ({"X-MLflow-Delivery-Id": "another"}, "signature does not fit"),
        ({"X-MLflow-Timestamp": "0"}, "signature does not fit"),
        ({"X-MLflow-Signature": "v1,AAAA"}, "signature does not fit"),
        ({"X-MLflow-Signature": "v1,not base64"}, "signature does not fit"),
        ({"X-MLflow-Signature": headers()["X-MLflow-Signature"].replace("v1", "v2")}, "signature does not fit"),
        ({"X-MLflow-Signature": headers(secret=b"guess")["X-MLflow-Signature"]}, "signature does not fit"),
    ],
)
def test_what_is_wrong_with_the_headers_is_named(changes: dict[str, str], said: str) -> None:
    with pytest.raises(EvidenceError, match=said):
        read_delivery(headers() | changes, CREATED, SECRET, NOW)


@given(st.integers(-1000, 1000))
def test_only_a_fresh_delivery_counts(seconds: int) -> None:
    sent = NOW + timedelta(seconds=seconds)
    if abs(seconds) <= TOLERANCE.total_seconds():
        assert read_delivery(headers(sent=sent), CREATED, SECRET, NOW).version
    else:
        with pytest.raises(EvidenceError, match="too old, or the clocks differ"):
            read_delivery(headers(sent=sent), CREATED, SECRET, NOW)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b"{}", b'{"entity": "x", "action": "y"}', b"[" * 100_000, b" " * (LIMIT + 1)]
)
def test_a_signed_delivery_that_is_none_is_refused(body: bytes) -> None:
    with pytest.raises(EvidenceError):
        read_delivery(headers(body), body, SECRET, NOW)


@pytest.mark.parametrize("action", ["deleted", "set"])
def test_other_events_are_about_no_new_version(action: str) -> None:
    assert Delivery("1", "model_version", action, DATA).version is None
    assert Delivery("1", "model_version_tag", "created", DATA).version is None


@pytest.mark.parametrize("key", ["name", "version", "source"])
def test_a_version_that_is_not_whole_is_refused(key: str) -> None:
    with pytest.raises(EvidenceError, match=key):
        _ = Delivery("1", "model_version", "created", DATA | {key: None}).version


def inbox(folder: Path) -> Inbox:
    found = Inbox(folder / "inbox.db")
    found.create()
    return found


def delivery(id_: str, **changes: Any) -> Delivery:
    return Delivery(id_, "model_version", "created", DATA | changes)


def test_a_version_waits_until_its_audit_was_started(tmp_path: Path) -> None:
    box, version = inbox(tmp_path), ("digits", "7", "models:/m-7")
    assert box.take(delivery("1"), version)
    assert not box.take(delivery("1"), version), "the same delivery again"
    assert not box.take(delivery("2"), version), "another delivery about the same version"
    assert inbox(tmp_path).waiting() == [version]
    box.started(version)
    assert box.waiting() == []
    assert not box.take(delivery("3"), version)


def test_a_version_registered_anew_is_another(tmp_path: Path) -> None:
    box = inbox(tmp_path)
    for id_, source in (("1", "models:/m-7"), ("2", "models:/m-8")):
        assert box.take(delivery(id_), ("digits", "7", source))
    assert [source for _, _, source in box.waiting()] == ["models:/m-7", "models:/m-8"]
