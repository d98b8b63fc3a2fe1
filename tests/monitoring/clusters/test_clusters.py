"""Strategies: known ones are found again, a new one is named, and what trainings do anyway is not called new."""

import json
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from attrail_explainers.errors import IncomparableError
from attrail_monitoring.clusters.clusters import EXEMPLARS, NAMES, NO_MAP, Clusters, clusters_of
from attrail_monitoring.clusters.joint_clustering import LANDMARKS, MOST, joint_clusters
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.inference.mcnemar import mcnemar
from attrail_monitoring.inference.paired_labels import homogeneity
from attrail_monitoring.maps.grid import to_grid
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.shares import shares
from attrail_monitoring.maps.version_maps import VersionMaps

sys.path.append(str(Path(__file__).parents[1]))
from trained import IMAGES, cheat, honest

SETTINGS = Settings(grid=8)
PLACES = [(1, 1), (1, 6), (6, 1), (6, 6), (3, 4)]
BEYOND = ("new", "grown", "shrunk", "gone")


def spots(kinds, seed, noise=0.1):
    """Maps (N,8,8) with the evidence around one of five places, and noise."""
    rows, columns = np.indices((8, 8))
    bumps = np.stack([np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2) for row, column in PLACES])
    return bumps[kinds] + np.random.default_rng(seed).uniform(0, noise, (len(kinds), 8, 8))


def redrawn(kinds, seed, share=0.1):
    """Kinds as another training has them: some images change among the first three."""
    generator = np.random.default_rng(seed)
    return np.where(generator.random(len(kinds)) < share, generator.integers(0, 3, len(kinds)), kinds)


@pytest.fixture
def retrained(maps):
    """Clusters of a candidate's kinds against a reference's, with five retrains of three kinds."""

    def judge(before, after, retrains=5, **changes):
        floor = [maps(spots(redrawn(before, seed), 20 + seed), f"net/{seed}") for seed in range(retrains)]
        first, second = maps(spots(before, 1), "net/a"), maps(spots(after, 2), "net/b")
        return Clusters.of(first, second, floor, replace(SETTINGS, **changes))

    return judge


def members(found, *moves):
    """Images (N,) whose candidate map is in a cluster that moved like this."""
    names = [each.name for each in found.clusters if each.move in moves]
    return np.isin(list(found.after), names)


def test_known_strategies_are_found_again(maps):
    """Also those of images that were not clustered: every two images in one cluster are of one kind."""
    kinds = np.random.default_rng(0).integers(0, 4, (2, LANDMARKS))
    found = Clusters.of(maps(spots(kinds[0], 1)), maps(spots(kinds[1], 2)), [], SETTINGS)
    labels, truth = np.array(list(found.before + found.after)), kinds.ravel()
    assert all(len(set(truth[labels == each.name])) == 1 for each in found.clusters)


def test_a_new_strategy_is_named(retrained):
    """Three kinds of maps in reference and retrains; in the candidate one image in ten shows a fourth."""
    before = np.random.default_rng(0).integers(0, 3, 300)
    after = np.where(np.arange(300) < 30, 3, redrawn(before, 9))
    found = retrained(before, after)
    assert np.flatnonzero(members(found, "new")).tolist() == list(range(30))
    new = [each for each in found.clusters if each.move == "new"]
    assert sum(each.after for each in new) == sum(each.came for each in new) == 30
    for each in new:
        assert (each.before, each.left, each.floor) == (0, 0, (0, 0, 0, 0, 0))
        assert {int(sample.removeprefix("image ")) for sample in each.exemplars} <= set(range(30))
    assert not members(found, "grown", "gone").any()


def test_a_strategy_that_the_candidate_gave_up_is_gone(retrained):
    before = np.random.default_rng(0).integers(0, 3, 300)
    before[:60] = 3
    gone = [each for each in retrained(before, np.where(before == 3, 0, before)).clusters if each.move == "gone"]
    assert sum(each.before for each in gone) == sum(each.left for each in gone) == 60
    for each in gone:
        assert each.after == each.came == 0
        assert {int(sample.removeprefix("image ")) for sample in each.exemplars} <= set(range(60))


def test_one_that_was_there_before_grows_or_shrinks(maps):
    """Half of the second kind's images go over to the first, which a third of them had: far more than retrains do."""
    before = np.arange(300) % 3
    after = np.where((before == 1) & (np.arange(300) % 2 == 0), 0, before)
    kinds = [before, after, *(redrawn(before, seed) for seed in range(5))]
    versions = [maps(spots(each, 0, noise=0), f"net/{place}") for place, each in enumerate(kinds)]
    found = Clusters.of(*versions[:2], versions[2:], SETTINGS)
    assert {(each.before, each.after): each.move for each in found.clusters} == {
        (100, 150): "grown",
        (100, 50): "shrunk",
        (100, 100): "steady",
    }


