"""Measuring: like with like, and the right images in every number."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import spearmanr

from attrail_explainers.errors import IncomparableError
from attrail_monitoring.comparison import compare, measure_all
from attrail_monitoring.grid import to_grid
from attrail_monitoring.measurement import Settings, image_distances, measure, require_comparable
from attrail_monitoring.policy import Policy
from attrail_monitoring.statistic import make_statistic, statistic_names
from attrail_monitoring.verdict import Verdict

SETTINGS = Settings(grid=4, resamples=200)


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
    found = by_name(measure(maps(reference), maps(candidate, "net/2"), (), SETTINGS))
    assert sorted(found) == statistic_names()
    for name, measured in found.items():
        statistic = make_statistic(name)
        terms = statistic.terms(to_grid(reference, 4), to_grid(candidate, 4))
        assert measured.value == pytest.approx(float(statistic.value(terms.mean(axis=0))), rel=1e-12)
        assert measured.lower <= measured.value <= measured.upper <= measured.ceiling == statistic.upper
        assert (measured.n, measured.undefined) == (30, 0)
        assert (measured.slice, measured.explainer, measured.primary) == ("all", "gradcam", statistic.primary)


def test_images_without_a_map_in_either_version_are_left_out(maps):
    """The number is that of the other images alone, and the missing ones are counted."""
    reference, candidate = noise(0), noise(1)
    found = measure(maps(holes(reference, 0, 5)), maps(holes(candidate, 5, 9)), (), SETTINGS)
    kept = [row for row in range(30) if row not in (0, 5, 9)]
    alone = by_name(measure(maps(reference[kept]), maps(candidate[kept]), (), SETTINGS))
    for measured in found:
        assert (measured.n, measured.undefined) == (27, 3)
        assert measured.value == alone[measured.statistic].value


def test_no_common_image_is_no_number(maps):
    reference, candidate = noise(0, 4), noise(1, 4)
    for measured in measure(maps(holes(reference, 0, 1)), maps(holes(candidate, 2, 3)), (), SETTINGS):
        assert np.isnan([measured.value, measured.lower, measured.upper]).all()
        assert (measured.n, measured.undefined) == (0, 4)


def test_equal_maps_are_zero_apart(maps):
    for measured in measure(maps(noise(0)), maps(noise(0), "net/2"), (), SETTINGS):
        assert (measured.value, measured.lower, measured.upper) == (0, 0, 0)


def test_the_floor_is_each_retrain_against_the_reference(maps):
    reference = maps(noise(0))
    retrains = [maps(noise(0) + 0.5 * noise(seed), f"retrain/{seed}") for seed in range(1, 6)]
    found = measure(reference, maps(noise(9), "net/2"), retrains, SETTINGS)
    for row, retrain in enumerate(retrains):
        alone = by_name(measure(reference, retrain, (), SETTINGS))
        for measured in found:
            assert measured.floor.distances[row] == alone[measured.statistic].value
            assert measured.floor.models[row] == retrain.model


def test_intervals_depend_on_slice_and_explainer_only(maps):
    """Not on the order in which audits run: each has a seed of its own."""
    one = measure(maps(noise(0)), maps(noise(1)), (), SETTINGS)
    assert one == measure(maps(noise(0)), maps(noise(1)), (), SETTINGS)
    other = measure(maps(noise(0), slice_name="b"), maps(noise(1), slice_name="b"), (), SETTINGS)
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
        ({"explainer": "lime"}, "explainer"),
        ({"sample_ids": tuple(f"picture {row}" for row in range(30))}, "sample_ids"),
    ],
)
def test_unlike_inputs_are_refused_and_the_aspect_is_named(maps, change, aspect):
    reference = maps(noise(0))
    other = dataclasses.replace(maps(noise(1), "net/2"), **change)
    with pytest.raises(IncomparableError, match=rf"net/1 and net/2 may not be compared, they differ in: {aspect};"):
        measure(reference, other, (), SETTINGS)
    with pytest.raises(IncomparableError, match=aspect):
        measure(reference, maps(noise(1)), [other], SETTINGS)


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

    found = measure_all(version("net/1", 0), version("net/2", 1), [version("net/0", 2)], Policy(settings=SETTINGS))
    keys = [(each.slice, each.explainer, each.statistic) for each in found]
    assert len(set(keys)) == len(keys) == 2 * 2 * len(statistic_names())
    assert all(each.floor.models == ("net/0",) for each in found)


@pytest.mark.parametrize("place", ["candidate", "floor"])
def test_a_version_without_maps_of_a_slice_is_named(maps, place):
    both = [maps(noise(0), slice_name=name) for name in ("a", "b")]
    versions = {"candidate": both, "floor": [both]} | {place: both[:1] if place == "candidate" else [both[:1]]}
    with pytest.raises(IncomparableError, match="gradcam on slice 'b', another version has not"):
        compare(both, **versions)


def blobs(seed, corner=0.0, count=64, side=14):
    """A bright place somewhere in the middle of each image, and a share of the evidence in the upper left corner."""
    generator = np.random.default_rng(99)
    rows, columns = np.indices((side, side))
    middles = generator.uniform(4, side - 4, (count, 2))
    values = [np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 6) for row, column in middles]
    values = np.stack(values) + np.random.default_rng(seed).normal(0, 0.15, (count, side, side))
    values[:, :3, :3] += corner
    return values


def test_a_retrain_passes_and_a_shortcut_drifts(maps):
    """End to end: retrains differ by noise alone, the cheat looks at a corner."""
    reference = maps(blobs(0))
    floor = [maps(blobs(seed), f"retrain/{seed}") for seed in range(1, 7)]
    honest = compare(reference, maps(blobs(7), "honest/1"), floor)
    assert honest.verdict is Verdict.PASS, honest.reason
    cheat = compare(reference, maps(blobs(8, corner=3.0), "cheat/1"), floor)
    assert cheat.verdict is Verdict.DRIFT, cheat.reason
    unknown = compare(reference, maps(blobs(7), "honest/1"))
    assert unknown.verdict is Verdict.INCONCLUSIVE


def test_many_missing_maps_never_pass(maps):
    reference = maps(blobs(0))
    floor = [maps(blobs(seed), f"retrain/{seed}") for seed in range(1, 7)]
    for missing in (4, 8, 32, 63, 64):
        report = compare(reference, maps(holes(blobs(7), *range(missing)), "honest/1"), floor)
        assert report.verdict is Verdict.INCONCLUSIVE, missing
    assert compare(reference, maps(blobs(7), "honest/1"), floor).verdict is Verdict.PASS
