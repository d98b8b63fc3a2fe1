"""One version's maps on every engine that is installed, by one worker and by two."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import processes
import serving
import staged
from page import note, put, software, table

from attrail_explainers.slice import Slice
from attrail_flows.engine.shards import Shard

FIRST = 96  # images that start every worker and load the model in each, before the clock runs
OPTIONAL = ("ray", "dask")
SMALL = (
    "{} images of 64x64 pixels, the demo's network (0.5 million activations an image), Grad-CAM, SHAP and LIME at "
    "their usual 256 evaluations, every map computed; one worker is one process with one thread."
)
HEADS = (
    "engine",
    "workers",
    "start, s",
    "seconds",
    "images/s",
    "speed-up",
    "workers, CPU s",
    "driver",
    "servers",
    "MiB",
)


@dataclass(frozen=True)
class Row:
    """One engine by some workers: seconds until ``FIRST`` images were done, then of all, and what it burnt and held."""

    runner: str
    workers: int
    start: float
    images: int
    watch: processes.Watch
    digests: Sequence[str]

    @property
    def pace(self) -> float:
        return self.images / self.watch.seconds

    def shown(self, alone: "Row", expected: Sequence[str]) -> list[object]:
        seconds = [f"{self.start:.1f}", f"{self.watch.seconds:.1f}", f"{self.pace:.2f}"]
        burnt = [f"{self.watch.burnt[kind]:.1f}" for kind in ("workers", "driver", "servers")]
        speed = f"{self.pace / alone.pace:.2f}x" + ("" if self.digests == expected else " OTHER BYTES")
        return [self.runner, self.workers, *seconds, speed, *burnt, f"{self.watch.mebibytes:.0f}"]


def measure_engines(folder: Path, images: int) -> None:
    wanted = [("threads", 1), ("threads", 2), ("processes", 1), ("processes", 2)]
    _measure("Engines", "engines", staged.digits(folder, FIRST + images, 1), wanted, FIRST, SMALL.format(images))


def measure_clusters(folder: Path, images: int) -> None:
    installed = [name for name in OPTIONAL if find_spec(f"prefect_{name}")]
    wanted = [("threads", 1), *((each, count) for each in installed for count in (1, 2))]
    _measure("Ray and Dask", "clusters", staged.digits(folder, FIRST + images, 1), wanted, FIRST, SMALL.format(images))


def measure_threads(folder: Path, images: int) -> None:
    wanted = [("threads", 1), ("threads", 2), ("processes", 2)]
    what = (
        f"{images} images of 224x224 pixels, EfficientNet-lite0 (21 million activations an image), random weights, the "
        "same three explainers. Two threads share one interpreter, whose lock torch lets go only inside its kernels: "
        "the larger the layers, the less the threads wait for each other."
    )
    _measure("Threads on a larger network", "threads", staged.lite0(folder, 1 + images, 1), wanted, 1, what)


def _measure(
    title: str, part: str, place: staged.Staged, wanted: Sequence[tuple[str, int]], first: int, what: str
) -> None:
    """Write the section after every row, so that a run that is cut short leaves the rows it has."""
    rows: list[Row] = []
    os.environ["PYTHONPATH"] = str(Path(__file__).parent)  # workers unpickle the flow, which is a function of this file
    with serving.prefect_server(place.folder) as server:
        timed = _flow(place, server, first)
        for runner, workers in wanted:
            rows.append(timed(runner, workers))
            _say(title, part, rows, what)
            print(runner, workers, f"{rows[-1].pace:.2f} images/s", flush=True)


def _say(title: str, part: str, rows: Sequence[Row], what: str) -> None:
    alone = {each.runner: each for each in reversed(rows) if each.workers == 1}
    expected = rows[0].digests
    base = [alone.get(each.runner, rows[0]) for each in rows]
    same = "The same bytes in every row." if all(each.digests == expected for each in rows) else "BYTES DIFFER."
    text = table(HEADS, [each.shown(one, expected) for each, one in zip(rows, base, strict=True)])
    legend = (
        "Start: from nothing to the first images, which are not among those of the other columns. Speed-up: against "
        "one worker of the same engine, or one thread where it has no such row. CPU seconds of the workers, of the "
        "flow's process (where threads compute) and of Prefect's server; memory of all of them together."
    )
    put({title: f"{what}\n\n{text}\n\n{same} {legend}\n\n{software()}"})
    note(
        part,
        {
            f"{each.runner} {each.workers}": {
                "seconds": each.watch.seconds,
                "images": each.images,
                "speed-up": each.pace / one.pace,
                "MiB": each.watch.mebibytes,
                "same bytes": each.digests == expected,
            }
            | {f"{kind} CPU s": spent for kind, spent in each.watch.burnt.items()}
            for each, one in zip(rows, base, strict=True)
        },
    )


def _flow(place: staged.Staged, server: int, first: int) -> Callable[[str, int], Row]:
    from prefect import flow

    from attrail_flows.configuration import read_config
    from attrail_flows.engine.session import explaining
    from attrail_flows.inputs.slices import read_slices
    from attrail_mlflow.registry.registry import Registry

    @flow
    def timed(runner: str, workers: int) -> Row:
        config = read_config(place.config).run_with(runner, workers, fresh=True)
        registry = Registry(config.registry.tracking_uri)
        version = registry.resolve(place.model, "1")
        (whole,) = read_slices(config, version)
        some, rest = _part(whole, 0, first), _part(whole, first, len(whole))
        with explaining(registry, config, f"{runner} {workers}") as how:
            with processes.watched((server,)) as start:
                how.explain(version, [some], None, lambda maps: None)
            with processes.watched((server,)) as watch:
                found = how.explain(version, [rest], None, lambda maps: None)
        return Row(runner, workers, start.seconds, len(rest), watch, [each.digest for each in found.maps])

    return timed


def _part(whole: Slice, start: int, stop: int) -> Slice:
    return Shard(whole, start, stop).part