def test_what_retrains_do_too_is_not_new_however_significant(maps, retrained):
    """Every version has images of a kind of its own: McNemar's test of the images is certain, the models' is not."""
    before = np.random.default_rng(0).integers(0, 3, 400)
    versions = []
    for seed, share in enumerate((0.0, 0.12, 0.05, 0.2, 0.09, 0.15, 0.02)):
        kinds = np.where(np.random.default_rng(seed).random(400) < share, 3 + seed % 2, before)
        versions.append(maps(spots(kinds, seed), f"net/{seed}"))
    reference, candidate, *floor = versions
    found = Clusters.of(reference, candidate, floor, SETTINGS)
    came = max(found.clusters, key=lambda each: each.came - each.left)
    assert came.p_value < 1e-4
    assert found.homogeneity.p_value < 1e-4
    assert {each.move for each in found.clusters} == {"steady"}
    assert found.shift_p > 0.05


@pytest.mark.parametrize("start", [0, 4])
def test_a_cheat_on_one_image_in_ten_gathers_in_clusters_of_its_own_on_real_maps(maps, start):
    """Most of its images are where eight of ten are its own. Whether that is news is another question: here each honest
    training has clusters of its own as well."""
    moved = np.random.default_rng(start).permutation(IMAGES)[:51]
    candidate = honest(start + 1).copy()
    candidate[moved] = cheat(100)[moved]
    floor = [maps(honest(start + step), f"net/{step}") for step in range(2, 7)]
    found = Clusters.of(maps(honest(start)), maps(candidate, "net/b"), floor, SETTINGS)
    after, strange = np.array(list(found.after)), np.isin(np.arange(IMAGES), moved)
    own = [each.name for each in found.clusters if strange[after == each.name].sum() > 0.8 * each.after]
    assert np.isin(after[moved], own).mean() > 0.5


def test_a_cheat_is_told_from_honest_retrains_on_real_maps(maps):
    """Twelve audits by fourteen honest networks: at most one of them finds anything, and a cheat always does."""
    false = 0
    for start in range(12):
        reference, candidate, *floor = (
            maps(honest((start + step) % 14), f"net/{(start + step) % 14}") for step in range(7)
        )
        false += members(Clusters.of(reference, candidate, floor, SETTINGS), *BEYOND).any()
        found = Clusters.of(reference, maps(cheat(100), "net/cheat"), floor, SETTINGS)
        assert members(found, "new").mean() > 0.3
        assert found.shift > max(found.floor_shift)
        assert found.shift_p < 0.01
    assert false <= 1


def test_the_numbers_add_up(maps):
    reference, candidate = maps(honest(0)), maps(honest(1), "net/b")
    floor = [maps(honest(seed), f"net/{seed}") for seed in range(2, 7)]
    found = Clusters.of(reference, candidate, floor, SETTINGS)
    before, after = np.array(list(found.before)), np.array(list(found.after))
    sizes = [each.before + each.after for each in found.clusters]
    assert sizes == sorted(sizes, reverse=True)
    assert 1 < len(sizes) <= MOST
    assert [each.name for each in found.clusters] == sorted(each.name for each in found.clusters)
    for each in found.clusters:
        assert (each.before, each.after) == ((before == each.name).sum(), (after == each.name).sum())
        assert (each.came, each.left) == (
            ((after == each.name) & (before != each.name)).sum(),
            ((before == each.name) & (after != each.name)).sum(),
        )
        assert each.p_value >= mcnemar(before == each.name, after == each.name).p_value
        assert 0 <= each.low <= each.before / IMAGES <= each.high <= 1
        assert all(each.low <= share <= each.high for share in each.floor)
    assert np.sum([each.floor for each in found.clusters], axis=0) == pytest.approx(np.ones(5))
    gained = [abs(each.after - each.before) for each in found.clusters]
    assert found.shift == pytest.approx(0.5 * sum(gained) / IMAGES)
    first = [abs(each.floor[0] - each.before / IMAGES) for each in found.clusters]
    assert found.floor_shift[0] == pytest.approx(0.5 * sum(first))
    assert found.shift_p == NoiseFloor(found.floor_shift).p_value(found.shift)
    places = np.searchsorted(list(NAMES), np.stack([before, after]))
    assert found.homogeneity == homogeneity(*places)
    assert found.floor == {each.model: each.digest for each in floor}


