"""``make bench``: what the explainers cost, each beside its library, in one run; and how faithful their maps are.

EfficientNet-lite0 with ImageNet weights on 224x224 photographs. Contenders take turns, and the fastest of their turns
counts; the machine may be noisy, so read ratios. Everything runs in one process with the memory setting of
``allocator.py``, from which the libraries gain too; ``alone.py`` measures each in its own. Writes
``explainers/BENCH.md``.
"""

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import contenders
import numpy as np
import report
import torch
from contenders import Bench
from fidelity import agreement, converged_lime, converged_shap, difference, relative_error
from real import lite0, photographs, pruned
from tqdm import tqdm

from attrail_explainers.difference import explain_difference
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.superpixels.evaluations import Evaluations, Perturbation, evaluate
from attrail_explainers.superpixels.segmentation import Segmentation
from attrail_explainers.tasks.single_label import SingleLabel

BATCH = 32
TURNS = 5
BUDGETS = 128, 256, 512
DEFAULT = 256
CONVERGED = 4096
CLOSE = 0.05, 0.2  # shares of weights pruned


def set_up(images: int) -> tuple[str, Bench]:
    model = lite0()
    source, pixels, targets = photographs(model, images)
    bench = Bench(model, Classifier("lite0", "", model), pixels, targets)
    bench.classifier.working_copy(pixels)  # also sets the allocator, for all
    return source, bench


def seconds(run: Callable[[], object]) -> float:
    started = time.perf_counter()
    run()
    return time.perf_counter() - started


