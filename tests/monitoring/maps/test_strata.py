"""Strata: every image in one outcome, every class of enough images by itself."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attrail_monitoring.maps.strata import OUTCOMES, class_name, classes, is_class, outcome

pairs = st.integers(0, 30).flatmap(lambda count: st.tuples(*(arrays.arrays(np.bool_, count) for _ in range(2))))
targets = st.integers(0, 40).flatmap(lambda count: arrays.arrays(np.int64, count, elements=st.integers(-1, 4)))


@given(pairs)
def test_every_image_has_one_outcome(pair):
    rows = np.array([outcome(*pair, kind) for kind in OUTCOMES])
    assert (rows.sum(axis=0) == 1).all()


@given(pairs)
def test_the_versions_may_change_places(pair):
    for kind in OUTCOMES:
        assert (outcome(*pair, kind) == outcome(*reversed(pair), kind)).all()


def test_outcomes_mean_what_they_say():
    first, second = np.array([True, True, False, False]), np.array([True, False, True, False])
    found = {kind: outcome(first, second, kind).tolist() for kind in OUTCOMES}
    assert found == {
        "both right": [True, False, False, False],
        "flipped": [False, True, True, False],
        "both wrong": [False, False, False, True],
    }


@given(targets, st.integers(1, 6))
def test_classes_are_those_with_enough_images(targets, fewest):
    found = dict(classes(targets, fewest))
    known = sorted(set(targets.tolist()) - {-1})
    enough = [each for each in known if (targets == each).sum() >= fewest]
    assert list(found) == ([class_name(each) for each in enough] if len(known) > 1 else [])
    for each in enough if len(known) > 1 else []:
        assert (found[class_name(each)] == (targets == each)).all()


def test_one_class_is_the_slice_itself():
    assert dict(classes(np.zeros(20, dtype=np.int64), 5)) == {}
    assert dict(classes(np.where(np.arange(20) < 15, 0, -1), 5)) == {}


def test_names_of_classes_are_told_from_outcomes():
    assert is_class(class_name(12))
    assert not any(is_class(kind) for kind in (*OUTCOMES, "all"))
