"""Search MLflow, every page of its answers; its filter strings know no escape, and names may hold quotes."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion, RegisteredModel
from mlflow.store.entities import PagedList

from attrail_mlflow.registry.tags import COMPLETE_TAG

Item = TypeVar("Item")

UNSAYABLE = re.compile(r"['\\]")  # what cannot stand in a quoted text of a filter


def like(field: str, value: str) -> str:
    """A filter that finds everything with this value in a field, and perhaps more: look at what was found.

    A quote or a backslash is asked for as any one character.
    """
    if not UNSAYABLE.search(value):
        return f"{field} = '{value}'"
    return f"{field} LIKE '{UNSAYABLE.sub('_', value)}'"


def runs_with(
    client: MlflowClient, experiment_id: str, tags: Mapping[str, str], order: str = "DESC", page: int = 1
) -> Iterator[Run]:
    """Every run of an experiment that carries all these tags, by start, the newest first unless ``order`` is ASC.

    ``page`` is how many are asked for at once.
    """
    wanted, by = (
        " and ".join(like(f"tags.`{key}`", value) for key, value in tags.items()),
        f"attributes.start_time {order}",
    )
    found = _pages(
        lambda token: client.search_runs([experiment_id], wanted, order_by=[by], max_results=page, page_token=token)
    )
    return (run for run in found if tags.items() <= run.data.tags.items())


def newest_complete_run(client: MlflowClient, experiment_id: str, tag: str, value: str) -> Run | None:
    """The newest run of an experiment that is complete and carries a tag, None when there is none."""
    return next(runs_with(client, experiment_id, {tag: value, COMPLETE_TAG: "true"}), None)


def versions_named(client: MlflowClient, name: str, page: int = 1000) -> Iterator[ModelVersion]:
    """All versions of a registered model, the newest first; ``page`` is how many are asked for at once."""
    newest_first = ["version_number DESC"]
    found = _pages(lambda token: client.search_model_versions(like("name", name), page, newest_first, token))
    return (each for each in found if each.name == name)


def registered_models(client: MlflowClient, matching: str = "") -> Iterator[RegisteredModel]:
    """All registered models; ``matching`` is MLflow's filter, such as ``name LIKE 'digits%'``."""
    return _pages(lambda token: client.search_registered_models(filter_string=matching or None, page_token=token))


def _pages(ask: Callable[[str | None], PagedList[Item]]) -> Iterator[Item]:
    """Everything on every page of an answer; ``ask`` takes a page's token, None for the first."""
    token = None
    while True:
        page = ask(token)
        yield from page
        token = page.token
        if not token:
            return