def take_turns(runs: Mapping[str, Callable[[], object]], turns: int) -> dict[str, float]:
    """Seconds of each run, the fastest of its turns after one to warm up."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in tqdm(range(turns + 1), desc="gradcam"):
        for name, run in runs.items():
            times[name].append(seconds(run))
    return {name: min(each[1:]) for name, each in times.items()}


BATCHED = {
    "plain inference": contenders.plain_inference,
    "gradcam, attrail": contenders.our_gradcam,
    "gradcam, captum": contenders.captum_gradcam,
    "gradcam, pytorch-grad-cam": contenders.grad_cam_gradcam,
}
SINGLE: dict[str, Callable[[Bench, int, int], object]] = {
    **{f"lime + shap, attrail, {each}": partial(contenders.our_lime_and_shap, evaluations=each) for each in BUDGETS},
    "lime, lime, 1000": partial(contenders.lime_library, samples=1000),
    "shap, shap Partition, 500": lambda bench, row, seed: contenders.shap_partition(bench, row, 500),
}


def batched(bench: Bench) -> dict[str, float]:
    """Seconds per image in batches of 32."""
    rows = slice(0, BATCH)
    runs = {name: partial(run, bench, rows) for name, run in BATCHED.items()}
    return {name: each / BATCH for name, each in take_turns(runs, TURNS).items()}


def single(bench: Bench, rows: range) -> tuple[dict[str, float], dict[str, list[object]]]:
    """Median seconds per image, and what came out for each image with two seeds."""
    times: dict[str, list[float]] = {name: [] for name in SINGLE}
    found: dict[str, list[object]] = {name: [] for name in SINGLE}
    for row in tqdm(rows, desc="lime and shap"):
        for name, run in SINGLE.items():
            for seed in (1,) if "Partition" in name else (1, 2):  # Partition draws nothing
                started = time.perf_counter()
                found[name].append(run(bench, row, seed))
                times[name].append(time.perf_counter() - started)
    return {name: float(np.median(each)) for name, each in times.items()}, found


def converged(bench: Bench, rows: range, model: torch.nn.Module) -> list[Evaluations]:
    """Many evaluations of each image with a seed that no contender uses."""
    copy = Classifier("lite0", "", model).working_copy(bench.images)
    perturbation, target = Perturbation(Segmentation(), "blur", CONVERGED), SingleLabel.of(bench.targets)
    return [
        evaluate(
            copy,
            torch.from_numpy(bench.images[row]),
            target.row(row),
            str(row),
            99,
            perturbation,
        )
        for row in tqdm(rows, desc="converged references")
    ]


def by_segment(values: np.ndarray, evaluations: Evaluations) -> np.ndarray:
    """Mean of a map (H,W) over each superpixel (S,)."""
    segments = evaluations.segments.ravel()
    return np.asarray(np.bincount(segments, values.ravel()) / np.bincount(segments))


def our_fidelity(found: list[object], references: list[Evaluations]) -> dict[str, float]:
    """Spearman to the converged values and between two seeds, means over images."""
    rows: dict[str, list[float]] = {"lime": [], "shap": [], "lime repeat": [], "shap repeat": []}
    for number, reference in enumerate(references):
        targets = {"lime": converged_lime(reference), "shap": converged_shap(reference)}
        targets["shap"] = targets["shap"] / np.bincount(reference.segments.ravel())
        for place, name in enumerate(("lime", "shap")):
            first, second = (by_segment(each[place], reference) for each in found[2 * number : 2 * number + 2])
            rows[name] += [agreement(first, targets[name]), agreement(second, targets[name])]
            rows[f"{name} repeat"].append(agreement(first, second))
    return {name: float(np.mean(each)) for name, each in rows.items()}


def library_fidelity(bench: Bench, found: dict[str, list[object]], rows: range) -> dict[str, float]:
    """Of lime and shap Partition against themselves with many evaluations, and of two seeds of lime."""
    lime, partition = found["lime, lime, 1000"], found["shap, shap Partition, 500"]
    reference = [contenders.lime_library(bench, row, 99, 6000) for row in tqdm(rows, desc="lime converged")]
    long = [contenders.shap_partition(bench, row, 5000) for row in tqdm(rows[:1], desc="shap Partition converged")]
    grid = [np.asarray(torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(each)[None], 14)[0]) for each in long]
    short = [
        np.asarray(torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(each)[None], 14)[0])
        for each in partition[:1]
    ]
    return {
        "lime": float(np.mean([agreement(lime[2 * n + s], reference[n]) for n in range(len(rows)) for s in (0, 1)])),
        "lime repeat": float(np.mean([agreement(lime[2 * n], lime[2 * n + 1]) for n in range(len(rows))])),
        "shap": float(np.mean([agreement(a, b) for a, b in zip(short, grid, strict=True)])),
    }


def differences(bench: Bench, rows: range, references: list[Evaluations]) -> list[dict[str, float]]:
    """Error of the SHAP of the difference, ours and shap's KernelExplainer's, at growing budgets."""
    found = []
    for share in CLOSE:
        second = pruned(bench.model, share)
        others = converged(bench, rows, second)
        exact = [converged_shap(difference(a, b)) for a, b in zip(references, others, strict=True)]
        for budget in (64, 128):
            ours, kernel = [], []
            for row, like, truth in zip(rows, references, exact, strict=True):
                ours.append(relative_error(_our_difference(bench, row, second, like, budget), truth))
                both = [
                    contenders.shap_kernel(bench, row, seed, 10 * budget, like, model)
                    for seed, model in ((1, bench.model), (2, second))
                ]
                kernel.append(relative_error(both[1] - both[0], truth))
            numbers = {"pruned": share, "evaluations": budget, "attrail": np.mean(ours), "kernel": np.mean(kernel)}
            found.append({name: float(number) for name, number in numbers.items()})
            tqdm.write(str(found[-1]))
    return found


def _our_difference(bench: Bench, row: int, second: torch.nn.Module, like: Evaluations, budget: int) -> np.ndarray:
    rows = slice(row, row + 1)
    found = explain_difference(
        bench.model, second, bench.images[rows], bench.targets[rows], [str(row)], 1,
        Perturbation(Segmentation(), "blur", budget),
    )  # fmt: skip
    return by_segment(found.values[0], like) * np.bincount(like.segments.ravel())


def outside_the_model(bench: Bench, rows: range) -> float:
    """Share of the time of gradcam, lime and shap together that is not spent in the model."""
    inside, run = [0.0], WorkingCopy._run

    def timed(copy: WorkingCopy, *arguments: object) -> object:
        started = time.perf_counter()
        try:
            return run(copy, *arguments)
        finally:
            inside[0] += time.perf_counter() - started

    WorkingCopy._run = timed  # type: ignore[method-assign]
    try:
        whole = seconds(lambda: [contenders.our_lime_and_shap(bench, row, 3, DEFAULT) for row in rows])
    finally:
        WorkingCopy._run = run  # type: ignore[method-assign]
    return 1 - inside[0] / whole


def resident() -> int:
    """Bytes of this process in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def peak() -> int:
    """Most bytes this process had in memory since its peak was last forgotten."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def in_a_fresh_process(*options: str) -> Any:
    """What this file prints last when it is run with these options."""
    command = [sys.executable, __file__, *options]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True).stdout.splitlines()[-1])


def measure_memory(name: str) -> None:
    """Print the MiB that one contender adds to this process at its peak."""
    _, bench = set_up(BATCH)
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of setting up
    before = resident()
    if name in BATCHED:
        BATCHED[name](bench, slice(0, BATCH))
    else:
        SINGLE[name](bench, 0, 1)
    print((peak() - before) / 2**20)


def leak(maps: int) -> dict[str, float]:
    """Resident memory over so many Grad-CAM maps: least-squares slope in bytes per map, after the first tenth."""
    model = lite0()
    _, pixels, targets = photographs(model, BATCH)
    small = np.ascontiguousarray(pixels[:, :, 64:160, 64:160])
    bench = Bench(model, Classifier("lite0", "", model), small, targets)
    done, sizes = [], []
    for number in tqdm(range(maps // BATCH), desc="50,000 maps"):
        contenders.our_gradcam(bench, slice(0, BATCH))
        if number % 20 == 0:
            done.append((number + 1) * BATCH)
            ctypes.CDLL(None).malloc_trim(0)  # free memory must not hide what is lost
            sizes.append(resident())
    start = len(done) // 10
    slope = np.polyfit(done[start:], sizes[start:], 1)[0]
    growth = (sizes[-1] - sizes[start]) / 2**20
    return {"maps": float(done[-1]), "slope": float(slope), "growth": growth, "resident": sizes[-1] / 2**20}


def machine() -> str:
    names = ("torch", "torchvision", "timm", "captum", "grad-cam", "lime", "shap", "numpy")
    packages = ", ".join(f"{name} {version(name)}" for name in names)
    return f"{os.cpu_count()} CPU cores ({platform.machine()}), Python {platform.python_version()}, {packages}"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=4, help="photographs for lime and shap")
    arguments.add_argument("--maps", type=int, default=50_000, help="Grad-CAM maps of the memory test")
    arguments.add_argument("--leak", action="store_true", help="only the memory test, in this process")
    arguments.add_argument("--memory", help="measure the peak memory of one contender and print it")
    given = arguments.parse_args()
    if given.memory:
        return measure_memory(given.memory)
    if given.leak:
        return print(json.dumps(leak(given.maps)))
    source, bench = set_up(BATCH)
    rows = range(given.images)
    facts: dict[str, object] = {"source": source, "machine": machine(), "images": given.images}
    facts["batched"] = batched(bench)
    facts["single"], found = single(bench, rows)
    facts["outside"] = outside_the_model(bench, rows)
    tqdm.write(json.dumps(facts, indent=1))
    references = converged(bench, rows, bench.model)
    facts["fidelity"] = {name: our_fidelity(found[name], references) for name in SINGLE if "attrail" in name}
    facts["library"] = library_fidelity(bench, found, rows)
    facts["differences"] = differences(bench, rows[:2], references[:2])
    names = tqdm([*BATCHED, *SINGLE], desc="memory")
    facts["memory"] = {name: float(in_a_fresh_process("--memory", name)) for name in names}
    facts["leak"] = in_a_fresh_process("--leak", "--maps", str(given.maps))
    report.write(facts)


if __name__ == "__main__":
    main()
