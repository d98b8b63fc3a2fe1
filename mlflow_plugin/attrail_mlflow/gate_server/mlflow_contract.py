"""What the gate takes for granted about MLflow's registry store, checked before a server starts.

An upgrade of MLflow may rename a method that the gate overrides, or add another way to change a registry. In both cases
the server must not start: it would look guarded, and not be.
"""

import inspect
from collections.abc import Iterable, Mapping

from mlflow.entities.model_registry.model_version_stages import ALL_STAGES
from mlflow.store.model_registry.abstract_store import AbstractStore
from mlflow.version import VERSION

from attrail_explainers.errors import ConfigError
from attrail_mlflow.gate.policy import STAGES

GUARDED: Mapping[str, tuple[str, ...]] = {
    "set_registered_model_alias": ("name", "alias", "version"),
    "delete_registered_model_alias": ("name", "alias"),
    "transition_model_version_stage": ("name", "version", "stage", "archive_existing_versions"),
    "rename_registered_model": ("name", "new_name"),
    "delete_registered_model": ("name",),
    "delete_model_version": ("name", "version"),
    "create_model_version": (
        "name",
        "source",
        "run_id",
        "tags",
        "run_link",
        "description",
        "local_model_path",
        "model_id",
    ),
    "set_model_version_tag": ("name", "version", "tag"),
    "delete_model_version_tag": ("name", "version", "key"),
}
READ: Mapping[str, tuple[str, ...]] = {
    "get_model_version": ("name", "version"),
    "get_model_version_download_uri": ("name", "version"),
    "get_registered_model": ("name",),
    "get_latest_versions": ("name", "stages"),
    "_get_active_workspace": (),
}
HARMLESS = {
    "create_registered_model",
    "update_registered_model",
    "set_registered_model_tag",
    "delete_registered_model_tag",
    "update_model_version",
    "copy_model_version",  # creates a version by create_model_version
    "create_prompt",  # prompts go through the methods above
    "delete_prompt",
    "set_prompt_tag",
    "delete_prompt_tag",
    "create_prompt_version",
    "delete_prompt_version",
    "set_prompt_alias",
    "delete_prompt_alias",
    "set_prompt_version_tag",
    "delete_prompt_version_tag",
    "link_prompts_to_trace",
    "link_prompt_version_to_model",
    "link_prompt_version_to_run",
    "create_webhook",
    "update_webhook",
    "delete_webhook",
}
CHANGING = (
    "add",
    "archive",
    "assign",
    "bulk",
    "copy",
    "create",
    "delete",
    "import",
    "link",
    "move",
    "promote",
    "register",
    "remove",
    "rename",
    "restore",
    "rollback",
    "set",
    "transition",
    "update",
    "upsert",
)
ROUTES = {
    "_set_registered_model_alias",
    "_delete_registered_model_alias",
    "_transition_stage",
    "_rename_registered_model",
    "_delete_registered_model",
    "_delete_model_version",
    "_create_model_version",
    "_set_model_version_tag",
    "_delete_model_version_tag",
}


def require_store(store: type) -> None:
    """Raise ConfigError, naming the first difference, unless a registry store has just the methods the gate knows."""
    for name, expected in {**GUARDED, **READ}.items():
        found = _parameters(store, name)
        if found != expected:
            raise _unknown(f"{store.__name__}.{name}{expected} was expected, found {found}")
    for name in dir(store):
        if name.split("_")[0] in CHANGING and name not in GUARDED and name not in HARMLESS:
            raise _unknown(f"{store.__name__}.{name}() may change what is promoted, and the gate does not know it")
    if set(ALL_STAGES) != {"None", *STAGES}:
        raise _unknown(f"the stages {STAGES} were expected, found {ALL_STAGES}")


def require_routes(endpoints: Iterable[str]) -> None:
    """Raise ConfigError, naming what is missing, unless a server has the endpoints that the gate stands behind."""
    missing = sorted(ROUTES - set(endpoints))
    if missing:
        raise _unknown(f"the server has no endpoint {missing[0]}")


def _parameters(store: type, name: str) -> tuple[str, ...] | None:
    """The parameters of a method after ``self``; None when the store does not define it itself."""
    method = getattr(store, name, None)
    if not callable(method) or method is getattr(AbstractStore, name, None):
        return None
    return tuple(inspect.signature(method).parameters)[1:]


def _unknown(what: str) -> ConfigError:
    return ConfigError(
        f"the gate cannot guard this MLflow ({VERSION}): {what}; use a version of MLflow that this attrail supports"
    )
