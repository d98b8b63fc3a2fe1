"""Ask MLflow for what has a name: its filter strings know no escape, and names may hold quotes."""

import re
from collections.abc import Iterator, Mapping

from mlflow import MlflowClient
from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

UNSAYABLE = re.compile(r"['\\]")  # what cannot stand in a quoted text of a filter


def like(field: str, value: str) -> str:
    """A filter that finds everything with this value in a field, and perhaps more: look at what was found.

    A quote or a backslash is asked for as any one character.
    """
    if not UNSAYABLE.search(value):
        return f"{field} = '{value}'"
    return f"{field} LIKE '{UNSAYABLE.sub('_', value)}'"


def newest_run(client: MlflowClient, experiment_id: str, tags: Mapping[str, str]) -> Run | None:
    """The newest run of an experiment that carries all these tags, None when there is none."""
    wanted, token = " and ".join(like(f"tags.`{key}`", value) for key, value in tags.items()), None
    while True:
        newest = ["attributes.start_time DESC"]
        found = client.search_runs([experiment_id], wanted, order_by=newest, max_results=1, page_token=token)
        for run in found:
            if tags.items() <= run.data.tags.items():
                return run
        token = found.token
        if not token:
            return None


def versions_named(client: MlflowClient, name: str, page: int = 1000) -> Iterator[ModelVersion]:
    """All versions of a registered model, the newest first; ``page`` is how many are asked for at once."""
    order, token = ["version_number DESC"], None
    while True:
        found = client.search_model_versions(like("name", name), page, order, token)
        yield from (each for each in found if each.name == name)
        token = found.token
        if not token:
            return