def test_exemplars_came_and_are_the_nearest_to_the_centre(maps):
    versions = [maps(honest(seed), f"net/{seed}") for seed in range(3)]
    found = Clusters.of(*versions[:2], versions[2:], SETTINGS)
    evidence = [shares(to_grid(each.values, 8)) for each in versions]
    labels, centres = joint_clusters([each.astype(np.float32) for each in evidence])
    letters = [np.array(list(each)) for each in (found.before, found.after)]
    for each in found.clusters:
        side = int(each.came >= each.left)
        rows = np.flatnonzero((letters[side] == each.name) & (letters[1 - side] != each.name))
        assert len(each.exemplars) == min(EXEMPLARS, len(rows))
        if len(rows):
            far = ((evidence[side][rows] - centres[labels[side][rows[0]]]) ** 2).sum(axis=1)
            assert each.exemplars == tuple(f"image {row}" for row in rows[np.argsort(far)[:EXEMPLARS]])


def test_the_level_is_the_settings(retrained):
    before = np.random.default_rng(0).integers(0, 3, 300)
    after = redrawn(before, 9)
    strict, loose = (retrained(before, after, confidence=each).clusters for each in (0.999, 0.5))
    assert all(one.high >= other.high and one.low <= other.low for one, other in zip(strict, loose, strict=True))
    assert any(one.high > other.high for one, other in zip(strict, loose, strict=True))


@pytest.mark.parametrize("retrains", [0, 3])
def test_with_fewer_than_four_models_shares_are_shown_and_nothing_is_judged(retrained, retrains):
    before = np.random.default_rng(0).integers(0, 3, 60)
    found = retrained(before, np.full(60, 3), retrains=retrains)
    assert {(each.low, each.high, each.move, len(each.floor)) for each in found.clusters} == {
        (None, None, "not judged", retrains)
    }
    assert (len(found.floor_shift), found.shift, found.shift_p) == (retrains, pytest.approx(1), None)
    assert found.homogeneity.p_value < 0.001


def test_images_without_a_map_have_no_cluster(maps):
    kinds = np.tile(np.arange(4), 5)
    values = [spots(kinds, seed) for seed in range(4)]
    values[0][3], values[1][[3, 8]], values[2][5], values[3][:] = np.nan, np.nan, np.nan, np.nan
    reference, candidate, *floor = (maps(each, f"net/{place}") for place, each in enumerate(values))
    found = Clusters.of(reference, candidate, floor, SETTINGS)
    for letters in (found.before, found.after):
        assert [place for place, each in enumerate(letters) if each == NO_MAP] == [3, 8]
    assert found.images == 18 == sum(each.before for each in found.clusters)
    assert not {"image 3", "image 8"} & {sample for each in found.clusters for sample in each.exemplars}
    assert list(found.floor) == ["net/2"], "a model without any map has no shares"
    assert sum(each.floor[0] for each in found.clusters) == pytest.approx(1), "of the images where it has a map"


def test_no_map_no_cluster(maps):
    nothing = maps(np.full((3, 4, 4), np.nan))
    found = Clusters.of(nothing, nothing, [nothing], SETTINGS)
    assert (found.clusters, found.homogeneity, found.before, found.images) == ((), None, "---", 0)
    assert (found.shift, found.floor_shift, found.shift_p) == (None, (), None)


def test_one_image_is_enough(maps):
    found = Clusters.of(maps(spots([0], 1)), maps(spots([3], 2)), [], SETTINGS)
    assert sorted((each.before, each.after) for each in found.clusters) == [(0, 1), (1, 0)]


def test_all_of_it_is_strict_json(retrained):
    """Also where every image changed, which makes Bhapkar's statistic infinite."""
    found = retrained(np.zeros(40, dtype=int), np.full(40, 3))
    again = json.loads(json.dumps(asdict(found), allow_nan=False))
    assert again["homogeneity"]["bhapkar"] is None
    assert [each["move"] for each in again["clusters"]] == [each.move for each in found.clusters]


def test_unlike_maps_are_refused(maps):
    one, other = maps(np.ones((3, 4, 4))), maps(np.ones((3, 4, 4)), slice_digest="sha256:other")
    with pytest.raises(IncomparableError, match="slice_digest"):
        Clusters.of(one, other, [], SETTINGS)
    with pytest.raises(IncomparableError, match="slice_digest"):
        Clusters.of(one, one, [other], SETTINGS)


def test_every_explainer_on_every_slice_has_clusters_of_its_own(maps):
    """The floor is asked for one of them at a time."""
    asked = []

    def floor(subject):
        asked.append(subject)
        return [maps(spots([0, 1], 3), "net/2", explainer=subject[1])]

    reference, candidate = (
        VersionMaps(tuple(maps(spots([0, 1], seed), f"net/{seed}", explainer=name) for name in ("gradcam", "shap")))
        for seed in range(2)
    )
    found = clusters_of(reference, candidate, floor, SETTINGS)
    assert [(each.slice, each.explainer) for each in found] == asked == [("all", "gradcam"), ("all", "shap")]
    assert all(list(each.floor) == ["net/2"] for each in found)
    with pytest.raises(IncomparableError, match="another version has not"):
        clusters_of(reference, VersionMaps(candidate.maps[:1]), lambda subject: (), SETTINGS)
