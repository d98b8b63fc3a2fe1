"""What one shard costs its servers, and one map MLflow's disk: over HTTP, in one process, every request counted."""

import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import processes
import requests
import serving
import staged
from page import note

from attrail_explainers.attributions import load_attributions
from attrail_explainers.errors import RecordError


def measure_units(folder: Path, images: int) -> None:
    place = staged.digits(folder, images, 1)
    with serving.prefect_server(folder) as server, serving.mlflow_server(place.uri, folder) as address:
        from prefect import flow

        from attrail_flows.configuration import read_config
        from attrail_flows.engine.session import explaining
        from attrail_flows.inputs.slices import read_slices
        from attrail_mlflow.registry.registry import Registry

        @flow
        def counted() -> dict[str, float]:
            config = read_config(place.config)
            registry = Registry(address)
            version = registry.resolve(place.model, "1")
            (slice_,) = read_slices(config, version)
            with (
                explaining(registry, config, "units") as how,
                counting() as count,
                processes.watched((server,)) as watch,
            ):
                shards: list[int] = []
                how.explain(version, [slice_], None, shards.append)
            return {"shards": len(shards), "server": watch.burnt["servers"], **count}

        found = counted()
    shards = found.pop("shards")
    facts = {name: number / shards for name, number in found.items()} | {"bytes": dict(_bytes(folder))}
    note("units", facts)
    print(json.dumps(facts, indent=1))


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Requests of this process: those of ``requests`` are MLflow's client's, those of ``httpx`` Prefect's."""
    count: Counter[str] = Counter()

    def counted(real: Any, name: str) -> Any:
        def call(self: Any, *arguments: Any, **options: Any) -> Any:
            count[name] += 1
            return real(self, *arguments, **options)

        return call

    with (
        mock.patch.object(requests.Session, "send", counted(requests.Session.send, "mlflow")),
        mock.patch.object(httpx.Client, "send", counted(httpx.Client.send, "prefect")),
        mock.patch.object(httpx.AsyncClient, "send", counted(httpx.AsyncClient.send, "prefect")),
    ):
        yield count


def _bytes(folder: Path) -> Iterator[tuple[str, float]]:
    """Bytes of one image's map, by explainer."""
    sizes: Counter[str] = Counter()
    images: Counter[str] = Counter()
    for path in (folder / "artifacts" / "attrail").rglob("attributions/*.safetensors"):
        with suppress(RecordError):  # logits are none
            maps = load_attributions(path)
            name = f"{maps.explainer} maps of {'x'.join(map(str, maps.values.shape[1:]))}"
            sizes[name] += path.stat().st_size
            images[name] += len(maps.sample_ids)
    yield from ((name, sizes[name] / images[name]) for name in sorted(sizes))
