"""The exact McNemar test against statsmodels and its laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from statsmodels.stats.contingency_tables import mcnemar as by_statsmodels

from attrail_explainers.errors import ConfigError
from attrail_monitoring.inference.mcnemar import mcnemar

pairs = st.integers(0, 40).flatmap(lambda count: st.tuples(*(arrays.arrays(np.bool_, count) for _ in range(2))))


@given(pairs)
def test_equals_statsmodels(pair):
    first, second = pair
    table = [[int((first & second).sum()), int((first & ~second).sum())]]
    table += [[int((~first & second).sum()), int((~first & ~second).sum())]]
    found = mcnemar(first, second)
    assert (found.only_first, found.only_second) == (table[0][1], table[1][0])
    assert found.p_value == pytest.approx(float(by_statsmodels(table, exact=True).pvalue), rel=1e-12)


@given(pairs)
def test_the_versions_may_change_places(pair):
    there, back = mcnemar(*pair), mcnemar(*reversed(pair))
    assert (there.only_first, there.only_second) == (back.only_second, back.only_first)
    assert there.p_value == pytest.approx(back.p_value, rel=1e-12)


def test_images_that_agree_tell_nothing():
    first, second = np.array([True, True, False, False]), np.array([True, False, True, True])
    more = np.concatenate([np.ones(50, dtype=bool), np.zeros(50, dtype=bool)])
    assert mcnemar(first, second) == mcnemar(np.concatenate([first, more]), np.concatenate([second, more]))
    assert mcnemar(more, more).p_value == 1


def test_greater_asks_about_the_second_version():
    """Ten images lost their map, none gained one: one half to the tenth, that way round only."""
    none, ten = np.zeros(30, dtype=bool), np.arange(30) < 10
    assert mcnemar(none, ten, "greater").p_value == pytest.approx(0.5**10)
    assert mcnemar(ten, none, "greater").p_value == 1
    assert mcnemar(none, ten).p_value == pytest.approx(2 * 0.5**10)


def test_other_images_are_refused():
    with pytest.raises(ConfigError, match="two indicators of the same images"):
        mcnemar(np.zeros(3, dtype=bool), np.zeros(4, dtype=bool))


def test_rows_of_an_image_count_once() -> None:
    """Ten rows of one image that all lost something are one image's word; of ten images they are ten."""
    first, second = np.zeros(10, dtype=bool), np.ones(10, dtype=bool)
    one = mcnemar(first, second, "greater", np.array(["cat.png"] * 10))
    ten = mcnemar(first, second, "greater", np.array([f"{each}.png" for each in range(10)]))
    assert (one.only_second, one.p_value) == (10, 0.5)
    assert ten == mcnemar(first, second, "greater")
    torn = mcnemar(np.array([True, False]), np.array([False, True]), "greater", np.array(["a", "a"]))
    assert torn.p_value == 1.0
