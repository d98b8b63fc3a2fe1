"""The second part of ``make bench``: each contender in processes of its own, Grad-CAM in batches of 32.

That is how a library runs by itself, with the memory setting its process happens to have; ours sets its own. Processes
take turns. Writes the last section of ``explainers/BENCH.md``.
"""

import argparse
import json
import subprocess
import sys
import time

import contenders
import report
from contenders import Bench
from real import lite0, photographs
from tqdm import tqdm

from attrail_explainers.model.classifier import Classifier

BATCH, TURNS, REPEATS = 32, 3, 5
CONTENDERS = {
    "plain inference": contenders.plain_inference,
    "gradcam, attrail": contenders.our_gradcam,
    "gradcam, captum": contenders.captum_gradcam,
    "gradcam, pytorch-grad-cam": contenders.grad_cam_gradcam,
}
ONE_IMAGE = {
    "lime + shap, attrail, 128": lambda bench: contenders.our_lime_and_shap(bench, 0, 1, 128),
    "lime + shap, attrail, 256": lambda bench: contenders.our_lime_and_shap(bench, 0, 1, 256),
    "lime + shap, attrail, 512": lambda bench: contenders.our_lime_and_shap(bench, 0, 1, 512),
    "lime, lime, 1000": lambda bench: contenders.lime_library(bench, 0, 1, 1000),
    "shap, shap Partition, 500": lambda bench: contenders.shap_partition(bench, 0, 500),
}
TITLE = "## Each in its own process"


def measure(name: str) -> float:
    """Milliseconds per image, the fastest of the repeats after one to warm up."""
    model = lite0()
    _, images, targets = photographs(model, BATCH)
    bench = Bench(model, Classifier("lite0", "", model), images, targets)
    if name in ONE_IMAGE:
        warm_up = contenders.our_gradcam if "attrail" in name else contenders.plain_inference
        warm_up(bench, slice(0, 1))
        started = time.perf_counter()
        ONE_IMAGE[name](bench)
        return 1000 * (time.perf_counter() - started)
    times = []
    for _ in range(REPEATS + 1):
        started = time.perf_counter()
        CONTENDERS[name](bench, slice(0, BATCH))
        times.append(time.perf_counter() - started)
    return 1000 * min(times[1:]) / BATCH


def in_its_own_process(name: str) -> float:
    command = [sys.executable, __file__, "--name", name]
    return float(
        json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout.splitlines()[-1])
    )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument(
        "--name", choices=[*CONTENDERS, *ONE_IMAGE], help="measure one contender in this process and print it"
    )
    name = arguments.parse_args().name
    if name:
        print(measure(name))
        return
    turns = [{each: in_its_own_process(each) for each in CONTENDERS} for _ in tqdm(range(TURNS), desc="turns")]
    best = {each: min(turn[each] for turn in turns) for each in CONTENDERS}
    ours = best["gradcam, attrail"]
    rows = [[each, f"{time_:.1f}", f"{time_ / ours:.2f}x"] for each, time_ in best.items()]
    before = report.FILE.read_text(encoding="utf-8").partition(TITLE)[0].rstrip()
    table = report.table(["batch of 32, alone", "ms per image", "times attrail's Grad-CAM"], rows)
    single = [[each, f"{in_its_own_process(each) / 1000:.2f}"] for each in ONE_IMAGE]
    table += "\n\n" + report.table(["one image, evaluations, alone", "seconds"], single)
    report.FILE.write_text(f"{before}\n\n{TITLE}\n\n{table}\n", encoding="utf-8")
    print(table)


if __name__ == "__main__":
    main()
