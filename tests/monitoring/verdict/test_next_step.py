"""The next step: what an open verdict lacks, in words that somebody can follow."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from attrail_monitoring.comparison import judge
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.policy import Policy

FLOOR = (0.1, 0.11, 0.12, 0.1, 0.13)
POLICY = Policy(margins={"rank_distance": 0.05})


def test_no_step_after_a_verdict_with_a_floor(measurement):
    for value, verdict in ((0.02, Verdict.PASS), (1.5, Verdict.DRIFT)):
        report = judge([measurement(value, floor=FLOOR)], POLICY)
        assert (report.verdict, report.next_step) == (verdict, "")


@pytest.mark.parametrize("value", [0.01, 0.9])
def test_without_a_floor_verdict_and_step_speak_of_a_margin_alone(measurement, value):
    """Every honest retrain is beyond a margin: the words must not call that more than it is."""
    report = judge([measurement(value)], replace(POLICY, margins_decide=True))
    assert "the policy's margin" in report.reason
    assert report.reason.endswith("no floor was given, so nothing says how far honest models move anyway")
    assert report.next_step.startswith("give a noise floor before you act on it: floor = [...], versions that differ")
    assert report.next_step.endswith("4 or more, which attrail retrain makes")
    refreshed = judge([measurement(value)], replace(POLICY, margins_decide=True), change="refresh")
    assert refreshed.next_step.endswith("4 or more"), "another data set's models are not made by the recipe's seeds"
    assert report.reason.split(";")[0].endswith(
        "beyond the policy's margin 0.05" if value > 0.05 else "within the policy's margin on every slice"
    )
    assert "policy's margin 0.05" in report.findings[0].reason


def test_too_few_models_are_counted(measurement):
    report = judge([measurement(0.9, floor=FLOOR[:3])], POLICY)
    assert "3 of the 4 models that make a floor were given" in report.reason


@pytest.mark.parametrize(
    ("change", "words"),
    [("same-function", ""), ("architecture", "no models stand for another architecture")],
)
def test_a_change_that_can_have_no_floor_is_not_told_to_add_one(measurement, change, words):
    step = judge([measurement(0.9)], POLICY, change=change).next_step
    assert step.startswith(words)
    assert bool(step) is bool(words)


def test_surrogates_are_to_be_replaced(measurement):
    floor = NoiseFloor(FLOOR, source="surrogates")
    report = judge([replace(measurement(0.01), floor=floor)], POLICY)
    assert report.next_step == "give the floor 4 retrains or more in place of the surrogates, which never decide"


def test_images_are_asked_for_where_a_few_more_decide(measurement):
    """Half of the way to the limit needs a quarter of the width: four times the images (rounded up)."""
    limit = NoiseFloor(FLOOR).bound(POLICY.level(1))
    report = judge([measurement(limit - 0.05, 0.1, floor=FLOOR)], POLICY)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.next_step == "add about 301 images to slice all"


def test_retrains_are_asked_for_where_images_do_not_help(measurement):
    """Not 14,888 images: the distance lies on the bound of few models, which more models narrow."""
    floor = NoiseFloor(FLOOR)
    limit = floor.bound(POLICY.level(1))
    report = judge([measurement(limit - 0.001, 0.1, floor=FLOOR)], POLICY)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert "images would decide" not in report.reason
    more = floor.more_needed(limit - 0.001, POLICY.level(1))
    assert f"add retrains to the floor, which has 5 models: about {more} more" in report.next_step


def test_as_many_models_as_are_asked_for_bring_the_bound_below_the_distance():
    """The bound of that many really lies below, that of one fewer does not."""
    floor = NoiseFloor(FLOOR)
    level, target = 0.01, 0.16
    assert floor.bound(level) > target
    more = floor.more_needed(target, level)
    assert more is not None
    for count, below in ((more, True), (more - 1, False)):
        assert (_bound_of(floor, count, level) < target) is below


def _bound_of(floor, more, level):
    """The bound of so many more models whose log distances keep mean and standard deviation, by hand."""
    logs = np.log(floor.distances)
    count = len(logs) + more
    return float(np.exp(logs.mean() + stats.t.isf(level, count - 1) * logs.std(ddof=1) * np.sqrt(1 + 1 / count)))


@pytest.mark.parametrize("turned", [False, True])
def test_models_are_asked_for_until_no_bound_is_too_wide(measurement, turned):
    """Whoever trains what the step asks for must not be told to train more."""
    shift = measurement(0.07, floor=(0.053, 0.132, 0.098, 0.057, 0.111), statistic="coherent_shift", ceiling=1.0)
    rank = measurement(0.56, floor=(0.737, 0.443, 0.836, 0.438, 0.635))
    policy = Policy(alpha=0.005, margins={"rank_distance": 0.05, "coherent_shift": 0.05})
    report = judge([rank, shift] if turned else [shift, rank], policy)
    few, many = (each.floor.more_needed(each.ceiling, report.level) for each in (shift, rank))
    assert few < many
    assert f"about {many} more, spread like these, bring the bound of gradcam's rank_distance below 2" in (
        report.next_step
    )


def test_a_floor_that_was_given_is_not_asked_for_where_no_image_could_be_measured(measurement):
    report = judge([measurement(float("nan"), n=0)], POLICY)
    assert (report.verdict, report.next_step) == (Verdict.INCONCLUSIVE, "add about 16 images to slice all")


def test_no_number_of_models_is_promised_that_cannot_do_it():
    assert NoiseFloor(FLOOR).more_needed(0.12, 0.01) is None  # a model of the floor moved further already
    assert NoiseFloor(()).more_needed(0.5, 0.01) is None


@pytest.mark.parametrize(
    ("facts", "step"),
    [
        ({"n": 10}, "add about 6 images to slice all"),
        ({"n": 94, "undefined": 6}, "see in the report which images gradcam has no map of and why"),
        ({"lost_p": 0.01}, "see in the report which images gradcam has no map of and why"),
        ({"undefined": 1, "worst": 1.0}, "see in the report which images gradcam has no map of and why"),
    ],
)
def test_what_is_missing_is_named(measurement, facts, step):
    report = judge([measurement(**({"value": 0.05, "floor": FLOOR} | facts))], POLICY)
    assert report.verdict is Verdict.INCONCLUSIVE
    assert report.next_step.startswith(step)


def test_a_lone_flag_asks_for_a_person(measurement):
    calm = measurement(0.02, floor=FLOOR, explainer="lime")
    flagged = measurement(0.3, floor=FLOOR, explainer="gradcam")
    others = [calm, measurement(0.02, floor=FLOOR, explainer="shap")]
    report = judge([flagged, *others], replace(POLICY, strict=1e-6))
    assert "alone flagged" in report.reason, report.reason
    assert report.next_step.startswith("look at the overlays")
