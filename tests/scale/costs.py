"""Targets, costs of one unit, and what a million images and a hundred models follow to; nothing is measured here."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from page import measured, put, table

IMAGES, MODELS = 10**6, 100
NIGHT = 8 * 3600.0  # seconds
VERSIONS = 12  # new versions of a model in a year
Facts = Mapping[str, Any]


def compute_costs(folder: Path, images: int) -> None:
    """Write what follows from ``measured.json``; ``folder`` and ``images`` are not used, every part has them."""
    found = measured()
    sections = {"Targets": _targets(found)}
    if {"engines", "threads", "memory", "units"} <= set(found):
        sections |= {
            "What one unit costs": _units(found),
            "A million images, a hundred models": _million(found),
            "What to buy": _shopping(found),
        }
    put(sections)
    print(*(f"{title}\n\n{text}\n" for title, text in sections.items()), sep="\n")


def _targets(found: Facts) -> str:
    rows = []
    if cache := found.get("cache"):
        rows.append(
            ("second audit against the same champion", "<= 0.55x the first", f"{cache['second'] / cache['first']:.2f}x")
        )
    if overhead := found.get("overhead"):
        more = overhead["flow"] / overhead["plain"] - 1
        rows.append(
            (f"flow over the plain library call, {overhead['images']} images x 3 methods", "<= 5 %", f"{more:.1%}")
        )
    for name, row in (found.get("engines", {}) | found.get("clusters", {})).items():
        if name.endswith(" 2"):
            rows.append((f"2 workers against 1, {name[:-2]}", ">= 1.7x", f"{row['speed-up']:.2f}x"))
    if memory := found.get("memory"):
        rows.append(
            ("memory over 100,000 images", "flat", f"{max(slopes(memory).values()):.0f} bytes an image at most")
        )
    if restart := found.get("restart"):
        rows.append(("after kill -9", "recomputes <= 1 shard", f"{restart['again']} complete ones"))
    return table(("", "target", "measured"), rows, left=2)


def slopes(memory: Facts) -> dict[str, float]:
    """Bytes of the process's own memory per image, in each phase that every size has."""
    sizes = sorted(int(each) for each in memory)
    phases = set.intersection(*(set(each["MiB"]) for each in memory.values()))
    held = {phase: [memory[str(size)]["MiB"][phase] for size in sizes] for phase in phases}
    return {phase: float(np.polyfit(sizes, each, 1)[0] * 2**20) for phase, each in held.items()}


def per_image(found: Facts) -> dict[str, float]:
    """Seconds of one core for one image by Grad-CAM, SHAP and LIME, by what the model is."""
    small, large = found["engines"]["threads 1"], found["threads"]["threads 1"]
    return {
        "0.5 million activations (64x64)": small["seconds"] / small["images"],
        "21 million activations (EfficientNet-lite0, 224x224)": large["seconds"] / large["images"],
    }


def judging(found: Facts) -> float:
    """Seconds of judging one image by one explainer, of the largest audit."""
    memory = found["memory"]
    largest = max(memory, key=int)
    spent = memory[largest]["seconds"]
    return sum(spent.get(each, 0.0) for each in ("compare", "judge", "between", "record")) / int(largest)


def efficiency(found: Facts) -> float:
    """Of two processes: the share of both cores that computes."""
    return float(found["engines"]["processes 2"]["speed-up"]) / 2


def _units(found: Facts) -> str:
    units = found["units"]
    rows = [
        (f"one image by three explainers, {name}", f"{seconds:.3f} s of one core")
        for name, seconds in per_image(found).items()
    ]
    rows += [(f"kept in MLflow, {name}", f"{size:,.0f} bytes an image") for name, size in units["bytes"].items()]
    rows += [
        ("requests to MLflow, a shard, beside its files in the artifact store", f"{units['mlflow']:.1f}"),
        ("requests to Prefect's server, a shard, beside events on its websocket", f"{units['prefect']:.1f}"),
        ("Prefect's server, a shard", f"{units['server']:.3f} s of one core"),
        (
            "measuring, judging, evidence and report, an image and explainer",
            f"{judging(found) * 1e3:.2f} ms of one core",
        ),
        ("the second of two cores does", f"{efficiency(found) * 2 - 1:.0%} of the first one's work"),
    ]
    return table(("", "measured"), rows)


def _million(found: Facts) -> str:
    judged = 3 * judging(found) * IMAGES * MODELS
    kept = (sum(found["units"]["bytes"].values()), 2 * 4 * 224**2 + 4 * 7**2)
    rows = []
    for (name, seconds), size in zip(per_image(found).items(), kept, strict=True):
        spent = seconds * IMAGES * MODELS / efficiency(found) + judged
        cores = math.ceil(spent / NIGHT)
        terabytes = size * IMAGES * MODELS / 1e12
        rows.append(
            (name, f"{spent / 86400:,.0f}", f"{cores:,}", f"{spent * VERSIONS / 3600:,.0f}", f"{terabytes:,.1f}")
        )
    heads = ("model, three explainers", "core-days", "cores for a night of 8 hours", "core-hours a year", "kept, TB")
    head = (
        "Computed, not measured: images x models x (seconds of an image / efficiency + 3 x seconds of judging); "
        f"efficiency {efficiency(found):.2f}. One new version of every model, whose champion is kept; a year has "
        f"{VERSIONS} of them. Kept: images x models x bytes of an image, for 224x224 pixels by the size of its maps."
    )
    tail = (
        "Only the champions' attributions are used again: runs of other versions may be deleted. A verdict needs no "
        f"million images: `attrail plan` says how many; with 2,000 for each it is {2000 / IMAGES:.1%} of the above."
    )
    return f"{head}\n\n{table(heads, rows)}\n\n{tail}"


def _shopping(found: Facts) -> str:
    largest = found["memory"][max(found["memory"], key=int)]
    worker = found["engines"]["processes 2"]["MiB"] - found["engines"]["processes 1"]["MiB"]
    slope = max(slopes(found["memory"]).values())
    rows = [
        ("cores", "as many as the table above says; every core does the same work, engines differ little"),
        ("memory, a worker", f"{worker:,.0f} MiB more for one process more, with a small model"),
        (
            "memory, the flow's process",
            f"{max(largest['MiB'].values()):,.0f} MiB with 100,000 images; {slope * IMAGES / 2**30:,.1f} GiB more with "
            "a million",
        ),
        (
            "disk",
            "kept attributions as above, and as much room in the temporary folder for images and maps of one audit",
        ),
        ("Postgres", "for Prefect and MLflow from the second worker on; SQLite lets one write at a time"),
        ("GPU", "not measured here; `run.gpus` is how shards claim one"),
    ]
    return table(("what", "how much"), rows, left=2)
