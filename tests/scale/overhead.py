"""The whole flow against the plain library calls: the same maps and verdict without Prefect and MLflow."""

import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import processes
import serving
import staged
from page import note, put, software, table

from attrail_explainers.explanation import explain_slice
from attrail_explainers.runtime.torch_threads import one_torch_thread
from attrail_explainers.slice import Slice
from attrail_flows.configuration import AuditConfig, read_config
from attrail_mlflow.registry.registry import Registry
from attrail_monitoring.comparison import compare
from attrail_monitoring.maps.version_maps import VersionMaps


def prepare_overhead(folder: Path, images: int) -> staged.Staged:
    """The registry with the champion's calibration, whose rehearsal is no part of an audit after the first."""
    place = staged.larger(folder, images, 2)
    from attrail_flows.calibrate import calibrate

    with serving.prefect_server(folder):
        calibrate(read_config(place.config).run_with("processes"))
    return place


def measure_overhead(folder: Path, images: int) -> None:
    known = (folder / "attrail.toml").exists()
    place = staged.Staged(folder, "larger") if known else prepare_overhead(folder, images)
    config = read_config(place.config).run_with("threads", 1, fresh=True)
    slice_, plain = _slice(config), _Plain(config)
    with serving.prefect_server(folder) as server:
        before = plain.explained(slice_, "1")
        with processes.watched((server,)) as flow:
            document = _audited(config)
        after = plain.explained(slice_, "2")
        parts = _parts(document["run"]["flow_run_id"])
    judging = plain.judged(document)
    whole = before + after + judging
    _say(len(slice_), whole, flow, parts, {"explain": before + after, "judge": judging})


class _Plain:
    """Explaining and judging by hand, in one thread."""

    def __init__(self, config: AuditConfig) -> None:
        self.config, self.registry = config, Registry(config.registry.tracking_uri)
        self.maps: list[VersionMaps] = []

    def explained(self, slice_: Slice, number: str) -> float:
        classifier = self.registry.load(self.registry.resolve("larger", number))
        explainers = [each.to_explainer() for each in self.config.explainers]
        started = time.monotonic()
        with one_torch_thread():
            right = classifier.logits(slice_.images, slice_.sample_ids).argmax(axis=1) == slice_.labels
            maps = explain_slice(classifier, slice_, explainers, slice_.labels, self.config.policy.seed)
        seconds = time.monotonic() - started
        self.maps.append(VersionMaps(tuple(maps), {slice_.name: np.asarray(right)}))
        return seconds

    def judged(self, document: dict[str, Any]) -> float:
        """Seconds to measure and judge; the maps must be the flow's, bit by bit."""
        started = time.monotonic()
        compare(*self.maps, policy=self.config.policy.to_policy())
        seconds = time.monotonic() - started
        mine = {each.digest for version in self.maps for each in version.maps}
        assert mine == set(document["maps"].values()), "the flow's maps are other maps"
        return seconds


def _slice(config: AuditConfig) -> Slice:
    from attrail_flows.inputs.slices import read_slices

    registry = Registry(config.registry.tracking_uri)
    (found,) = read_slices(config, registry.resolve("larger", "1"))
    return found


def _audited(config: AuditConfig) -> dict[str, Any]:
    from attrail_flows.audit import audit

    return dict(audit(config))


def _parts(flow_run: str) -> Counter[str]:
    """Seconds of each task of a flow's run, those of shards together."""
    from task_runs import task_runs

    found: Counter[str] = Counter()
    for run in task_runs(flow_run):
        name = "shards" if run.name.startswith("shard-") else run.name.split("-")[0]
        found[name] += run.total_run_time.total_seconds()
    return found


def _say(images: int, plain: float, flow: processes.Watch, parts: Counter[str], by_hand: dict[str, float]) -> None:
    more = flow.seconds / plain - 1
    tasks = sum(seconds for name, seconds in parts.items() if name != "shards")
    rows = [
        ("explain: shards", parts["shards"], by_hand["explain"]),
        ("explain: cutting, keys, reading back, joining", parts["explain"] - parts["shards"], 0.0),
        ("compare and judge", parts["compare"] + parts["judge"], by_hand["judge"]),
        ("find versions, open the run, find the floor", parts["load"] + parts["open"] + parts["calibrate"], 0.0),
        ("read and validate the slice", parts["validate"], 0.0),
        ("evidence, report, upload", parts["record"], 0.0),
        ("between the tasks: clusters, most moved, Prefect", flow.seconds - tasks, 0.0),
        ("all", flow.seconds, plain),
    ]
    text = table(("part", "flow, s", "by hand, s"), [(name, f"{a:.2f}", f"{b:.2f}") for name, a, b in rows])
    head = (
        f"{images} images, Grad-CAM, SHAP and LIME, two versions, the demo's network on 152x152 pixels, one thread, a "
        "standing Prefect server and MLflow on SQLite, no noise floor; the same maps, bit by bit. By hand: "
        "`explain_slice` of both versions and `compare`, without loading models and reading images."
    )
    tail = (
        f"The flow takes **{more:+.1%}**: {flow.seconds:.1f} s against {plain:.1f} s. Prefect's server burnt "
        f"{flow.burnt['servers']:.1f} s of another core."
    )
    put({"What the flow adds": f"{head}\n\n{text}\n\n{tail}\n\n{software()}"})
    note("overhead", {"images": images, "flow": flow.seconds, "plain": plain, "parts": dict(parts), "by hand": by_hand})
    print(text, f"{more:+.1%}")
