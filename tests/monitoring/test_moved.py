"""Which images moved: on maps of networks that really were trained, and on maps where the answer is known."""

import sys
from pathlib import Path

import numpy as np
import pytest

from attrail_explainers.errors import ConfigError, IncomparableError
from attrail_monitoring.moved import Envelope, moved_images
from attrail_monitoring.settings import Settings

sys.path.append(str(Path(__file__).parent))
from trained import IMAGES, cheat, honest

SETTINGS = Settings(grid=8)
RATE = 0.05


def audit(maps, models, candidate):
    """Rows found for a candidate's values, with an honest reference and five honest retrains."""
    reference, *floor = (maps(honest(seed), f"net/{seed}") for seed in models)
    return moved_images(reference, maps(candidate, "net/candidate"), floor, SETTINGS, RATE)


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
    found = moved_images(reference, maps(candidate), floor, SETTINGS, RATE).tolist()
    assert not {0, 1, 3} & set(found)
    assert 2 in found
    assert len(found) > 20


def test_usual_scores_are_each_retrain_against_all_others(maps):
    """By the definition, image by image and cell by cell."""
    generator = np.random.default_rng(0)
    values = generator.uniform(0.1, 1, (4, 3, 2, 2))
    envelope = Envelope.of(maps(values[0]), [maps(each) for each in values[1:]], Settings(grid=2))
    shares = values.astype(np.float32).astype(float)
    shares = shares / shares.sum(axis=(2, 3), keepdims=True)
    expected = []
    for retrain in (1, 2, 3):
        others = np.delete(shares, retrain, axis=0)
        for image in range(3):
            cells = zip(shares[retrain, image].ravel(), others[:, image].reshape(3, 4).T, strict=True)
            expected.append(sum(max(cell - max(rest), 0) + max(min(rest) - cell, 0) for cell, rest in cells))
    assert envelope.usual == pytest.approx(expected)
    assert envelope.high == pytest.approx(shares.max(axis=0).reshape(3, 4))
    assert envelope.low == pytest.approx(shares.min(axis=0).reshape(3, 4))
    assert envelope.outside(maps(values[2]), Settings(grid=2)) == pytest.approx(0)


def test_no_image_at_all(maps):
    empty = maps(np.full((3, 2, 2), np.nan))
    some = [maps(np.ones((3, 2, 2)))] * 3
    assert moved_images(some[0], empty, some, SETTINGS, RATE).tolist() == []
    assert moved_images(empty, some[0], some, SETTINGS, RATE).tolist() == []


def test_too_few_retrains_and_unlike_maps_are_refused(maps):
    one = maps(np.ones((3, 2, 2)))
    with pytest.raises(ConfigError, match="at least 2 retrains, got 1"):
        moved_images(one, one, [one], SETTINGS, RATE)
    with pytest.raises(ConfigError, match="between 0 and 1, got 0"):
        moved_images(one, one, [one] * 2, SETTINGS, 0)
    other = maps(np.ones((3, 2, 2)), slice_digest="sha256:other")
    for candidate, floor in ((other, [one] * 2), (one, [one, other])):
        with pytest.raises(IncomparableError, match="slice_digest"):
            moved_images(one, candidate, floor, SETTINGS, RATE)
