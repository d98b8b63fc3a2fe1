"""The images that moved most: named in order, and how both versions decided about them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from attrail_explainers.errors import IncomparableError
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.strata import OUTCOMES, outcome, outcomes
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.verdict.measurement import image_distances
from attrail_monitoring.verdict.most_moved import NAMED, most_moved

pairs = st.integers(0, 30).flatmap(lambda count: st.tuples(*(arrays.arrays(np.bool_, count) for _ in range(2))))


@pytest.fixture
def versions(maps):
    """Two versions of thirty images; the reference decides image 4 wrongly, the candidate 4 and 7."""
    random = np.random.default_rng(0)
    values = [random.random((30, 5, 5)) for _ in range(2)]
    values[1][9] = np.nan
    right = [~np.isin(np.arange(30), wrong) for wrong in ([4], [4, 7])]
    made = (maps(each, f"net/{row}") for row, each in enumerate(values))
    return [VersionMaps((each,), {"all": known}) for each, known in zip(made, right, strict=True)]


def test_the_furthest_come_first_and_an_image_without_a_map_never(versions):
    found = most_moved(*versions, Settings())
    distances = image_distances(*(each.maps[0] for each in versions), Settings())
    assert [each.distance for each in found] == sorted(distances[~np.isnan(distances)], reverse=True)[:NAMED]
    assert all(distances[int(each.sample.removeprefix("image "))] == each.distance for each in found)
    assert {(each.slice, each.explainer) for each in found} == {("all", "gradcam")}


def test_each_is_said_to_be_decided_as_it_was(versions):
    found = {each.sample: each.outcome for each in most_moved(*versions, Settings(), 30)}
    assert len(found) == 29
    assert (found.pop("image 4"), found.pop("image 7")) == ("both wrong", "flipped")
    assert set(found.values()) == {"both right"}
    unknown = most_moved(VersionMaps(versions[0].maps), versions[1], Settings())
    assert {each.outcome for each in unknown} == {""}


def test_equal_maps_keep_the_order_of_the_slice(versions):
    found = most_moved(versions[0], versions[0], Settings(), 3)
    assert [each.sample for each in found] == ["image 0", "image 1", "image 2"]


def test_a_version_without_the_maps_is_refused(versions):
    with pytest.raises(IncomparableError, match="another version has not"):
        most_moved(versions[0], VersionMaps(()), Settings())


@given(pairs)
def test_the_outcome_of_each_image_is_the_one_that_holds_it(pair):
    named = np.array(outcomes(*pair), dtype=object)
    for kind in OUTCOMES:
        assert (outcome(*pair, kind) == (named == kind)).all()
