"""Calibrations: what the floor's models give, kept and read again, and only used where they belong."""

import dataclasses
import json

import numpy as np
import pytest

from attrail_explainers.errors import IncomparableError, RecordError
from attrail_monitoring.comparison import compare
from attrail_monitoring.floor.calibration import Calibration, MeasuredAt, Rehearsal, calibrate
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.floor.spreads import spreads_of
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import make_statistic
from attrail_monitoring.maps.strata import is_class
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.verdict.measurement import measure
from attrail_monitoring.verdict.policy import Policy

SETTINGS = Settings(grid=4, resamples=50)
TARGETS = np.arange(60) % 2


def noise(seed):
    return np.random.default_rng(seed).normal(size=(60, 8, 8)).astype(np.float32)


@pytest.fixture
def version(maps):
    """Makes a version with maps of Grad-CAM and LIME, of which LIME draws."""

    def make(turn, right=None, model=None, seed=0):
        right = np.ones(60, dtype=bool) if right is None else right
        both = [
            maps(
                noise(0) + 0.3 * noise(100 * turn + place),
                model or f"net/{turn}",
                explainer=name,
                targets=TARGETS,
                parameters={"seed": seed},
            )
            for place, name in enumerate(("gradcam", "lime"))
        ]
        return VersionMaps(tuple(both), {"all": right})

    return make


def test_every_place_has_the_distance_of_every_model(version):
    reference, floor = version(0), [version(turn) for turn in range(1, 5)]
    found = calibrate(reference, floor, SETTINGS)
    assert found.models == ("net/1", "net/2", "net/3", "net/4")
    for row, other in enumerate(floor):
        for each in measure(reference, other, Calibration(), SETTINGS):
            place = MeasuredAt(each.slice, each.explainer, each.statistic, each.stratum)
            if each.n:
                assert found.floor(place).distances[row] == each.value
                assert found.floor(place).models[row] == other.maps[0].model
            else:
                assert place not in found.floors
    assert all(len(floor.distances) == 4 for floor in found.floors.values())


def test_maps_are_taken_as_compare_takes_them(version):
    """Several Attributions, or one alone, are a version of which right answers are not known."""
    reference, *floor = ([*version(turn).maps] for turn in range(5))
    whole = [VersionMaps(tuple(each)) for each in (reference, *floor)]
    assert calibrate(reference, floor).document() == calibrate(whole[0], whole[1:], Settings()).document()
    alone = calibrate(reference[0], [each[0] for each in floor], SETTINGS)
    assert {place.explainer for place in alone.floors} == {"gradcam"}


@pytest.mark.parametrize(("source", "tier"), [("retrains", "B"), ("history", "C"), ("surrogates", "D")])
def test_its_source_makes_the_tier(version, source, tier):
    found = calibrate(version(0), [version(turn) for turn in range(1, 5)], SETTINGS, source)
    assert {floor.tier for floor in found.floors.values()} == {tier}
    nowhere = found.floor(MeasuredAt("night", "gradcam", "rank_distance", "all"))
    assert nowhere == NoiseFloor(source=source)


def test_models_of_one_name_are_several(version):
    """Who explains modules in a notebook gives them no versions."""
    found = calibrate(version(0), [version(turn, model="SmallNet/") for turn in range(1, 6)], SETTINGS)
    assert {len(floor.distances) for floor in found.floors.values()} == {5}
    assert {floor.tier for floor in found.floors.values()} == {"B"}


def without(maps, rows):
    values = maps.values.copy()
    values[rows] = np.nan
    return dataclasses.replace(maps, values=values, undefined={maps.sample_ids[row]: "lost" for row in rows})


