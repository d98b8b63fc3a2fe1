"""Opens a gated store as MLflow's server opens its own: with workspaces and a read replica if it was told so."""

import os

from mlflow.environment_variables import MLFLOW_ENABLE_WORKSPACES
from mlflow.server.constants import READ_REPLICA_BACKEND_STORE_URI_ENV_VAR
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

from attrail_mlflow.gate.policy import policy_from_environment
from attrail_mlflow.gate_server.mlflow_contract import require_store
from attrail_mlflow.gate_server.store import GatedStore, GatedWorkspaceStore


def open_store(db_uri: str) -> GatedStore:
    """The gated store over a database, under the policy that ``ATTRAIL_GATE_POLICY`` names.

    Raises ConfigError when the policy is missing or wrong, or when this MLflow's store is not as the gate expects.
    """
    workspaces = MLFLOW_ENABLE_WORKSPACES.get()
    require_store(WorkspaceAwareSqlAlchemyStore if workspaces else SqlAlchemyStore)
    store = GatedWorkspaceStore if workspaces else GatedStore
    return store(db_uri, os.environ.get(READ_REPLICA_BACKEND_STORE_URI_ENV_VAR), policy_from_environment())
