"""Comparing versions, end to end on maps: what passes, what is flagged, and what never turns into a pass."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import IncomparableError
from attrail_monitoring.comparison import compare, judge
from attrail_monitoring.decisions.decisions import Decisions
from attrail_monitoring.floor.calibration import Calibration, Rehearsal, calibrate
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.version_maps import VersionMaps, version_maps
from attrail_monitoring.verdict.findings import Verdict
from attrail_monitoring.verdict.policy import Policy

FAST = Settings(resamples=200)


def blobs(seed, corner=0.0, count=64, side=14, rows=slice(None)):
    """A bright place somewhere in the middle of each image; a share of the evidence of ``rows`` in the corner."""
    generator = np.random.default_rng(99)
    down, across = np.indices((side, side))
    middles = generator.uniform(4, side - 4, (count, 2))
    values = [np.exp(-((down - row) ** 2 + (across - column) ** 2) / 6) for row, column in middles]
    values = np.stack(values) + np.random.default_rng(seed).normal(0, 0.15, (count, side, side))
    values[rows, :3, :3] += corner
    return values


def holes(values, *rows):
    values = values.copy()
    values[list(rows)] = np.nan
    return values


@pytest.fixture
def floor(maps):
    return [maps(blobs(seed), f"retrain/{seed}") for seed in range(1, 7)]


def test_a_retrain_passes_and_a_shortcut_drifts(maps, floor):
    """Retrains differ by noise alone, the cheat looks at a corner."""
    reference = maps(blobs(0))
    honest = compare(reference, maps(blobs(7), "honest/1"), floor)
    assert honest.verdict is Verdict.PASS, honest.reason
    cheat = compare(reference, maps(blobs(8, corner=3.0), "cheat/1"), floor)
    assert cheat.verdict is Verdict.DRIFT, cheat.reason
    unknown = compare(reference, maps(blobs(7), "honest/1"), policy=Policy(margins={}))
    assert unknown.verdict is Verdict.INCONCLUSIVE
    assert "no margin is set and 0 reference retrains are no floor" in unknown.reason


def test_many_missing_maps_never_pass(maps, floor):
    reference = maps(blobs(0))
    for missing in (4, 8, 32, 63, 64):
        report = compare(reference, maps(holes(blobs(7), *range(missing)), "honest/1"), floor)
        assert report.verdict is Verdict.INCONCLUSIVE, missing
    assert compare(reference, maps(blobs(7), "honest/1"), floor).verdict is Verdict.PASS


def test_a_calibration_judges_as_its_floor_does(maps, floor):
    """Made before, written down and read again: every number and every word the same."""
    reference = maps(blobs(0))
    known = calibrate(version_maps(reference), [version_maps(each) for each in floor], FAST)
    read = Calibration.from_document(json.loads(json.dumps(known.document())), known.arrays)
    for corner in (0.0, 3.0):
        candidate = maps(blobs(7, corner), "net/2")
        direct = compare(reference, candidate, floor, Policy(settings=FAST))
        assert compare(reference, candidate, known, Policy(settings=FAST)) == direct
        assert compare(reference, candidate, read, Policy(settings=FAST)) == direct


def test_the_report_names_policy_level_and_hypotheses(maps, floor):
    policy = Policy(alpha=0.02, settings=FAST)
    report = compare(maps(blobs(0)), maps(blobs(7), "net/2"), floor, policy)
    assert report.policy_digest == policy.digest
    assert report.hypotheses == sum(finding.measurement.primary for finding in report.findings) > 1
    assert report.level == pytest.approx(0.02 * (1 - policy.moved_share) * 0.8 / report.hypotheses)


@pytest.mark.parametrize("corner", [0.0, 3.0])
def test_surrogates_notify_and_never_decide(maps, floor, corner):
    report = compare(maps(blobs(0)), maps(blobs(7, corner), "net/2"), floor, source="surrogates")
    assert report.verdict is Verdict.INCONCLUSIVE
    told = "would be flagged" if corner else "would pass"
    assert f"against surrogates it {told}" in report.reason
    history = compare(maps(blobs(0)), maps(blobs(7, corner), "net/2"), floor, source="history")
    assert history.verdict is (Verdict.DRIFT if corner else Verdict.PASS)
    assert {finding.measurement.floor.tier for finding in history.findings} == {"C"}


def test_too_few_surrogates_leave_the_margins(maps, floor):
    """Three are no floor, so neither decides nor vetoes them."""
    policy = Policy(margins={"coherent_shift": 0.3, "rank_distance": 0.8}, settings=FAST)
    report = compare(maps(blobs(0)), maps(blobs(7), "net/2"), floor[:3], policy, source="surrogates")
    assert report.verdict is Verdict.PASS, report.reason
    assert {finding.measurement.floor.tier for finding in report.findings} == {"0"}


def decided(maps, values, right, model):
    return VersionMaps((maps(values, model),), {"all": np.asarray(right)})


def test_the_verdict_rests_on_what_both_decide_rightly(maps):
    """The evidence moved on the images whose prediction flipped: that is told, and it is no drift."""
    right, flipped = np.ones(64, dtype=bool), np.arange(64) >= 20
    floor = [decided(maps, blobs(seed), np.roll(flipped, 9 * seed), f"retrain/{seed}") for seed in range(1, 7)]
    reference = decided(maps, blobs(0), right, "net/1")
    flips = decided(maps, blobs(7, 3.0, rows=~flipped), flipped, "net/2")
    report = compare(reference, flips, floor, Policy(settings=FAST))
    assert report.verdict is Verdict.PASS, report.reason
    found = {(each.measurement.statistic, each.measurement.stratum): each for each in report.findings}
    assert found["coherent_shift", "flipped"].verdict is Verdict.DRIFT
    assert found["coherent_shift", "both right"].verdict is Verdict.PASS
    stays = decided(maps, blobs(7, 3.0, rows=~flipped), right, "net/2")
    assert compare(reference, stays, floor, Policy(settings=FAST)).verdict is Verdict.DRIFT


def test_knowing_right_and_wrong_of_some_versions_only_is_refused(maps, floor):
    right = np.ones(64, dtype=bool)
    reference, candidate = (decided(maps, blobs(seed), right, f"net/{seed}") for seed in (0, 7))
    with pytest.raises(IncomparableError, match="net/0 decides rightly, but not for retrain/1"):
        compare(reference, candidate, floor)


def of_classes(maps, seed, model, corner=0.0, lost=()):
    """200 images of ten classes; ``corner`` is what class 3 sees there."""
    targets = np.arange(200) % 10
    values = holes(blobs(seed, corner, 200, rows=targets == 3), *lost)
    return maps(values, model, targets=targets)


WIDE = Policy(margins={"coherent_shift": 0.15, "rank_distance": 0.8}, settings=FAST)


def test_a_shortcut_of_one_class_is_found(maps):
    """On the whole slice it stays below the margin."""
    floor = [of_classes(maps, seed, f"retrain/{seed}") for seed in range(1, 7)]
    reference = of_classes(maps, 0, "net/1")
    report = compare(reference, of_classes(maps, 8, "cheat/1", 3.0), floor, WIDE)
    assert report.verdict is Verdict.DRIFT
    assert report.reason == "on class 3 of slice all, gradcam found evidence that moved"
    assert not any(finding.verdict is Verdict.DRIFT for finding in report.findings if finding.measurement.primary)
    honest = compare(reference, of_classes(maps, 8, "honest/1"), floor, WIDE)
    assert honest.verdict is Verdict.PASS, honest.reason


def test_single_images_that_moved_are_found_and_named(maps):
    """Twelve of 200: on the whole slice they stay below the margins, and they belong to no class."""
    rows = np.arange(200) % 17 == 3
    floor = [maps(blobs(seed, count=200), f"retrain/{seed}") for seed in range(1, 7)]
    candidate = maps(blobs(7, 3.0, rows=rows, count=200), "net/2")
    report = compare(maps(blobs(0, count=200)), candidate, floor, WIDE)
    assert report.verdict is Verdict.DRIFT
    (found,) = report.moved
    assert set(found.samples) == {f"image {row}" for row in np.flatnonzero(rows)}
    assert f"the evidence of {rows.sum()} of 200 images moved further than retrains move any" in report.reason
    honest = compare(maps(blobs(0, count=200)), maps(blobs(7, count=200), "net/2"), floor, WIDE)
    assert honest.verdict is Verdict.PASS
    assert not honest.moved[0].flagged


def test_a_class_flag_is_not_lost_with_a_few_maps(maps):
    """Five of its twenty maps lost: too few images are left to flag it, and that is no pass. The reference lacks three
    maps elsewhere, so that the candidate does not lose more than chance allows; what the reference lacks hides nothing.
    """
    floor = [of_classes(maps, seed, f"retrain/{seed}") for seed in range(1, 7)]
    reference = of_classes(maps, 0, "net/1", lost=(0, 1, 2))
    policy = replace(WIDE, moved_margin=1.0)  # else its other fifteen images are flagged
    report = compare(reference, of_classes(maps, 8, "cheat/1", 3.0, (3, 13, 23, 33, 43)), floor, policy)
    assert report.verdict is Verdict.INCONCLUSIVE
    told = "on class 3 of slice all: the maps that the candidate lost could hide a move"
    assert told in report.reason
    assert {finding.measurement.stratum for finding in report.findings if finding.hides} == {"class 3"}
    honest = compare(reference, of_classes(maps, 8, "honest/1"), floor, WIDE)
    assert honest.verdict is Verdict.PASS, honest.reason


def test_losing_the_maps_of_images_that_moved_is_no_pass(maps):
    """20 of 400 images moved as far as they can; with their maps lost, the rest alone would pass."""
    generator = np.random.default_rng(0)
    reference = np.abs(generator.normal(size=(400, 6, 6))) + np.arange(36).reshape(6, 6)
    candidate = reference.copy()
    candidate[:20] = -candidate[:20]
    lost = candidate.copy()
    lost[:20] = np.nan
    policy = Policy(margins={"rank_distance": 0.06, "coherent_shift": 0.04})
    verdicts = {}
    for name, values in (("kept", candidate), ("lost", lost), ("unmoved", reference)):
        report = compare(maps(reference), maps(values, model=f"net/{name}"), policy=policy)
        verdicts[name] = {f.measurement.statistic: f.verdict for f in report.findings}["rank_distance"]
    assert verdicts == {"kept": Verdict.INCONCLUSIVE, "lost": Verdict.INCONCLUSIVE, "unmoved": Verdict.PASS}


def test_an_interval_that_reached_beyond_the_limit_is_not_cut_by_losing_maps(maps):
    """Four of 80 images moved: their mean stays below the margin and their interval does not. That four images may
    have moved is not the point alone, how often such images turn up is as uncertain as before."""
    reference = np.arange(36.0).reshape(1, 6, 6).repeat(80, axis=0)
    candidate = np.where(np.arange(80)[:, None, None] < 4, -reference, reference)
    policy = Policy(margins={"rank_distance": 0.15, "coherent_shift": 0.15}, undefined_limit=0.05)
    for values in (candidate, holes(candidate, 0, 1, 2, 3)):
        report = compare(maps(reference), maps(values, "net/2"), policy=policy)
        assert report.verdict is Verdict.INCONCLUSIVE, report.reason
    assert compare(maps(reference), maps(reference, "net/2"), policy=policy).verdict is Verdict.PASS


COUNT = 80
KNOWN = np.random.default_rng(5).normal(1, 1, (COUNT, 6, 6))
BOTH = ("gradcam", "lime")


def near(seed, share=0.3):
    return KNOWN + share * np.random.default_rng(seed).normal(size=KNOWN.shape)


def plain(model, seed=None, moved=(), lost=(), explainers=BOTH):
    """A version that differs by noise alone, but for images whose maps are turned into their opposites, or lost."""
    ids = tuple(str(row) for row in range(COUNT))
    facts = {"slice_name": "all", "slice_digest": "s", "model": model, "weights_digest": model}
    found = []
    for place, name in enumerate(explainers):
        values = KNOWN.copy() if seed is None else near(2 * seed + place)
        values[list(moved)] *= -1
        values = holes(values, *lost).astype(np.float32)
        undefined = {ids[row]: "lost" for row in lost}
        found.append(Attributions(name, {"seed": 0}, values, np.arange(COUNT) // 20, ids, **facts, undefined=undefined))
    return VersionMaps(tuple(found))


LOW = Settings(resamples=200)
RETRAINS = [plain(f"retrain/{seed}", seed) for seed in range(1, 7)]
FLOORS = {names: calibrate(plain("a", explainers=names), RETRAINS, LOW) for names in (BOTH[:1], BOTH)}
limits = st.fixed_dictionaries({"rank_distance": st.floats(0.02, 0.6), "coherent_shift": st.floats(0.02, 0.4)})
rows = st.lists(st.integers(0, COUNT - 1), max_size=12, unique=True)
whole_class = st.integers(0, 3).map(lambda number: list(range(20 * number, 20 * number + 20)))


@settings(max_examples=40)
@given(
    seed=st.integers(10, 40),
    moved=rows | whole_class,
    lost=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=4, unique=True),
    lose_moved=st.booleans(),
    margins=limits,
    names=st.sampled_from(list(FLOORS)),
    floored=st.booleans(),
)
def test_losing_maps_never_turns_into_a_pass(seed, moved, lost, lose_moved, margins, names, floored):
    """Whichever images moved and whichever maps are lost: what did not pass with them does not pass without them.

    Not even under a policy a little harder than the one that they passed: limits are read off resamples.
    """
    lost = moved[: len(lost)] if lose_moved and moved else lost
    floor = FLOORS[names] if floored else Calibration()
    milder = Policy(margins={name: 1.05 * margin for name, margin in margins.items()}, alpha=0.045, settings=LOW)
    reference = plain("a", explainers=names)
    whole = compare(reference, plain("b", seed, moved, explainers=names), floor, milder)
    harder = Policy(margins=margins, settings=LOW)
    holed = compare(reference, plain("b", seed, moved, lost, explainers=names), floor, harder)
    if whole.verdict is not Verdict.PASS:
        assert holed.verdict is not Verdict.PASS, (whole.reason, holed.reason)


def test_what_all_see_together_is_not_lost_with_a_few_maps(measurement):
    """Two explainers, each within its own wide limit, together beyond theirs; without four maps they are not."""
    floors = {"gradcam": (0.2, 0.35, 0.22, 0.4, 0.3), "lime": (0.38, 0.2, 0.33, 0.21, 0.27)}

    def report(value, **lost):
        found = [
            measurement(value, 0.001, explainer=name, worst=value + 0.1, **lost | {"n": 100 - lost.get("lost", 0)})
            for name in floors
        ]
        named = [replace(each, floor=NoiseFloor(floors[each.explainer], tuple("abcde"))) for each in found]
        return judge(named, Policy(margins={}))

    assert report(0.5).verdict is Verdict.DRIFT
    assert "of gradcam and lime together" in report(0.5).reason
    just_within = 0.95 * report(0.5).agreements[0].floor.bound(Policy().alpha * Policy().together_share)
    near = report(just_within)
    assert near.verdict is Verdict.PASS, near.reason
    lost = report(just_within, lost=4, undefined=4)
    assert lost.verdict is Verdict.INCONCLUSIVE
    assert "together on slice all: the maps that the candidate lost could hide a move" in lost.reason


def test_explainers_that_cannot_measure_are_left_out_of_the_verdict(maps):
    """LIME's own draws are as large as its floor, Grad-CAM does not notice a random head: nobody is left."""

    def version(seed, model, head=0, draw=0):
        gradcam = maps(blobs(seed), model)
        lime = maps(blobs(seed) + 0.5 * blobs(1000 * draw + seed), model, explainer="lime", parameters={"seed": draw})
        return VersionMaps((gradcam, lime))

    reference, candidate = version(0, "net/1"), version(7, "net/2")
    floor = [version(seed, f"retrain/{seed}") for seed in range(1, 7)]
    blind = VersionMaps((maps(blobs(0) + 1e-6, "net/1 randomised"), maps(blobs(50, 3.0), "r", explainer="lime")))
    far = VersionMaps((maps(blobs(50, 3.0), "r"), maps(blobs(50, 3.0), "r", explainer="lime", parameters={"seed": 0})))

    def report(head, again=None):
        known = calibrate(reference, floor, FAST, rehearsal=Rehearsal(head, again))
        return compare(reference, candidate, known, Policy(settings=FAST))

    assert report(far).verdict is Verdict.PASS
    assert not any(finding.unfit for finding in report(far).findings)
    blinded = report(VersionMaps((blind.maps[0], far.maps[1])))
    assert {finding.measurement.explainer for finding in blinded.findings if finding.unfit} == {"gradcam"}
    assert blinded.verdict is Verdict.PASS
    assert "every explainer that can measure it" in blinded.reason
    assert blinded.hypotheses == report(far).hypotheses / 2
    noise = np.random.default_rng(1).normal(size=(64, 14, 14))
    redrawn = tuple(
        VersionMaps((maps(values, "again", explainer="lime", parameters={"seed": 9}),)) for values in (blobs(0), noise)
    )
    nobody = report(VersionMaps((blind.maps[0], far.maps[1])), redrawn)
    assert nobody.verdict is Verdict.INCONCLUSIVE
    assert "no explainer can measure here" in nobody.reason


