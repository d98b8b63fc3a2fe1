"""Floors of decisions: what honest models differ by, on the same images, and where one more of them would stay."""

import json

import numpy as np
import pytest
from scipy import stats

from attrail_explainers.errors import IncomparableError, RecordError
from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.floor.calibration import Calibration, calibrate
from attrail_monitoring.floor.decision_floors import DecidedAt, DecisionFloor
from attrail_monitoring.inference.scale import Scale
from attrail_monitoring.inference.shared_spread import SharedSpread
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.version_maps import VersionMaps

SETTINGS = Settings(grid=4, resamples=50)
LABELS = np.arange(200) % 4


def predicted(seed, wrong=0.2):
    generator = np.random.default_rng(seed)
    return np.where(generator.uniform(size=200) < wrong, generator.integers(0, 4, 200), LABELS)


@pytest.fixture
def version(maps):
    """Makes a version with maps and, if ``known``, decisions."""

    def make(turn, known=True, labels=LABELS):
        values = np.random.default_rng(turn).normal(size=(200, 4, 4))
        decided = {"all": Decisions(predicted(turn), labels, np.full(200, 0.7))} if known else {}
        return VersionMaps((maps(values, f"net/{turn}", targets=LABELS),), decisions=decided)

    return make


def test_every_model_has_its_own_values_on_the_same_images(version):
    reference, floor = version(0), [version(turn) for turn in range(1, 6)]
    found = calibrate(reference, floor, SETTINGS)
    churn = found.decision_floor(DecidedAt("all", "churn", "all"))
    assert churn.values == pytest.approx([(predicted(turn) != predicted(0)).mean() for turn in range(1, 6)])
    assert churn.models == tuple(f"net/{turn}" for turn in range(1, 6))
    assert churn.tier == "B"
    loss = found.decision_floor(DecidedAt("all", "accuracy_loss", "class 2"))
    rows = LABELS == 2
    accuracies = [(predicted(turn) == LABELS)[rows].mean() for turn in range(6)]
    assert loss.values == pytest.approx([accuracies[0] - each for each in accuracies[1:]])
    assert loss.images == 50
    assert loss.shared is not None
    assert {place.statistic for place in found.decisions} == {"accuracy_loss", "calibration_error", "churn"}
    assert DecidedAt("all", "calibration_error", "class 2") not in found.decisions
    assert found.decision_floor(DecidedAt("night", "churn", "all")).tier == "0"


def test_without_labels_there_is_churn_alone(version):
    versions = [version(turn, labels=None) for turn in range(5)]
    found = calibrate(versions[0], versions[1:], SETTINGS)
    assert {place.statistic for place in found.decisions} == {"churn"}


def test_right_answers_follow_from_decisions(version):
    assert version(3).right["all"].tolist() == (predicted(3) == LABELS).tolist()
    assert "all" not in version(3, labels=None).right


def test_decisions_of_one_version_alone_are_refused(version):
    with pytest.raises(IncomparableError, match="what net/0 decides on slice 'all', but not what net/1 does"):
        calibrate(version(0), [version(1, known=False)], SETTINGS)
    with pytest.raises(IncomparableError, match="net/1 on slice 'all' are about 4 images, its maps about 200"):
        VersionMaps(version(1).maps, decisions={"all": Decisions(LABELS[:4])})


@pytest.mark.parametrize("source", ["retrains", "history", "repeats"])
def test_a_calibration_keeps_them(version, source):
    found = calibrate(version(0), [version(turn) for turn in range(1, 5)], SETTINGS, source)
    document = json.loads(json.dumps(found.document()))
    assert Calibration.from_document(document, found.arrays).decisions == found.decisions
    old = {key: value for key, value in document.items() if key != "decisions"}
    assert Calibration.from_document(old, found.arrays).decisions == {}
    document["decisions"][0]["scale"] = "cube"
    with pytest.raises(RecordError, match="'cube' is not a valid Scale"):
        Calibration.from_document(document, found.arrays)


def test_stand_ins_are_no_floor_of_decisions(version):
    found = calibrate(version(0), [version(turn) for turn in range(1, 6)], SETTINGS, "surrogates")
    floor = found.decision_floor(DecidedAt("all", "churn", "all"))
    assert floor.tier == "0"
    assert "stand-ins" in floor.lacking
    assert floor.bound(0.05) is floor.p_value(0.9) is None


def test_the_bound_is_hahns_and_meekers_on_the_scale_and_the_p_value_its_inverse():
    values = (0.16, 0.2, 0.26, 0.19, 0.22)
    floor = DecisionFloor(values, ("a",) * 5, scale=Scale.ANGLE, images=10**9)
    angles = np.arcsin(np.sqrt(values))
    reach = stats.t(4).isf(0.01) * angles.std(ddof=1) * np.sqrt(1.2)
    assert floor.bound(0.01) == pytest.approx(np.sin(angles.mean() + reach) ** 2)
    assert floor.p_value(floor.bound(0.01)) == pytest.approx(0.01)
    assert floor.p_value(0.19) >= 5 / 6
    plain = DecisionFloor((-0.02, 0.01, 0.0, 0.03), ("a",) * 4, images=10**9)
    assert plain.bound(0.05) == pytest.approx(
        0.005 + stats.t(3).isf(0.05) * np.std([-0.02, 0.01, 0.0, 0.03], ddof=1) * np.sqrt(1.25)
    )


def test_models_that_agree_to_the_image_leave_room_for_some_images():
    """Five retrains that changed no decision do not make one changed decision of 256 impossible."""
    none = DecisionFloor((0.0,) * 5, ("a",) * 5, scale=Scale.ANGLE, images=256)
    assert 1 / 256 < none.bound(0.05) < 0.03
    assert none.p_value(2 / 256) > 0.01
    assert none.p_value(0.1) < 0.001
    same = DecisionFloor((0.0,) * 5, ("a",) * 5, images=20)
    assert 1 / 20 < same.bound(0.05) < 4 / 20


def test_classes_lend_each_other_certainty():
    floor = DecisionFloor((-0.02, 0.01, 0.0, 0.03), ("a",) * 4, images=10**9)
    shared = DecisionFloor(floor.values, floor.models, images=10**9, shared=SharedSpread(0.0004, 40))
    assert shared.bound(0.001) < floor.bound(0.001)


def test_an_honest_model_exceeds_the_bound_as_often_as_it_says():
    generator = np.random.default_rng(0)
    for scale, low in ((Scale.ANGLE, 0.0), (Scale.PLAIN, -1.0)):
        beyond = 0
        for _ in range(2000):
            drawn = (generator.binomial(256, 0.2, 6) / 256) + (0.0 if scale is Scale.ANGLE else -0.2)
            assert drawn.min() >= low
            floor = DecisionFloor(tuple(drawn[:5]), ("a",) * 5, scale=scale, images=256)
            beyond += drawn[5] > floor.bound(0.05)
        assert beyond / 2000 <= 0.06
