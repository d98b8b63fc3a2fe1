"""A pair of versions: like with like, strata of the same images, terms where both have a map."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import IncomparableError
from attrail_monitoring.maps.pair import Pair, Side
from attrail_monitoring.maps.statistic import make_statistic, statistic_names
from attrail_monitoring.maps.strata import OUTCOMES
from attrail_monitoring.maps.version_maps import VersionMaps, version_maps

COUNT = 40
THREE_CLASSES = np.arange(COUNT) % 3
indicators = arrays.arrays(np.bool_, COUNT)


def noise(seed, count=COUNT, side=6):
    return np.random.default_rng(seed).normal(size=(count, side, side)).astype(np.float32)


def holes(values, rows):
    return np.where(np.asarray(rows)[:, None, None], np.float32(np.nan), values)


def side(attributions, right=None, regions=None, grid=6):
    version = VersionMaps(
        (attributions,), {} if right is None else {"all": right}, {} if regions is None else {"all": regions}
    )
    return Side.of(version, ("all", "gradcam"), grid)


@pytest.fixture(scope="module")
def plain():
    """Makes a pair with the given rights, missing maps and targets."""

    def attributions(seed, missing, targets):
        ids = tuple(str(row) for row in range(COUNT))
        undefined = {ids[row]: "lost" for row in np.flatnonzero(missing)}
        parameters = {"seed": 0}
        return Attributions(
            "gradcam", parameters, holes(noise(seed), missing), targets, ids, "all", "s", f"net/{seed}", "w", undefined
        )

    none = np.zeros(COUNT, dtype=bool)

    def make(first=None, second=None, missing=(none, none), targets=THREE_CLASSES):
        sides = [
            side(attributions(seed, lost, targets), right)
            for seed, lost, right in zip((0, 1), missing, (first, second), strict=True)
        ]
        return Pair(*sides)

    return make


@given(first=indicators, second=indicators, targets=arrays.arrays(np.int64, COUNT, elements=st.integers(0, 3)))
def test_strata_partition_the_slice(plain, first, second, targets):
    """Outcomes hold every image once, the headline first; a class all of its images, however they were decided."""
    pair = plain(first, second, targets=targets)
    found = dict(pair.strata(class_images=3))
    assert list(found)[:3] == list(OUTCOMES)
    assert pair.headline == "both right"
    assert (sum(found[kind].astype(int) for kind in OUTCOMES) == 1).all()
    for name, rows in list(found.items())[3:]:
        assert (rows == (targets == int(name.removeprefix("class ")))).all()
        assert rows.sum() >= 3


def test_without_right_and_wrong_all_images_are_the_headline(plain):
    found = dict(plain().strata(class_images=10))
    assert list(found) == ["all", "class 0", "class 1", "class 2"]
    assert found["all"].all()
    assert (sum(found[name].astype(int) for name in list(found)[1:]) == 1).all()


@given(first=indicators, second=indicators, missing=st.tuples(indicators, indicators))
def test_images_without_a_map_stay_in_their_strata(plain, first, second, missing):
    """They are counted there: who loses a map loses no image."""
    whole, holed = plain(first, second), plain(first, second, missing)
    for (name, rows), (same, kept) in zip(whole.strata(5), holed.strata(5), strict=True):
        assert name == same
        assert (rows == kept).all()
    assert (holed.defined == ~(missing[0] | missing[1])).all()


@pytest.mark.parametrize("name", [name for name in statistic_names() if name != "outside_shift"])
def test_terms_are_those_of_the_maps_and_missing_where_one_is(plain, name):
    missing = (np.arange(COUNT) < 4, np.arange(COUNT) % 10 == 0)
    pair, statistic = plain(missing=missing), make_statistic(name)
    terms = pair.terms(statistic)
    gone = missing[0] | missing[1]
    assert np.isnan(terms[gone]).all()
    expected = statistic.terms(noise(0)[~gone].astype(np.float64), noise(1)[~gone].astype(np.float64))
    assert terms[~gone] == pytest.approx(expected)


def test_a_pair_without_a_common_map_has_no_terms(plain):
    half = np.arange(COUNT) < 20
    assert np.isnan(plain(missing=(half, ~half)).terms(make_statistic("rank_distance"))).all()


def test_unlike_maps_are_refused(maps):
    with pytest.raises(IncomparableError, match="differ in: slice_digest"):
        Pair(side(maps(noise(0))), side(maps(noise(1), "net/2", slice_digest="sha256:other")))


def test_right_and_wrong_must_be_known_of_both(maps):
    """Otherwise the floor would be measured on other images than the candidate, without a word."""
    known, unknown = side(maps(noise(0)), np.ones(COUNT, dtype=bool)), side(maps(noise(1), "net/2"))
    for pair, names in (((known, unknown), "net/1.*not for net/2"), ((unknown, known), "net/1.*not for net/2")):
        with pytest.raises(IncomparableError, match=rf"slice 'all' {names}: give VersionMaps.right for every version"):
            Pair(*pair)


def test_the_regions_are_the_references(maps):
    """They are the images': a version that does not bring them is measured in the same ones."""
    left = np.zeros((COUNT, 6, 6), dtype=bool)
    left[:, :, :3] = True
    statistic = make_statistic("outside_shift")
    reference, other = maps(noise(0)), maps(noise(1), "net/2")
    alone = Pair(side(reference, regions=left), side(other)).terms(statistic)
    both = Pair(side(reference, regions=left), side(other, regions=left)).terms(statistic)
    assert np.isfinite(alone).all()
    assert (alone == both).all()
    assert Pair(side(reference), side(other)).reference.seen_by(statistic) is None


def test_maps_are_compared_on_the_grid(maps):
    assert side(maps(noise(0, side=28)), grid=14).maps.shape == (COUNT, 14, 14)
    assert side(maps(noise(0, side=7)), grid=14).maps.shape == (COUNT, 7, 7)


def test_version_maps_take_what_users_have(maps):
    one = maps(noise(0))
    other = maps(noise(0), explainer="lime")
    assert version_maps(one).maps == (one,)
    assert version_maps([one, other]).of(("all", "lime")) is other
    known = VersionMaps((one,))
    assert version_maps(known) is known
    with pytest.raises(IncomparableError, match="lime on slice 'all', another version has not"):
        known.of(("all", "lime"))


@pytest.mark.parametrize("name", statistic_names())
def test_terms_some_at_a_time_are_the_terms_together(plain, name, monkeypatch):
    pair, statistic = plain(missing=(np.arange(COUNT) % 7 == 0, np.arange(COUNT) % 11 == 0)), make_statistic(name)
    whole = pair.terms(statistic)
    monkeypatch.setattr("attrail_monitoring.maps.pair.AT_ONCE", 3)
    np.testing.assert_allclose(pair.terms(statistic), whole, rtol=0, atol=1e-12)  # products of matrices round by size