def test_measurements_can_be_judged_again_under_another_policy(measurement):
    found = [
        measurement(0.2, 0.01, (0.1, 0.11, 0.1, 0.12)),
        measurement(0.2, 0.01, (0.1, 0.11, 0.1, 0.12), primary=False),
    ]
    assert judge(found, Policy(margins={})).verdict is Verdict.DRIFT
    assert judge(found, Policy(margins={"rank_distance": 0.3})).verdict is Verdict.PASS


LABELS = np.arange(64) % 4


def deciding(maps, turn, share=0.05, corner=0.0):
    """A version that decides a ``share`` of its images by the throw of a die."""
    generator = np.random.default_rng(1000 + turn)
    predictions = np.where(generator.uniform(size=64) < share, generator.integers(0, 4, 64), LABELS)
    known = Decisions(predictions, LABELS, np.full(64, 0.9))
    return VersionMaps((maps(blobs(turn, corner), f"net/{turn}"),), decisions={"all": known})


def test_pass_is_about_decisions_too(maps):
    """Same evidence; the decisions are a retrain's, or those of a model that lost half of them."""
    champion, *retrains = (deciding(maps, turn) for turn in range(7))
    honest = compare(champion, deciding(maps, 7), retrains, Policy(settings=FAST))
    assert honest.verdict is Verdict.PASS, honest.reason
    assert honest.reason.endswith("its decisions stayed within theirs")
    assert [each.measurement.statistic for each in honest.decisions if each.measurement.stratum == "all"] == [
        "accuracy_loss",
        "calibration_error",
        "churn",
    ]
    for floor in (retrains, retrains[:3], ()):
        lost = compare(champion, deciding(maps, 8, share=0.8), floor, Policy(settings=FAST))
        assert lost.verdict is Verdict.DRIFT, lost.reason
        assert "its decisions moved: on slice all accuracy fell from" in lost.reason


