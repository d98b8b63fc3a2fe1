"""An MLflow that the gate does not know must not look guarded."""

import pytest
from mlflow.store.model_registry.sqlalchemy_store import SqlAlchemyStore
from mlflow.store.model_registry.sqlalchemy_workspace_store import WorkspaceAwareSqlAlchemyStore

from attrail_explainers.errors import ConfigError
from attrail_mlflow.gate_server.mlflow_contract import GUARDED, READ, ROUTES, require_routes, require_store
from attrail_mlflow.gate_server.store import GatedStore


@pytest.mark.parametrize("store", [SqlAlchemyStore, WorkspaceAwareSqlAlchemyStore])
def test_this_mlflow_is_known(store: type) -> None:
    require_store(store)


@pytest.mark.parametrize("name", [*GUARDED, *READ])
def test_a_missing_method_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"cannot guard this MLflow .*\.{name}\(.*found None"):
        require_store(type("Store", (SqlAlchemyStore,), {name: None}))


@pytest.mark.parametrize("name", GUARDED)
def test_another_parameter_is_named(name: str) -> None:
    def changed(self: object, name: str, force: bool) -> None: ...

    with pytest.raises(ConfigError, match=rf"\.{name}\(.*'force'"):
        require_store(type("Store", (SqlAlchemyStore,), {name: changed}))


@pytest.mark.parametrize("name", ["promote_model_version", "set_model_version_alias", "copy_registered_model"])
def test_a_new_way_to_change_a_registry_is_named(name: str) -> None:
    with pytest.raises(ConfigError, match=rf"\.{name}\(\) may change what is promoted"):
        require_store(type("Store", (SqlAlchemyStore,), {name: lambda self: None}))


@pytest.mark.parametrize("name", GUARDED)
def test_every_guarded_method_is_guarded(name: str) -> None:
    assert getattr(GatedStore, name) is not getattr(SqlAlchemyStore, name)


def test_routes_are_known_and_a_missing_one_is_named() -> None:
    from mlflow.server import app

    endpoints = {rule.endpoint for rule in app.url_map.iter_rules()}
    require_routes(endpoints)
    for name in ROUTES:
        with pytest.raises(ConfigError, match=f"no endpoint {name}"):
            require_routes(endpoints - {name})
