"""The envelope: by its definition, cell by cell, whatever is missing, and kept as it was."""

import numpy as np
import pytest

from attrail_explainers.errors import ConfigError, IncomparableError, RecordError
from attrail_monitoring.floor.envelope import BLOCK, Envelope
from attrail_monitoring.maps.settings import Settings

SETTINGS = Settings(grid=2)


def shares_of(values):
    values = np.abs(values.astype(np.float32).astype(float))
    return values / values.sum(axis=(-2, -1), keepdims=True)


def outside(image, others):
    """Half of the sum of what lies above or below all others, cell by cell."""
    return sum(max(c - max(rest), 0) + max(min(rest) - c, 0) for c, rest in zip(image, others.T, strict=True)) / 2


def naive_usual(values):
    """(K,N) of values (1+K,N,h,w), the reference's first, NaN without a map."""
    maps = shares_of(values).reshape(*values.shape[:2], -1)
    found = np.full((len(maps) - 1, maps.shape[1]), np.nan)
    for retrain in range(1, len(maps)):
        for image in range(maps.shape[1]):
            others = [maps[k, image] for k in range(len(maps)) if k != retrain and np.isfinite(maps[k, image]).all()]
            known = np.isfinite(maps[[0, retrain], image]).all()
            if known and len(others) > 1:
                found[retrain - 1, image] = outside(maps[retrain, image], np.array(others))
    return found


@pytest.mark.parametrize("seed", range(20))
def test_usual_is_each_retrain_against_all_others(maps, seed):
    """Three to seven models; equal extremes, since values are drawn from three numbers; some maps missing."""
    generator = np.random.default_rng(seed)
    values = generator.choice([1.0, 2.0, 5.0], (generator.integers(3, 8), 5, 2, 2))
    values[generator.uniform(size=values.shape[:2]) < 0.2] = np.nan
    envelope = Envelope.of(maps(values[0]), [maps(each) for each in values[1:]], SETTINGS)
    assert envelope.usual == pytest.approx(naive_usual(values), nan_ok=True, abs=1e-6)


def test_low_and_high_are_the_range_of_reference_and_retrains(maps):
    values = np.random.default_rng(0).uniform(0.1, 1, (4, 3, 2, 2))
    envelope = Envelope.of(maps(values[0]), [maps(each) for each in values[1:]], SETTINGS)
    shares = shares_of(values).reshape(4, 3, 4)
    assert envelope.high == pytest.approx(shares.max(axis=0))
    assert envelope.low == pytest.approx(shares.min(axis=0))
    assert envelope.outside(maps(values[2]), SETTINGS) == pytest.approx(0)
    other = np.random.default_rng(1).uniform(0.1, 1, (3, 2, 2))
    expected = [outside(row, shares[:, place]) for place, row in enumerate(shares_of(other).reshape(3, 4))]
    assert envelope.outside(maps(other), SETTINGS) == pytest.approx(expected, abs=1e-6)


def test_all_evidence_elsewhere_is_one(maps):
    """Reference and retrains look at one cell, the candidate at another."""
    at, elsewhere = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    at[:, 0, 0], elsewhere[:, 1, 1] = 1, 1
    envelope = Envelope.of(maps(at), [maps(at)] * 2, SETTINGS)
    assert envelope.outside(maps(elsewhere), SETTINGS) == pytest.approx(1)


def test_blocks_of_images_do_not_show(maps):
    values = np.random.default_rng(0).uniform(0.1, 1, (3, BLOCK + 7, 2, 2))
    whole = Envelope.of(maps(values[0]), [maps(each) for each in values[1:]], SETTINGS)
    tail = Envelope.of(maps(values[0, -9:]), [maps(each[-9:]) for each in values[1:]], SETTINGS)
    assert np.array_equal(whole.low[-9:], tail.low)
    assert np.array_equal(whole.usual[:, -9:], tail.usual)


def test_it_is_kept_under_its_digest(maps):
    values = np.random.default_rng(0).uniform(0.1, 1, (4, 3, 2, 2))
    values[1, 0] = np.nan
    envelope = Envelope.of(maps(values[0]), [maps(each) for each in values[1:]], SETTINGS)
    assert Envelope.read(envelope.arrays, envelope.digest) == envelope
    other = Envelope.of(maps(values[1]), [maps(each) for each in values[1:]], SETTINGS)
    assert other != envelope
    with pytest.raises(RecordError, match="the file holds sha256"):
        Envelope.read(other.arrays, envelope.digest)
    with pytest.raises(RecordError, match="got low, usual"):
        Envelope.read({"low": envelope.low, "usual": envelope.usual}, envelope.digest)


def test_too_few_retrains_and_unlike_maps_are_refused(maps):
    one = maps(np.ones((3, 2, 2)))
    with pytest.raises(ConfigError, match="at least 2 retrains, got 1"):
        Envelope.of(one, [one], SETTINGS)
    with pytest.raises(IncomparableError, match="slice_digest"):
        Envelope.of(one, [one, maps(np.ones((3, 2, 2)), slice_digest="sha256:other")], SETTINGS)
