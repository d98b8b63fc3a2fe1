"""The facts of a run as the file that the README quotes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = Path(__file__).parents[2] / "explainers" / "BENCH.md"


def write(facts: Mapping[str, Any]) -> None:
    text = page(facts)
    FILE.write_text(text, encoding="utf-8")
    print(text)


def page(facts: Mapping[str, Any]) -> str:
    parts = [
        "# What explanations cost",
        "Written by `make bench`; do not edit. EfficientNet-lite0 with ImageNet weights, 224x224, "
        f"{facts['source']}; {facts['machine']}. All rows in one run, contenders taking turns. All with the "
        "memory setting of `allocator.py`, unless a section says otherwise. Fidelity is "
        "Spearman's correlation with the same method's converged values, means over images and seeds. Memory is what "
        f"one run adds to a fresh process at its peak. {facts['images']} images for LIME and SHAP.",
        _batched(facts),
        _single(facts),
        _differences(facts),
        _targets(facts),
    ]
    return "\n\n".join(parts) + "\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 1)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _batched(facts: Mapping[str, Any]) -> str:
    times, memory = facts["batched"], facts["memory"]
    rows = [
        [name, f"{1000 * each:.1f}", f"{each / times['plain inference']:.2f}", f"{memory[name]:.0f}"]
        for name, each in times.items()
    ]
    return table(["batch of 32", "ms per image", "times inference", "memory, MiB"], rows)


def _single(facts: Mapping[str, Any]) -> str:
    times, memory, ours, library = facts["single"], facts["memory"], facts["fidelity"], facts["library"]
    fidelity = {name: ours[name] for name in ours} | {
        "lime, lime, 1000": {"lime": library["lime"], "lime repeat": library["lime repeat"]},
        "shap, shap Partition, 500": {"shap": library["shap"]},
    }
    rows = []
    for name, each in times.items():
        numbers = [fidelity[name].get(key) for key in ("lime", "shap", "lime repeat", "shap repeat")]
        shown = ["-" if number is None else f"{number:.3f}" for number in numbers]
        rows.append([name, f"{each:.2f}", *shown, f"{memory[name]:.0f}"])
    head = ["one image, evaluations", "seconds", "LIME fidelity", "SHAP fidelity", "LIME repeat", "SHAP repeat"]
    return table([*head, "memory, MiB"], rows)


def _differences(facts: Mapping[str, Any]) -> str:
    rows = [
        [
            f"{row['pruned']:.0%} of the weights pruned",
            f"{row['evaluations']:.0f}",
            f"{row['attrail']:.3f}",
            f"{10 * row['evaluations']:.0f}",
            f"{row['kernel']:.3f}",
        ]
        for row in facts["differences"]
    ]
    head = ["SHAP of the difference", "attrail evaluations", "error", "shap KernelExplainer evaluations", "error"]
    return table(head, rows) + "\n\nEvaluations are per version; the error is relative to the spread of the values."


def _targets(facts: Mapping[str, Any]) -> str:
    times, single, leak = facts["batched"], facts["single"], facts["leak"]
    ours = times["gradcam, attrail"]
    libraries = single["lime, lime, 1000"] + single["shap, shap Partition, 500"]
    pairs = {name: libraries / each for name, each in single.items() if "attrail" in name}
    rows = [
        ["gradcam: faster than captum", f"{times['gradcam, captum'] / ours:.1f}x"],
        ["gradcam: faster than pytorch-grad-cam", f"{times['gradcam, pytorch-grad-cam'] / ours:.1f}x"],
        ["gradcam: throughput against plain inference", f"{times['plain inference'] / ours:.2f}x"],
        *([f"{name} evaluations: faster than lime and shap", f"{ratio:.1f}x"] for name, ratio in pairs.items()),
        ["lime + shap: time outside the model", f"{facts['outside']:.1%}"],
        [
            f"resident memory over {leak['maps']:.0f} Grad-CAM maps",
            f"{leak['slope']:+.1f} bytes per map, {leak['growth']:+.1f} of {leak['resident']:.0f} MiB",
        ],
    ]
    return table(["ratios of this run", ""], rows)