def test_classes_of_few_images_have_no_floor(version):
    """A retrain with maps of only nine of a class's images says little of that class."""
    poor = version(3)
    lost = np.flatnonzero((TARGETS == 1) & (np.arange(60) >= 18))
    lime = without(poor.maps[1], lost)
    flipped = np.arange(60) >= 18
    third = VersionMaps((poor.maps[0], lime), {"all": flipped})
    found = calibrate(version(0), [version(1), version(2), third], SETTINGS)
    models = {
        place.stratum: floor.models
        for place, floor in found.floors.items()
        if (place.explainer, place.statistic) == ("lime", "rank_distance")
    }
    assert models["both right"] == models["class 0"] == ("net/1", "net/2", "net/3")
    assert models["class 1"] == ("net/1", "net/2")
    assert models["flipped"] == ("net/3",)


def test_models_that_cannot_be_compared_are_told_from_models_that_were_not_given(version):
    """Four of five retrains decided rightly what the reference decided wrongly."""
    first, second = np.arange(60) < 30, np.arange(60) >= 30
    reference, candidate = version(0, first), version(6, first)
    floor = [version(1, first), *(version(turn, second) for turn in range(2, 6))]
    report = compare(reference, candidate, floor, Policy(margins={"rank_distance": 0.001}, settings=SETTINGS))
    told = (
        "1 of the floor's 5 models could be compared here, where 4 make a floor: the others have no image that they "
        "and the reference both decided rightly, with maps of both, so nothing says how far honest models move anyway"
    )
    headline = [each for each in report.findings if each.measurement.stratum == "both right"]
    assert all(each.measurement.floor.lacking == told for each in headline)
    assert all(each.reason.endswith(told) for each in headline if each.measurement.statistic != "rank_distance")
    assert told in report.reason
    assert report.next_step.startswith("give the floor 4 models or more that can be compared here, in place of those")
    nobody = compare(reference, candidate, floor[1:], Policy(settings=SETTINGS))
    assert "none of the floor's 4 models could be compared here" in nobody.findings[0].measurement.floor.lacking


def rehearsal(version):
    head = VersionMaps((version(7).maps[0],), version(7).right)
    again = tuple(VersionMaps(version(turn, seed=5).maps[1:], version(turn).right) for turn in (8, 9))
    return Rehearsal(head, again)


def test_instruments_are_inspected_in_a_rehearsal_only(version):
    reference, floor = version(0), [version(1), version(2)]
    assert calibrate(reference, floor, SETTINGS).instruments == {}
    found = calibrate(reference, floor, SETTINGS, rehearsal=rehearsal(version)).instruments
    assert set(found) == {("all", "gradcam"), ("all", "lime")}
    assert found["all", "gradcam"].random_head["rank_distance"] > 0
    assert found["all", "lime"].random_head == {}
    assert set(found["all", "gradcam"].repeat.values()) == {0.0}
    assert found["all", "lime"].repeat["rank_distance"] > 0


def test_repeats_compare_reference_and_first_retrain_drawn_anew(version):
    found = calibrate(version(0), [version(1)], SETTINGS, rehearsal=rehearsal(version)).instruments["all", "lime"]
    statistic = make_statistic("rank_distance")

    def distance(first, second):
        sides = [VersionMaps((each.of(("all", "lime")),), each.right) for each in (first, second)]
        place = MeasuredAt("all", "lime", "rank_distance", "both right")
        return calibrate(sides[0], [sides[1]], SETTINGS).floors[place].distances[0]

    redrawn = distance(*rehearsal(version).again)
    assert found.repeat["rank_distance"] == pytest.approx(abs(distance(version(0), version(1)) - redrawn))
    assert found.repeat["rank_distance"] <= statistic.upper


def calibrated(version):
    return calibrate(version(0), [version(turn) for turn in range(1, 6)], SETTINGS, "history", rehearsal(version))


def test_round_trip_through_json(version):
    found = calibrated(version)
    text = json.dumps(found.document(), allow_nan=False)
    read = Calibration.from_document(json.loads(text), found.arrays)
    assert read == found
    assert json.dumps(read.document()) == text


