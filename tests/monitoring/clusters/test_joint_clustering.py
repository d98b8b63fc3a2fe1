"""Joint clusters: no version decides what they are, equal maps are one, and the number of images does not matter."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from attrail_monitoring.clusters.joint_clustering import LANDMARKS, MOST, joint_clusters


@given(st.integers(0, 50), st.integers(1, 30), st.permutations(range(4)))
def test_versions_may_change_places(seed, count, order):
    versions = list(np.random.default_rng(seed).uniform(size=(4, count, 9)))
    there, centres = joint_clusters(versions)
    back, same = joint_clusters([versions[place] for place in order])
    for place, found in zip(order, back, strict=True):
        assert (there[place] == found).all()
    assert (centres == same).all()
    assert 1 <= len(centres) <= MOST


def test_equal_maps_are_one_cluster():
    same = np.full((5, 4), 0.25)
    found, centres = joint_clusters([same, same])
    assert not np.concatenate(found).any()
    assert centres.tolist() == [[0.25] * 4]


def test_every_row_joins_its_nearest_centre():
    """Also those of images that were not clustered themselves."""
    versions = list(np.random.default_rng(0).uniform(size=(3, LANDMARKS, 5)))
    found, centres = joint_clusters(versions)
    assert len(centres) == MOST
    for rows, labels in zip(versions, found, strict=True):
        far = np.linalg.norm(rows[:, None] - centres, axis=2)
        assert (labels == far.argmin(axis=1)).all()


def test_few_maps_of_few_kinds_are_as_many_clusters():
    kinds = np.eye(3)[[0, 1, 2, 0, 1]]
    found, centres = joint_clusters([kinds, kinds[::-1]])
    assert len(centres) == 3
    assert (centres[found[0]] == kinds).all()


def test_rows_without_a_map_belong_to_none():
    first, second = np.random.default_rng(0).uniform(size=(2, 40, 6))
    second[[3, 7]] = np.nan
    found, centres = joint_clusters([first, second])
    assert np.flatnonzero(found[1] == -1).tolist() == [3, 7]
    assert (found[0] >= 0).all()
    assert np.isfinite(centres).all()
