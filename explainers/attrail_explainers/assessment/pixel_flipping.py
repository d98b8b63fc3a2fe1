"""Removal of pixels: outputs for partly replaced images, and the curves that deletion and insertion read off them."""

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.assessment.check import CheckResult
from attrail_explainers.assessment.context import CheckContext, Example, on_grid
from attrail_explainers.baselines import BASELINES, Baseline, baseline_of
from attrail_explainers.digest import seed_of
from attrail_explainers.errors import ExplanationError
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.parameters import require_choice, require_whole

CHANCE_GRID = (7, 7)  # cells of the random map; random single pixels would be noise that no explainer shows

Direction = Literal["remove", "insert"]


def require_curve(steps: object, baseline: object) -> None:
    """Raise ConfigError unless a curve can be drawn with these parameters."""
    require_whole("steps", steps, 1)
    require_choice("baseline", baseline, BASELINES)


def kept_log_odds(
    model: WorkingCopy, example: Example, keep: NDArray[np.bool_], baseline: Baseline
) -> NDArray[np.float64]:
    """The target's score (M,) for copies of the image in which the pixels not in ``keep`` (M,H,W) are replaced.

    Raises ExplanationError when one of them is not finite.
    """
    image, instead = example.image, baseline_of(example.image, baseline)
    with torch.inference_mode():
        chunks = model.chunks(torch.from_numpy(keep).to(image.device))
        copies = (torch.where(chunk.unsqueeze(1), image, instead) for chunk in chunks)
        found = torch.cat([example.target.score(model.call(each)) for each in copies]).cpu().numpy()
    if not np.isfinite(found).all():
        raise ExplanationError(
            f"model {model.label} returns NaN or infinite outputs for perturbed copies of {example.sample_id!r}"
        )
    return np.asarray(found)


def removal_order(values: NDArray[np.float64]) -> NDArray[np.int64]:
    """Each pixel's place (H,W) in the order of a map, 0 for the largest value; ties in reading order."""
    order = np.argsort(-values, axis=None, kind="stable")
    places = np.empty(values.size, dtype=np.int64)
    places[order] = np.arange(values.size)
    return places.reshape(values.shape)


def growing_parts(values: NDArray[np.float64], steps: int) -> NDArray[np.bool_]:
    """Masks (steps+1,H,W): none, then ever larger equal shares of the pixels in the map's order, in the end all."""
    counts = np.rint(np.linspace(0, values.size, steps + 1)).astype(np.int64)
    return np.asarray(removal_order(values) < counts[:, None, None])


def area(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Area (N,) under curves (N,K) over shares 0..1 of the pixels, by the trapezoid rule."""
    return np.asarray(np.trapezoid(curves, dx=1 / (curves.shape[1] - 1), axis=1))


def examine_curves(case: CheckContext, steps: int, baseline: Baseline, direction: Direction) -> CheckResult:
    """Areas under the target's probability, or score where that is none, of the map and of a random smooth map."""
    curves, chance = (np.full((len(case), steps + 1), np.nan) for _ in range(2))
    for row, example in case.examples():
        parts = np.concatenate(
            [growing_parts(values, steps) for values in (example.values, _random_map(case, example))]
        )
        keep = parts if direction == "insert" else ~parts
        found = kept_log_odds(case.model, example, keep, baseline)
        curves[row], chance[row] = case.target.task.response(found).reshape(2, -1)
    return CheckResult(area(curves), {"chance": area(chance), "curve": curves, "chance_curve": chance})


def _random_map(case: CheckContext, example: Example) -> NDArray[np.float64]:
    generator = np.random.default_rng(seed_of("chance", case.seed, example.sample_id))
    coarse = generator.standard_normal(CHANCE_GRID, dtype=np.float32)
    height, width = example.values.shape
    return on_grid(coarse, (height, width))
