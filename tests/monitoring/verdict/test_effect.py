"""Effects: distances between floor and ceiling, and what an audit of this size could have seen."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attrail_monitoring.comparison import judge
from attrail_monitoring.floor.sanity import ExplainerSanity
from attrail_monitoring.inference.power import images_power, retrains_power
from attrail_monitoring.verdict.effect import POWER, Effect, effect_of
from attrail_monitoring.verdict.policy import Policy

FLOOR = (0.10, 0.12, 0.13, 0.15, 0.11)
INSTRUMENT = ExplainerSanity(random_head={"rank_distance": 0.9}, unrelated={"rank_distance": 0.8})
LEVEL, CONFIDENCE = 0.01, 0.95
WITHOUT_MARGIN = Policy(margins={})

floors = st.lists(st.floats(0.05, 0.5), min_size=4, max_size=24).map(tuple)
reused = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30)


@pytest.fixture
def effect(measurement) -> Callable[..., Effect]:
    """The effect of one measurement, judged alone."""

    def make(instrument: ExplainerSanity | None = INSTRUMENT, **changes: object) -> Effect:
        (finding,) = judge([measurement(**({"floor": FLOOR} | changes))], WITHOUT_MARGIN).findings
        return effect_of(finding, instrument, LEVEL, CONFIDENCE)

    return make


def test_the_floor_is_the_beginning_of_the_way_and_the_ceiling_its_end(effect):
    mean = sum(FLOOR) / len(FLOOR)
    assert effect(value=mean).floor_to_ceiling == pytest.approx(0, abs=1e-12)
    assert effect(value=0.9).floor_to_ceiling == pytest.approx(1)
    assert effect(value=(mean + 0.9) / 2).floor_to_ceiling == pytest.approx(0.5)
    assert effect(value=0.05).floor_to_ceiling < 0
    assert effect().ceiling == 0.9, "of random head and unrelated maps the further"


@pytest.mark.parametrize(
    "changes",
    [
        {"instrument": None},
        {"instrument": ExplainerSanity(unrelated={"rank_distance": 1e-18})},
        {"stratum": "class 3", "primary": False, "localised": True},
        {"floor": ()},
        {"value": math.nan, "n": 0},
    ],
)
def test_where_no_ceiling_lies_above_a_floor_there_is_no_way(effect, changes):
    assert effect(**changes).floor_to_ceiling is None


@reused
@given(found=floors, value=st.floats(0.01, 1.9), width=st.floats(0.001, 0.3), images=st.integers(2, 4000))
def test_what_is_said_to_be_seen_has_that_power(measurement, found, value, width, images):
    (finding,) = judge([measurement(value=value, width=width, n=images, floor=found)], WITHOUT_MARGIN).findings
    effect = effect_of(finding, None, LEVEL, CONFIDENCE)
    logs = np.log(found)
    assert effect.detectable_by_models >= finding.limit
    if effect.detectable_by_models > finding.limit and logs.std(ddof=1) > 1e-6:
        shift = (math.log(effect.detectable_by_models) - logs.mean()) / logs.std(ddof=1)
        assert retrains_power(len(logs), shift, LEVEL) == pytest.approx(POWER, abs=1e-6)
    sd = width / 1.959964 * math.sqrt(images)
    seen = images_power(images, effect.detectable_by_images - finding.limit, (1 - CONFIDENCE) / 2, sd)
    assert seen == pytest.approx(POWER, abs=1e-5)


def test_more_images_and_more_models_see_smaller_distances(effect):
    """An interval from four times the images is half as wide."""
    assert effect(n=400, width=0.01).detectable_by_images < effect(n=100, width=0.02).detectable_by_images
    assert effect(floor=FLOOR * 4).detectable_by_models < effect().detectable_by_models


@pytest.mark.parametrize("changes", [{"primary": False}, {"floor": ()}, {"value": math.nan, "n": 0, "floor": ()}])
def test_without_a_hypothesis_or_a_limit_nothing_is_said_to_be_seen(effect, changes):
    found = effect(**changes)
    assert (found.detectable_by_images, found.detectable_by_models) == (None, None)


def test_one_image_has_no_spread_and_a_margin_alone_needs_no_models(measurement):
    (single,) = judge([measurement(n=1, floor=FLOOR)], WITHOUT_MARGIN).findings
    assert effect_of(single, INSTRUMENT, LEVEL, CONFIDENCE).detectable_by_images is None
    (margin,) = judge([measurement()], Policy(margins={"rank_distance": 0.1})).findings
    found = effect_of(margin, INSTRUMENT, LEVEL, CONFIDENCE)
    assert found.detectable_by_images > 0.1
    assert found.detectable_by_models is None
