"""Measuring: like with like, and the right images in every number."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom, spearmanr

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import IncomparableError
from attrail_monitoring.floor.calibration import calibrate
from attrail_monitoring.maps.grid import to_grid
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import make_statistic, statistic_names
from attrail_monitoring.maps.strata import OUTCOMES
from attrail_monitoring.maps.version_maps import VersionMaps, require_comparable, version_maps
from attrail_monitoring.verdict.measurement import image_distances, measure

SETTINGS = Settings(grid=4, resamples=200)
STATISTICS = [name for name in statistic_names() if name != "outside_shift"]  # that one needs regions
PRIMARY = [name for name in STATISTICS if make_statistic(name).primary]


def measured(reference, candidate, *floor, settings=SETTINGS):
    """Measurements of what users have, with the floor calibrated on the spot."""
    first, second, *others = (version_maps(each) for each in (reference, candidate, *floor))
    return measure(first, second, calibrate(first, others, settings), settings)


def noise(seed, count=30, side=8):
    return np.random.default_rng(seed).normal(size=(count, side, side)).astype(np.float32)


def holes(values, *rows):
    values = values.copy()
    values[list(rows)] = np.nan
    return values


def by_name(measurements):
    return {each.statistic: each for each in measurements}


def test_every_statistic_is_measured_on_the_grid(maps):
    reference, candidate = noise(0), noise(1)
    found = by_name(measured(maps(reference), maps(candidate, "net/2")))
    assert sorted(found) == STATISTICS
    for name, each in found.items():
        statistic = make_statistic(name)
        terms = statistic.terms(to_grid(reference, 4), to_grid(candidate, 4))
        assert each.value == pytest.approx(float(statistic.value(terms.mean(axis=0))), rel=1e-12)
        assert each.lower <= each.value <= each.upper <= each.ceiling == statistic.upper
        assert (each.n, each.undefined, each.lost_p, each.worst) == (30, 0, 1, each.upper)
        assert (each.slice, each.explainer, each.primary) == ("all", "gradcam", statistic.primary)
        assert (each.stratum, each.localised) == ("all", False)


def test_images_without_a_map_in_either_version_are_left_out(maps):
    """The number is that of the other images alone, and the missing ones are counted."""
    reference, candidate = noise(0), noise(1)
    found = measured(maps(holes(reference, 0, 5)), maps(holes(candidate, 5, 9)))
    kept = [row for row in range(30) if row not in (0, 5, 9)]
    alone = by_name(measured(maps(reference[kept]), maps(candidate[kept])))
    for each in found:
        assert (each.n, each.undefined) == (27, 3)
        assert each.value == alone[each.statistic].value
        assert each.worst > each.upper


def test_images_that_neither_version_has_a_map_of_did_not_move(maps):
    """No evidence in both: only those that one version alone has a map of could have moved as far as they can."""
    reference, candidate = noise(0), noise(1)
    neither = measured(maps(holes(reference, 3, 4)), maps(holes(candidate, 3, 4)))
    kept = [row for row in range(30) if row not in (3, 4)]
    gained = by_name(measured(maps(holes(reference[kept], 0)), maps(candidate[kept])))
    both = by_name(measured(maps(holes(reference, 0, 3, 4)), maps(holes(candidate, 3, 4))))
    for each in neither:
        assert (each.undefined, each.worst) == (2, each.upper)
        assert both[each.statistic].undefined == 3
        assert both[each.statistic].worst == gained[each.statistic].worst > gained[each.statistic].upper


def test_no_common_image_is_no_number(maps):
    reference, candidate = noise(0, 4), noise(1, 4)
    for each in measured(maps(holes(reference, 0, 1)), maps(holes(candidate, 2, 3))):
        assert np.isnan([each.value, each.lower, each.upper]).all()
        assert (each.n, each.undefined, each.worst) == (0, 4, each.ceiling)


def test_the_candidates_losses_are_tested(maps):
    """Six images lost, two gained: the chance of six or more heads in eight throws; the other way round none."""
    first, second = maps(holes(noise(0), 0, 1)), maps(holes(noise(1), *range(10, 16)), "net/2")
    for pair, heads in (((first, second), 6), ((second, first), 2)):
        for each in measured(*pair):
            assert (each.lost, each.undefined) == (heads, 8)
            assert each.lost_p == pytest.approx(binom.sf(heads - 1, 8, 0.5))


LOST = st.lists(st.integers(0, 29), min_size=1, max_size=8, unique=True)


@settings(max_examples=25)
@given(rows=LOST, seed=st.integers(0, 30), opposite=st.lists(st.booleans(), min_size=30, max_size=30))
def test_the_worst_case_covers_what_the_lost_maps_may_have_shown(rows, seed, opposite):
    """Whatever the images without a map did, the interval of all of them ends no further than the worst case.

    But for what a single image that moved less than all others adds to an interval's width: the worst case lacks that.
    """

    def version(values, model, lost=()):
        ids = tuple(str(row) for row in range(30))
        undefined = {ids[row]: "lost" for row in lost}
        facts = {"slice_name": "all", "slice_digest": "s", "model": model, "weights_digest": model}
        targets = np.zeros(30, dtype=np.int64)
        return Attributions("gradcam", {"seed": 0}, holes(values, *lost), targets, ids, **facts, undefined=undefined)

    reference = noise(0) + 3
    candidate = np.where(np.array(opposite)[:, None, None], -reference, reference + noise(seed + 1))
    fine = Settings(grid=4, resamples=2000)
    whole = measured(version(reference, "a"), version(candidate, "b"), settings=fine)
    holed = measured(version(reference, "a"), version(candidate, "b", rows), settings=fine)
    for full, lost in zip(whole, holed, strict=True):
        assert lost.worst >= full.upper - 0.25 * (full.upper - full.lower)
        assert lost.worst >= lost.upper


def test_equal_maps_are_zero_apart(maps):
    for each in measured(maps(noise(0)), maps(noise(0), "net/2")):
        assert (each.value, each.lower, each.upper) == (0, 0, 0)


def test_the_floor_is_each_retrain_against_the_reference(maps):
    reference = maps(noise(0))
    retrains = [maps(noise(0) + 0.5 * noise(seed), f"retrain/{seed}") for seed in range(1, 6)]
    found = measured(reference, maps(noise(9), "net/2"), *retrains)
    for row, retrain in enumerate(retrains):
        alone = by_name(measured(reference, retrain))
        for each in found:
            assert each.floor.distances[row] == alone[each.statistic].value
            assert each.floor.models[row] == retrain.model


def test_intervals_depend_on_slice_and_explainer_only(maps):
    """Not on the order in which audits run: each has a seed of its own."""
    one = measured(maps(noise(0)), maps(noise(1)))
    assert one == measured(maps(noise(0)), maps(noise(1)))
    other = measured(maps(noise(0), slice_name="b"), maps(noise(1), slice_name="b"))
    assert [each.value for each in one] == [each.value for each in other]
    first, second = by_name(one)["rank_distance"], by_name(other)["rank_distance"]
    assert (first.lower, first.upper) != (second.lower, second.upper)


@pytest.mark.parametrize(
    ("change", "aspect"),
    [
        ({"targets": np.arange(30) % 7}, "targets"),
        ({"parameters": {"layer": "features", "seed": 1}}, r"parameter seed \(0 and 1\)"),
        ({"parameters": {"layer": "head", "seed": 0}}, r"parameter layer \('features' and 'head'\)"),
        ({"parameters": {"layer": "features", "seed": 0, "width": 2}}, r"parameter width \(None and 2\)"),
        ({"slice_digest": "sha256:other"}, "slice_digest"),
        ({"sample_ids": tuple(f"picture {row}" for row in range(30))}, "sample_ids"),
    ],
)
def test_unlike_inputs_are_refused_and_the_aspect_is_named(maps, change, aspect):
    reference = maps(noise(0))
    other = dataclasses.replace(maps(noise(1), "net/2"), **change)
    with pytest.raises(IncomparableError, match=rf"net/1 and net/2 may not be compared, they differ in: {aspect};"):
        measured(reference, other)
    with pytest.raises(IncomparableError, match=aspect):
        measured(reference, maps(noise(1)), other)


def test_other_grids_are_refused(maps):
    with pytest.raises(IncomparableError, match=r"grid \(8, 8\) and \(7, 7\)"):
        require_comparable(maps(noise(0)), maps(noise(1, side=7)))


def test_other_models_and_values_are_what_is_compared(maps):
    require_comparable(maps(noise(0)), maps(holes(noise(1), 3), "net/2", weights_digest="sha256:other"))


def test_all_differing_aspects_are_named(maps):
    other = maps(noise(1), targets=np.zeros(30, np.int64), slice_digest="sha256:b")
    with pytest.raises(IncomparableError, match=r"differ in: slice_digest, targets;"):
        require_comparable(maps(noise(0)), other)


def test_image_distances_say_which_image_moved(maps):
    reference, candidate = noise(0), noise(0)
    candidate[7] = noise(1)[7]
    found = image_distances(maps(reference), maps(holes(candidate, 2)), SETTINGS)
    assert np.isnan(found[2])
    pair = [to_grid(values[7:8], 4).ravel() for values in (reference, candidate)]
    assert found[7] == pytest.approx(1 - spearmanr(*pair).statistic)
    assert not np.delete(found, [2, 7]).any()
    assert np.isnan(
        image_distances(maps(holes(reference, *range(15))), maps(holes(candidate, *range(15, 30))), SETTINGS)
    ).all()


def test_one_measurement_per_slice_explainer_and_statistic(maps):
    def version(model, seed):
        return [
            maps(noise(seed), model, slice_name=slice_name, explainer=explainer)
            for slice_name in ("a", "b")
            for explainer in ("gradcam", "lime")
        ]

    found = measured(version("net/1", 0), version("net/2", 1), version("net/0", 2))
    keys = [(each.slice, each.explainer, each.statistic) for each in found]
    assert len(set(keys)) == len(keys) == 2 * 2 * len(STATISTICS)
    assert all(each.floor.models == ("net/0",) for each in found)


@pytest.mark.parametrize("place", ["candidate", "floor"])
@pytest.mark.parametrize("lacking", [{"slice_name": "b"}, {"explainer": "lime"}])
def test_a_version_without_maps_of_a_slice_or_an_explainer_is_named(maps, place, lacking):
    both = [maps(noise(0)), maps(noise(0), **lacking)]
    versions = [both, both[:1]] if place == "candidate" else [both, both, both[:1]]
    name, slice_name = lacking.get("explainer", "gradcam"), lacking.get("slice_name", "all")
    with pytest.raises(IncomparableError, match=f"{name} on slice {slice_name!r}, another version has not"):
        measured(*versions)


TWO_CLASSES = np.arange(60) % 2


def halves(maps, seed, right, model="net/1", targets=TWO_CLASSES):
    """Maps of 60 images of two classes, and which of them were decided rightly."""
    return VersionMaps((maps(noise(seed, 60), model, targets=targets),), {"all": np.asarray(right)})


def test_strata_are_measured_by_themselves(maps):
    """Each number is that of the stratum's images alone; only the headline's decide, classes may."""
    first, second = np.arange(60) < 50, np.arange(60) >= 10
    found = measured(halves(maps, 0, first), halves(maps, 1, second, "net/2"))
    rows = {"both right": first & second, "flipped": first ^ second, "both wrong": ~first & ~second}
    rows |= {f"class {number}": number == TWO_CLASSES for number in (0, 1)}
    assert {each.stratum for each in found} == set(rows)
    for each in found:
        used = rows[each.stratum]
        assert each.n == used.sum()
        if used.any():
            terms = make_statistic(each.statistic).terms(*(to_grid(noise(seed, 60)[used], 4) for seed in (0, 1)))
            assert each.value == pytest.approx(float(make_statistic(each.statistic).value(terms.mean(axis=0))))
        assert each.primary is (each.stratum == "both right" and each.statistic in PRIMARY)
        assert each.localised is each.stratum.startswith("class")
        assert each.stratum == "both right" or each.statistic in PRIMARY


def test_the_floor_of_a_stratum_is_that_of_the_same_stratum(maps):
    """Which images both decide rightly depends on the retrain, too."""
    rights = [np.roll(np.arange(60) < 50, 5 * turn) for turn in range(5)]
    reference, candidate, *floor = (halves(maps, turn, right, f"net/{turn}") for turn, right in enumerate(rights))
    found = measured(reference, candidate, *floor)
    alone = [{(each.statistic, each.stratum): each for each in measured(reference, other)} for other in floor]
    for each in found:
        expected = [one[each.statistic, each.stratum].value for one in alone if one[each.statistic, each.stratum].n]
        assert list(each.floor.distances) == expected
    assert {each.stratum for each in found} >= set(OUTCOMES)


def test_lost_maps_stay_in_their_class(maps):
    """A class that loses maps is still there, with fewer images used and the lost ones counted."""
    right = np.ones(60, dtype=bool)
    reference = halves(maps, 0, right)
    lost = np.arange(0, 60, 2)
    candidate = VersionMaps((maps(holes(noise(1, 60), *lost), "net/2", targets=TWO_CLASSES),), {"all": right})
    found = {(each.stratum, each.statistic): each for each in measured(reference, candidate)}
    assert {stratum for stratum, _ in found} == {*OUTCOMES, "class 0", "class 1"}
    for name in PRIMARY:
        gone, kept = (found[stratum, name] for stratum in ("class 0", "class 1"))
        assert (gone.n, gone.undefined, gone.lost, gone.lost_p) == (0, 30, 30, 0.5**30)
        assert (kept.n, kept.undefined, kept.lost, kept.lost_p) == (30, 0, 0, 1)


def test_small_classes_are_not_measured(maps):
    targets = np.where(np.arange(60) < 9, 2, np.arange(60) % 2)
    right = np.ones(60, dtype=bool)
    for fewest, classes in ((9, {"class 0", "class 1", "class 2"}), (10, {"class 0", "class 1"})):
        chosen = dataclasses.replace(SETTINGS, class_images=fewest)
        pair = [halves(maps, seed, right, f"net/{seed}", targets) for seed in (0, 1)]
        assert {each.stratum for each in measured(*pair, settings=chosen)} == {*OUTCOMES, *classes}


def test_several_maps_of_an_image_are_one_witness(maps):
    """Each image four times tells what each image once does, however many rows that makes."""
    reference, candidate = (np.repeat(noise(seed), 4, axis=0) for seed in (0, 1))
    images = {"all": np.repeat([f"{row}.png" for row in range(30)], 4)}
    versions = [maps(reference), maps(holes(candidate, 0, 1, 2, 3), "net/2")]
    once = measured(maps(noise(0)), maps(holes(noise(1), 0), "net/2"))
    taken = measured(*(VersionMaps((each,), images=images) for each in versions))
    apart = measured(*versions)
    whole = [by_name(each for each in found if each.stratum == "all") for found in (taken, apart, once)]
    for name in PRIMARY:
        one, rows, alone = (found[name] for found in whole)
        assert (one.lower, one.value, one.upper) == pytest.approx((alone.lower, alone.value, alone.upper), rel=1e-6)
        assert rows.upper - rows.lower < 0.75 * (one.upper - one.lower)
        assert (one.lost, one.lost_p) == (4, 0.5)
        assert rows.lost_p < 0.1