def test_the_share_of_decisions_is_theirs_alone(maps, floor):
    """Without decisions evidence has all of alpha, as before there were any."""
    champion, *retrains = (deciding(maps, turn) for turn in range(7))
    policy = Policy(settings=FAST)
    known = compare(champion, deciding(maps, 7), retrains, policy)
    bare = compare(champion.maps, deciding(maps, 7).maps, [each.maps for each in retrains], policy)
    assert known.level == pytest.approx(bare.level * (1 - policy.decision_share))
    assert bare.decisions == ()
    assert known.moved[0].level == pytest.approx(bare.moved[0].level * (1 - policy.decision_share))


def test_without_labels_churn_alone_is_asked(maps):
    champion, *retrains = (deciding(maps, turn) for turn in range(7))

    def unlabelled(version):
        return VersionMaps(version.maps, decisions={"all": Decisions(version.decisions["all"].predictions)})

    found = compare(
        unlabelled(champion), unlabelled(deciding(maps, 8, share=1.0)), [unlabelled(each) for each in retrains]
    )
    whole = [each for each in found.decisions if each.measurement.stratum == "all"]
    assert [(each.measurement.statistic, each.verdict) for each in whole] == [("churn", Verdict.DRIFT)]
    assert "of the predictions changed" in found.reason
