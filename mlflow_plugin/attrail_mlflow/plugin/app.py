"""Entry point ``mlflow.app``: ``mlflow server --app-name attrail``, MLflow's server that says whether it is gated.

The gate itself is the registry store (``registry_store``) and needs no app. This one refuses to start without it, or
when MLflow's routes are not those it stands behind, and answers at ``/attrail/health``. Both are checked when the
module is imported: MLflow's parent process imports it once and ends with the error, whereas an error in ``create_app``
would make its workers start again and again.
"""

from http import HTTPStatus
from typing import Any

from flask import Flask, Response, jsonify
from mlflow.environment_variables import _MLFLOW_SGI_NAME
from mlflow.server import app as flask_app
from mlflow.server.handlers import _get_model_registry_store
from mlflow.version import VERSION

from attrail_explainers.errors import ConfigError
from attrail_mlflow.gate_server.mlflow_contract import require_routes
from attrail_mlflow.gate_server.store import GatedStore

HEALTH = "/attrail/health"


def gated_store() -> GatedStore:
    """The server's registry store; ConfigError when it is not gated."""
    store = _get_model_registry_store()
    if not isinstance(store, GatedStore):
        raise ConfigError(
            "this server's registry is not gated: start it with --registry-store-uri attrail+sqlite:///... or "
            "attrail+postgresql://..."
        )
    return store


def create_app(app: Flask = flask_app) -> Any:
    """MLflow's application with ``/attrail/health``: an ASGI application under uvicorn, else WSGI."""
    if HEALTH not in {rule.rule for rule in app.url_map.iter_rules()}:
        app.add_url_rule(HEALTH, "attrail_health", health)
    if _MLFLOW_SGI_NAME.get() == "uvicorn":
        from mlflow.server.fastapi_app import create_fastapi_app  # noqa: PLC0415 - it makes an application of its own

        return create_fastapi_app(app)
    return app


def health() -> tuple[Response, int]:
    """The answer that says whether the gate is on, under which policy, and where its journal ends.

    A process whose policy is not the one in force refuses every promotion; it says so, with status 503. Who notes the
    journal's last hash elsewhere can later show that the journal was not written anew.
    """
    store = gated_store()
    in_force = store.policy_in_force()
    same = in_force == store.policy.digest
    answer = jsonify(
        gate="on" if same else "refusing: this process has another policy than the one in force; restart the server",
        mlflow=VERSION,
        database=store.engine.dialect.name,
        policy_digest=store.policy.digest,
        policy_in_force=in_force,
        policy=store.policy.document(),
        journal=store.journal_end(),
    )
    return answer, HTTPStatus.OK if same else HTTPStatus.SERVICE_UNAVAILABLE


gated_store()
require_routes(rule.endpoint for rule in flask_app.url_map.iter_rules())