def test_an_empty_calibration_survives_too():
    assert Calibration.from_document(json.loads(json.dumps(Calibration().document())), {}) == Calibration()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda document: document.update(format="attrail.calibration/0"), "expected format .*, got 'attrail.cal"),
        (lambda document: document.pop("format"), "expected format .*, got None"),
        (lambda document: document.pop("models"), "missing or unknown: 'models'"),
        (lambda document: document["floors"][0].pop("distances"), "missing or unknown: 'distances'"),
        (lambda document: document["floors"][0].update(distances=3), "missing or unknown"),
        (lambda document: document["instruments"][0].update(mood="good"), "missing or unknown: .*mood"),
        (lambda document: document["subjects"][0].pop("identity"), "missing or unknown: 'identity'"),
        (lambda document: document.pop("envelopes"), "missing or unknown: 'envelopes'"),
    ],
)
def test_documents_of_another_kind_are_refused(version, change, message):
    found = calibrated(version)
    document = json.loads(json.dumps(found.document()))
    change(document)
    with pytest.raises(RecordError, match=message):
        Calibration.from_document(document, found.arrays)


def test_envelopes_are_held_against_their_digests(version):
    """A wider envelope would hide every image that moved."""
    found = calibrated(version)
    wider = {name: array * 2 if name.endswith("high") else array for name, array in found.arrays.items()}
    for arrays, message in ((wider, "the file holds sha256"), ({}, "low, high and usual, got none")):
        with pytest.raises(RecordError, match=message):
            Calibration.from_document(found.document(), arrays)


def test_three_models_are_no_envelope(version):
    assert calibrate(version(0), [version(turn) for turn in range(1, 4)], SETTINGS).envelopes == {}
    assert set(calibrated(version).envelopes) == set(version(0).by_subject)


@pytest.mark.parametrize(
    "change",
    [
        {"weights_digest": "sha256:other"},
        {"program_digest": "sha256:other"},
        {"slice_digest": "sha256:other"},
        {"parameters": {"seed": 1}},
        {"targets": np.arange(60) % 3},
    ],
)
def test_a_calibration_of_something_else_is_refused(version, change):
    """The same names are not enough: a floor of another model or of other images would let anything pass."""
    found, reference = calibrated(version), version(0)
    found.require_made_for(reference.maps[0])
    other = dataclasses.replace(reference.maps[0], **change)
    with pytest.raises(IncomparableError, match=r"was not made for gradcam on slice 'all' with the reference net/0"):
        found.require_made_for(other)
    versions = [VersionMaps((dataclasses.replace(each.maps[0], **change),), each.right) for each in (reference,) * 2]
    with pytest.raises(IncomparableError, match="calibrate anew"):
        measure(*versions, found, SETTINGS)


def test_another_machine_may_round_the_references_maps_differently(version):
    """They identify themselves by weights, images, targets and parameters, not by their last digits."""
    reference = version(0).maps[0]
    calibrated(version).require_made_for(dataclasses.replace(reference, values=reference.values * np.float32(1.000001)))


def test_no_floor_fits_everything(version):
    calibrate(version(0), [], SETTINGS).require_made_for(version(3).maps[0])


def test_classes_share_their_spread_and_the_whole_slice_has_that_of_the_zoo(version, maps):
    """Three classes of twenty images: each one's bound is drawn towards that of all."""

    def of_three(turn):
        values = noise(0) + 0.3 * noise(100 * turn)
        return VersionMaps((maps(values, f"net/{turn}", targets=np.arange(60) % 3),))

    found = calibrate(of_three(0), [of_three(turn) for turn in range(1, 6)], SETTINGS)
    for name in ("rank_distance", "coherent_shift"):
        floors = {place.stratum: floor for place, floor in found.floors.items() if place.statistic == name}
        assert floors["all"].shared == spreads_of("retrains")[name]
        assert len({floors[f"class {number}"].shared for number in range(3)}) == 1
        assert floors["class 0"].shared is not None
    two = calibrate(version(0), [version(turn) for turn in range(1, 6)], SETTINGS)
    assert {floor.shared for place, floor in two.floors.items() if is_class(place.stratum)} == {None}
    read = Calibration.from_document(json.loads(json.dumps(found.document())), found.arrays)
    assert read == found
