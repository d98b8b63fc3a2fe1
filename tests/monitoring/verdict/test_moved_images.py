"""Which images moved: on maps of networks that really were trained, and on maps where the answer is known."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from attrail_explainers.errors import ConfigError
from attrail_monitoring.floor.envelope import Envelope
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.verdict.moved_images import Displacement, any_moved, chances, moved_images, moved_on_slices

sys.path.append(str(Path(__file__).parents[1]))
from trained import IMAGES, cheat, honest

SETTINGS = Settings(grid=8)
RATE = 0.05


def audit(maps, models, candidate):
    """Rows found for a candidate's values, with an honest reference and five honest retrains."""
    reference, *floor = (maps(honest(seed), f"net/{seed}") for seed in models)
    return moved_images([displaced(reference, maps(candidate, "net/candidate"), floor)], RATE)


def displaced(reference, candidate, floor):
    return Displacement.of(reference, candidate, Envelope.of(reference, floor, SETTINGS), SETTINGS)


def rotations():
    """Twelve audits by fourteen honest networks, each time others in other places."""
    for start in range(12):
        seeds = [(start + step) % 14 for step in range(7)]
        yield seeds[:6], seeds[6], np.random.default_rng(start).permutation(IMAGES)


@pytest.mark.parametrize("share", [0.05, 0.2])
def test_a_moved_sub_population_is_found_on_real_maps(maps, share):
    """An honest retrain, but for a share of images that have a cheat's maps. Recall >= .8 at 5 % false discoveries."""
    recalls, false = [], []
    for models, retrain, order in rotations():
        moved = order[: int(np.ceil(share * IMAGES))]
        candidate = honest(retrain).copy()
        candidate[moved] = cheat(100 + retrain % 2)[moved]
        found = audit(maps, models, candidate)
        recalls.append(np.isin(moved, found).mean())
        false.append((~np.isin(found, moved)).sum() / max(1, len(found)))
    assert np.mean(recalls) >= 0.8
    assert np.mean(false) <= RATE


def test_an_honest_retrain_has_no_moved_images(maps):
    """Any at all would be a false discovery; allowed is one audit in twenty."""
    assert sum(len(audit(maps, models, honest(retrain))) > 0 for models, retrain, _ in rotations()) <= 1


def test_the_furthest_comes_first(maps):
    models, retrain, _ = next(rotations())
    candidate = honest(retrain).copy()
    rows = {7: 0.5, 30: 0.9, 100: 0.7, 200: 0.95, 300: 0.6, 400: 0.8}
    for row, amount in rows.items():
        candidate[row, 7, 7] += np.abs(candidate[row]).sum() * amount / (1 - amount)
    assert audit(maps, models, candidate)[:6].tolist() == [200, 30, 400, 100, 300, 7]


def test_scale_does_not_matter(maps):
    models, retrain, order = next(rotations())
    candidate = honest(retrain).copy()
    candidate[order[:26]] = cheat(100)[order[:26]]
    assert audit(maps, models, candidate * 8).tolist() == audit(maps, models, candidate).tolist()


def test_images_without_a_map_are_left_out(maps):
    """Undefined in the candidate or in the reference: no row. Undefined in one retrain: the others speak."""
    values = [honest(seed).copy() for seed in range(6)]
    candidate = honest(6).copy()
    candidate[:40] = cheat(100)[:40]
    candidate[0] = np.nan
    values[0][1], values[3][2] = np.nan, np.nan
    for retrain in values[1:]:
        retrain[3] = np.nan
    reference, *floor = (maps(each, f"net/{place}") for place, each in enumerate(values))
    found = moved_images([displaced(reference, maps(candidate), floor)], RATE).tolist()
    assert not {0, 1, 3} & set(found)
    assert 2 in found
    assert len(found) > 20


def test_no_image_at_all(maps):
    empty = maps(np.full((3, 2, 2), np.nan))
    some = [maps(np.ones((3, 2, 2)))] * 3
    for reference, candidate in ((some[0], empty), (empty, some[0])):
        found = displaced(reference, candidate, some)
        assert moved_images([found], RATE).tolist() == []
        assert any_moved(chances([found])) == 1


def test_a_rate_that_is_none_is_refused(maps):
    one = displaced(*[maps(np.ones((3, 2, 2)))] * 2, [maps(np.ones((3, 2, 2)))] * 2)
    with pytest.raises(ConfigError, match="between 0 and 1, got 0"):
        moved_images([one], 0)


def by_hand(usual, outside, explainer="gradcam", slice_name="all", lost=(), counted=None):
    """A displacement of given shares outside."""
    outside = np.array(outside, dtype=float)
    names = tuple(f"image {row}" for row in range(len(outside)))
    missing = np.isin(np.arange(len(outside)), lost)
    outside[missing] = np.nan
    counted = np.ones(len(outside), dtype=bool) if counted is None else np.asarray(counted)
    return Displacement(slice_name, explainer, names, outside, np.array(usual, dtype=float), missing, counted)


