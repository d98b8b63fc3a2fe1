"""Entry points ``mlflow.model_registry_store``: ``mlflow server --registry-store-uri attrail+sqlite:///mlflow.db``.

MLflow imports this module in every process that uses a registry, gated or not. So it imports nothing itself.
"""

from typing import Any

PREFIX = "attrail+"


def build(store_uri: str, tracking_uri: str | None = None) -> Any:
    """The gated store over the database that stands behind ``attrail+``.

    Raises ConfigError when the policy (``gate.policy``) is missing or wrong, or MLflow is one the gate does not know.
    """
    from attrail_mlflow.gate_server.gated_database import open_store  # noqa: PLC0415 - see above

    return open_store(store_uri.removeprefix(PREFIX))
