"""The receiver of MLflow's webhooks: every version that is registered gets one audit, started as a Prefect deployment.

A request is verified, written into the inbox and answered; a thread starts the audits, again after a failure and after
a restart. Prefect itself starts a flow once for a version, whoever asks how often: it is given a key for that.
"""

import hashlib
import logging
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from fastapi import FastAPI, Request, Response
from prefect.deployments import run_deployment

from attrail_explainers.errors import EvidenceError
from attrail_flows.configuration import AuditConfig
from attrail_mlflow.webhooks.delivery import LIMIT, read_delivery
from attrail_mlflow.webhooks.inbox import Inbox, Version

AGAIN = 30.0  # seconds until what could not be started is tried again

logger = logging.getLogger("attrail.receiver")


@dataclass
class Starter:
    """Starts the audits of versions that wait in the inbox, one after the other, in a thread of its own."""

    inbox: Inbox
    start: Callable[[Version], None]
    again: float = AGAIN
    _news: threading.Event = field(default_factory=threading.Event)
    _over: threading.Event = field(default_factory=threading.Event)

    def wake(self) -> None:
        """Say that there is something new in the inbox."""
        self._news.set()

    def run(self) -> None:
        """Work until ``stop``."""
        while not self._over.is_set():
            self._news.clear()
            for version in self.inbox.waiting():
                self._start(version)
            self._news.wait(self.again)

    def stop(self) -> None:
        self._over.set()
        self._news.set()

    def _start(self, version: Version) -> None:
        try:
            self.start(version)
        except Exception:  # whatever Prefect's client raises: the version waits on, and the log says why
            logger.exception("the audit of %s/%s could not be started; it is tried again", *version[:2])
        else:
            self.inbox.started(version)


def create_app(inbox: Inbox, starter: Starter, secret: bytes, model: str) -> FastAPI:
    """The application: ``POST /mlflow`` takes deliveries about ``model``, ``GET /health`` says what waits."""

    @asynccontextmanager
    async def running(app: FastAPI) -> AsyncIterator[None]:
        inbox.create()
        worker = threading.Thread(target=starter.run, name="attrail-starter", daemon=True)
        worker.start()
        yield
        starter.stop()
        worker.join(timeout=10)

    app = FastAPI(title="attrail", lifespan=running, docs_url=None, redoc_url=None, openapi_url=None)

    @app.post("/mlflow")
    async def take(request: Request) -> Response:
        """202 for a version to audit, 200 for what is none of it or was known, 401 for what MLflow did not send."""
        try:
            delivery = read_delivery(request.headers, await _body(request), secret, datetime.now(UTC))
            version = delivery.version
        except EvidenceError as error:
            return Response(str(error), 401)
        if version is None or version[0] != model:
            return Response("nothing to audit", 200)
        if not inbox.take(delivery, version):
            return Response("known", 200)
        starter.wake()
        return Response("to be audited", 202)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        return {"waiting": len(inbox.waiting())}

    return app


def start_audit(config: AuditConfig, deployment: str, version: Version) -> None:
    """Start the audit deployment for one version, unless it was started for it before."""
    section = config.registry.model_copy(update={"candidate": version[1]})
    wanted = config.model_copy(update={"registry": section}).model_dump(mode="json", by_alias=True)
    key = hashlib.sha256("\0".join(version).encode()).hexdigest()
    run_deployment(deployment, parameters={"config": wanted}, timeout=0, idempotency_key=f"attrail-{key}")


async def _body(request: Request) -> bytes:
    """The request's body, no more of it than any delivery has."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LIMIT:
            break
    return body