def test_distances_are_norms_in_units_of_each_explainers_own_nine_tenths():
    """By the definition: nine tenths of the retrains' 10 shares stay below 0.2 here and below 0.02 there."""
    usual = np.linspace(0.02, 0.2, 10).reshape(2, 5)
    first, second = by_hand(usual, [0.1, 0.3, 0, 0.2, 0.2]), by_hand(usual / 10, [0.01, 0, 0.03, 0.02, 0.021], "lime")
    units = 0.2, 0.02
    norms = np.hypot(first.outside / units[0], second.outside / units[1])
    among = np.hypot(first.usual / units[0], second.usual / units[1]).ravel()
    expected = [(1 + (among >= norm).sum()) / 11 for norm in norms]
    assert chances([first, second]) == pytest.approx(expected)


def test_two_explainers_see_what_neither_sees_alone():
    """Each explainer's share is as large as one in ten of its retrains' are, but those never on one image at once."""
    generator = np.random.default_rng(0)
    usual, far = generator.uniform(0, 0.1, (2, 5, 200)), generator.uniform(0.1, 0.16, (5, 200))
    kind = generator.permutation(1000).reshape(5, 200)
    usual = np.where(np.stack([kind < 100, kind >= 900]), far, usual)
    outside = generator.uniform(0, 0.09, (2, 200))
    outside[:, :20] = 0.15
    both = [by_hand(*each, name) for each, name in zip(zip(usual, outside, strict=True), "ab", strict=True)]
    assert set(moved_images(both, RATE)) == set(range(20))
    assert not any(len(moved_images([each], RATE)) for each in both)


def test_a_move_within_the_margin_is_none():
    """Where retrains do not move at all, as of one function, every rounding would be a move."""
    found = by_hand(np.zeros((5, 40)), np.full(40, 1e-5))
    assert len(moved_images([found], RATE)) == 40
    assert len(moved_images([found], RATE, margin=0.01)) == 0
    assert any_moved(chances([found], margin=0.01)) == 1


def test_the_chance_that_any_moved_is_simes():
    p_values = np.array([0.03, np.nan, 0.9, 0.01, 0.5])
    assert any_moved(p_values) == pytest.approx(min(4 * 0.01, 2 * 0.03, 4 / 3 * 0.5, 0.9))
    assert any_moved(np.full(3, np.nan)) == 1


def test_slices_share_the_level():
    """Holm's: what is flagged alone need not be among others; a flag names its images."""
    generator = np.random.default_rng(1)
    usual = generator.uniform(0, 0.1, (5, 100))
    moved = by_hand(usual, [0.5] * 8 + [0.01] * 92)
    still = {f"slice {number}": [by_hand(usual, np.full(100, 0.01))] for number in range(9)}
    p_value = any_moved(chances([moved]))
    (alone,) = moved_on_slices({"all": [moved]}, 2 * p_value, RATE, 0)
    assert alone.flagged
    assert alone.samples == tuple(f"image {row}" for row in range(8))
    assert (alone.images, alone.p_value, alone.adjusted) == (100, p_value, p_value)
    among = moved_on_slices({"all": [moved]} | still, 2 * p_value, RATE, 0)
    assert among[0].adjusted == pytest.approx(min(1, 10 * p_value))
    assert not any(each.flagged for each in among)


def test_images_that_do_not_count_are_named_beside():
    """Eight moved, five of them do not count: named all, flagged for three only."""
    usual = np.random.default_rng(1).uniform(0, 0.1, (5, 100))
    moved = [0.5] * 8 + [0.01] * 92
    (whole,) = moved_on_slices({"all": [by_hand(usual, moved)]}, 0.02, RATE, 0)
    (part,) = moved_on_slices({"all": [by_hand(usual, moved, counted=np.arange(100) >= 5)]}, 0.02, RATE, 0)
    assert (len(whole.samples), whole.beside, whole.images) == (8, (), 100)
    assert part.samples == ("image 5", "image 6", "image 7")
    assert part.beside == tuple(f"image {row}" for row in range(5))
    assert part.images == 95
    assert part.p_value == pytest.approx(95 / 3 / 501)
    assert whole.p_value == pytest.approx(100 / 8 / 501)
    assert json.loads(json.dumps(part.row()))["beside"] == list(part.beside)


def test_lost_maps_may_hide_a_move():
    generator = np.random.default_rng(1)
    usual = generator.uniform(0, 0.1, (5, 100))
    few, many = (by_hand(usual, np.full(100, 0.01), lost=range(count)) for count in (1, 30))
    hides = [moved_on_slices({"all": [each]}, 0.02, RATE, 0)[0].hides for each in (few, many)]
    assert hides == [False, True]
    assert moved_on_slices({"all": [many]}, 0.02, RATE, 0)[0].images == 70


def test_the_level_is_held_on_real_maps(maps):
    """Honest candidates against honest references and floors: at most one false flag in twelve audits, at .02 each."""
    flags = 0
    for models, retrain, _ in rotations():
        reference, *floor = (maps(honest(seed), f"net/{seed}") for seed in models)
        found = displaced(reference, maps(honest(retrain), "net/candidate"), floor)
        flags += moved_on_slices({"all": [found]}, 0.02, RATE, 0)[0].flagged
    assert flags <= 1
