"""Assess: hold the maps of one explainer against the checks, and keep what they find."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student

from attrail_explainers.assessment.check import CHECKS, Check, CheckResult, check_names, make_check, name_of_check
from attrail_explainers.assessment.context import CheckContext
from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ConfigError
from attrail_explainers.explainer import Explainer, make_explainer
from attrail_explainers.explanation import Progress, Targets, asked_classifier, explain_slice, given_subjects
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import SINGLE_LABEL, Target, Task
from attrail_explainers.slice import Slice
from attrail_explainers.tasks.single_label import SingleLabel

FORMAT = "attrail.assessment/1"
CONFIDENCE = 0.95


@dataclass(frozen=True, eq=False)
class Outcome:
    """A check as it was run, what it found for every image, and the summary over the images where it is defined."""

    check: Check
    finding: CheckResult

    @property
    def values(self) -> NDArray[np.float64]:
        """(N,) one number per image, NaN where it does not exist."""
        return self.finding.values

    @property
    def undefined(self) -> int:
        """Number of images without a value."""
        return int(np.isnan(self.values).sum())

    @property
    def mean(self) -> float:
        """Mean over the images that have a value; NaN when none has."""
        return mean_of(self.values)

    @cached_property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the mean over images (Student's t); NaN with fewer than two values.

        It says how far the choice of images could move the mean, not what other seeds would give.
        """
        known = self.values[np.isfinite(self.values)]
        if len(known) < 2:
            return np.nan, np.nan
        reach = student.ppf((1 + CONFIDENCE) / 2, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known))
        return self.mean - float(reach), self.mean + float(reach)

    @property
    def chance(self) -> float | None:
        """Mean of what a map that knows nothing gets, where the check measures that."""
        chance = self.finding.details.get("chance")
        return None if chance is None else mean_of(chance)

    def facts(self) -> dict[str, Any]:
        """Everything about the outcome as plain JSON values, NaN as None."""
        summary = {"mean": self.mean, "interval": self.interval, "chance": self.chance, "values": self.values}
        return {
            "parameters": CHECKS.parameters_of(self.check),
            "better": self.check.better.value,
            "good": self.check.good,
            "undefined": self.undefined,
            **{name: plain(value) for name, value in summary.items()},
            "details": {name: plain(value) for name, value in self.finding.details.items()},
        }


@dataclass(frozen=True, eq=False)
class Assessment:
    """What the checks find about the maps of one explainer for one model version on one slice.

    ``outcomes`` holds one outcome under each check's name; row n of every array belongs to ``maps.sample_ids[n]``.
    ``document()`` is all of it as plain JSON values, without the maps::

        found = assess(model, images, targets, "gradcam", checks=["random_head"])
        found.outcomes["random_head"].mean, found.outcomes["random_head"].interval
    """

    maps: Attributions
    outcomes: Mapping[str, Outcome]

    @property
    def explainer(self) -> str:
        """Return the name of the explainer whose maps were checked."""
        return self.maps.explainer

    @property
    def parameters(self) -> Mapping[str, Any]:
        """Return every parameter of that explainer with its seed and target layer."""
        return self.maps.parameters

    def document(self) -> dict[str, Any]:
        """The assessment as strict JSON values, without the maps themselves."""
        maps = self.maps
        return {
            "format": FORMAT,
            "explainer": maps.explainer,
            "parameters": dict(maps.parameters),
            "model": maps.model,
            "weights_digest": maps.weights_digest,
            **maps.optional,
            "slice": maps.slice_name,
            "slice_digest": maps.slice_digest,
            "maps_digest": maps.digest,
            "sample_ids": list(maps.sample_ids),
            "targets": maps.targets.tolist(),
            "undefined": dict(maps.undefined),
            "confidence": CONFIDENCE,
            "checks": {name: outcome.facts() for name, outcome in self.outcomes.items()},
        }


def assess(  # noqa: PLR0913, PLR0917 - what explain takes, and the checks
    module: torch.nn.Module,
    images: torch.Tensor | NDArray[np.float32],
    targets: Any = None,
    explainer: str = "gradcam",
    checks: Sequence[str | Check] | None = None,
    seed: int = 0,
    sample_ids: Sequence[str] | None = None,
    task: str | Task = SINGLE_LABEL,
    **parameters: Any,
) -> Assessment:
    """Explain images with one explainer, and return what the checks find about its maps, without MLflow or Prefect.

    ::

        found = assess(model, images, targets, "gradcam", checks=["deletion", make_check("seed_noise", {"seeds": 5})])
        found.outcomes["deletion"].mean

    Args:
        module: A classifier from images to logits, given back as it came.
        images: (N,C,H,W) float32, as the module takes them.
        targets: What each map explains, as ``explain`` takes it: (N,) class indices.
        explainer: One of ``explainer_names()``.
        checks: Names of checks, or checks with parameters of their own (``make_check``); all there are when None.
        seed: Of all random draws, 0 or above.
        sample_ids: N different names, "0", "1", ... when None.
        task: What is asked of the model, as ``explain`` takes it.
        **parameters: The explainer's own.

    Raises what ``explain`` raises, and ConfigError when a check is asked for twice.
    """
    classifier = asked_classifier(module, task)
    subjects, target = given_subjects(classifier, images, targets, sample_ids)
    method = make_explainer(explainer, parameters)
    return assess_slice(classifier, subjects, method, chosen_checks(checks), target, seed)


def chosen_checks(checks: Sequence[str | Check] | None) -> list[Check]:
    """The checks that are meant by names or by themselves, all of them by None; ConfigError when one comes twice."""
    chosen = check_names() if checks is None else checks
    found = [make_check(each) if isinstance(each, str) else each for each in chosen]
    names = [name_of_check(each) for each in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise ConfigError(f"check {min(twice)!r} is asked for twice: an assessment holds each check once")
    return found


def assess_slice(
    classifier: Classifier,
    slice_: Slice,
    explainer: Explainer,
    checks: Sequence[Check],
    targets: Targets,
    seed: int,
    progress: Progress = lambda images: None,
) -> Assessment:
    """Explain a slice and run the checks on the maps; ``targets`` are what each map explains, N rows.

    ``progress`` is called with the number of images done, which come to N for the maps and N for each check.
    """
    target = targets if isinstance(targets, Target) else SingleLabel.of(targets)
    classifier = classifier.for_images(slice_.preprocessing)
    (maps,) = explain_slice(classifier, slice_, [explainer], target, seed, progress)
    case = CheckContext(classifier, slice_, explainer, target, int(seed), maps)
    outcomes = {}
    with torch.inference_mode(False):  # as in explain_slice
        for check in checks:
            outcomes[name_of_check(check)] = Outcome(check, case.model.fitting(partial(check.examine, case)))
            progress(len(slice_))
    return Assessment(maps, outcomes)


def mean_of(values: NDArray[np.float64]) -> float:
    """Mean of the values that are not NaN; NaN when there is none."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def plain(value: Any) -> Any:
    """An array or a number as JSON values, NaN as None."""
    if isinstance(value, np.ndarray | tuple | list):
        return [plain(each) for each in value]
    return None if value is None or np.isnan(value) else float(value)
