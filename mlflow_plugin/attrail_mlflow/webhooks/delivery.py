"""MLflow's webhooks as they arrive: whose they are, how old, and what they say.

MLflow signs ``id.timestamp.body`` with HMAC-SHA256 (mlflow/webhooks/delivery.py), and repeats a failed delivery with
the same id, time and signature. It delivers as best it can, in no order: a webhook may start an audit, never stand for
one.
"""

import base64
import binascii
import hashlib
import hmac
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.signing.fields import anything, mapped, text

ID, TIME, SIGNATURE = "x-mlflow-delivery-id", "x-mlflow-timestamp", "x-mlflow-signature"
TOLERANCE = timedelta(minutes=5)  # longer than MLflow's repetitions take together
LIMIT = 1024 * 1024  # bytes
VERSION_CREATED = ("model_version", "created")


@dataclass(frozen=True)
class Delivery:
    """One webhook delivery; ``data`` is MLflow's payload for the event."""

    id: str
    entity: str
    action: str
    data: Mapping[str, Any]

    @property
    def version(self) -> tuple[str, str, str] | None:
        """Name, version and source of a model version that was created; None for every other event."""
        if (self.entity, self.action) != VERSION_CREATED:
            return None
        name, number, source = (text(str(self.data.get(key) or ""), key) for key in ("name", "version", "source"))
        return name, number, source


def read_delivery(headers: Mapping[str, str], body: bytes, secret: bytes, now: datetime) -> Delivery:
    """The delivery in a request. Raises EvidenceError when it is unsigned, altered, too old or malformed."""
    found = {key.lower(): value for key, value in headers.items()}
    if len(body) > LIMIT:
        raise EvidenceError(f"the delivery has {len(body)} bytes, {LIMIT} are enough for any")
    for name in (ID, TIME, SIGNATURE):
        if not found.get(name):
            raise EvidenceError(f"the header {name} is missing: give the webhook a secret in MLflow")
    _require_signature(found, body, secret)
    _require_recent(found[TIME], now)
    try:
        document = mapped(anything)(json.loads(body), "delivery")
        entity, action = (text(document.get(name), name) for name in ("entity", "action"))
        return Delivery(found[ID], entity, action, mapped(anything)(document.get("data"), "data"))
    except (ValueError, RecursionError) as error:
        raise EvidenceError(f"the delivery cannot be read: {error}") from error


def sign_delivery(id_: str, time: str, body: bytes, secret: bytes) -> str:
    """The signature header of a delivery."""
    digest = hmac.new(secret, f"{id_}.{time}.".encode() + body, hashlib.sha256).digest()
    return f"v1,{base64.b64encode(digest).decode()}"


def _require_signature(headers: Mapping[str, str], body: bytes, secret: bytes) -> None:
    scheme, _, given = headers[SIGNATURE].partition(",")
    expected = sign_delivery(headers[ID], headers[TIME], body, secret).partition(",")[2]
    try:
        same = hmac.compare_digest(base64.b64decode(expected), base64.b64decode(given, validate=True))
    except (ValueError, binascii.Error):
        same = False
    if scheme != "v1" or not same:
        raise EvidenceError("the delivery's signature does not fit: another secret, or it was altered")


def _require_recent(stated: str, now: datetime) -> None:
    age = now.timestamp() - int(stated) if stated.isascii() and stated.isdigit() else None
    if age is None or abs(age) > TOLERANCE.total_seconds():
        raise EvidenceError("the delivery is too old, or the clocks differ: it may be a replay")
