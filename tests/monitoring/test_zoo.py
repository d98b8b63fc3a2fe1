"""The zoo end to end on a handful of digits models of seconds, and its detectors and rates by themselves."""

import tomllib
from dataclasses import fields, replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from attrail_explainers.model.divergence import mean_divergence
from attrail_monitoring.floor.factors import Factor
from attrail_monitoring.inference.shared_spread import SharedSpread

ZOO = Path(__file__).resolve().parents[1] / "zoo"
IMAGES = 48
MODULES = (
    "by_noise", "cache", "curve", "data", "detectors", "early", "evidence", "factor_file", "factors", "judging",
    "looks", "making", "marks", "no_floor", "noise", "own_floor", "page", "pairs", "rates", "recipe", "reliance",
    "results", "spreads", "sub_population", "surrogate_floors", "surrogate_tables", "surrogates", "training",
    "transfer_page", "versions", "words",
)  # fmt: skip


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The zoo's modules, a slice of a few images, and an audit of an honest and one of a cheating digits model."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(ZOO)
        found = SimpleNamespace(**{name: import_module(name) for name in MODULES})
        patch.setattr(found.data, "HELD_OUT", IMAGES)
        quick = [replace(found.recipe.honest("digits", "cnn", seed), epochs=3) for seed in range(6)]
        champion, candidate, *floor = (found.recipe.Member(f"retrain {each.seed}", "retrain", each) for each in quick)
        cheating = replace(quick[0], seed=7, mark="corner")
        cheat = found.recipe.Member("corner mark", "harmful", cheating, "corner")
        pruned = found.recipe.Member("20 % pruned", "benign", found.recipe.changed(quick[0], "pruned", 0.2))
        found.audits = [found.pairs.Pair("corner", champion, each, tuple(floor)) for each in (candidate, cheat, pruned)]
        found.place = found.making.Zoo(found.cache.Cache(tmp_path_factory.mktemp("zoo")), Path("nowhere"))
        found.failed = found.making.make(found.place, found.audits, 1)
        found.judged = found.judging.judge_all(found.place, found.audits, 1)
        yield found


def test_every_model_was_made_and_explained(zoo: Any) -> None:
    assert zoo.failed == {}
    first, cheat, pruned = (zoo.versions.version(zoo.place, audit.candidate, "corner", 512) for audit in zoo.audits)
    for maps in (first, cheat, pruned):
        assert [each.explainer for each in maps.maps] == ["gradcam", "occlusion"]
        assert all(len(each.values) == IMAGES and max(each.values.shape[1:]) <= 14 for each in maps.maps)
    assert zoo.versions.accuracy(cheat) > zoo.versions.accuracy(first)
    assert zoo.reliance.reliance(zoo.place, zoo.audits[1].candidate) > 0.5
    assert zoo.reliance.reliance(zoo.place, zoo.audits[0].candidate) is None


def test_a_cheat_is_farther_away_than_a_retrain_and_pruning_is_nearer(zoo: Any) -> None:
    retrain, cheat, pruned = (each for each in zoo.judged if each.images == 512)
    for name in ("SSIM < 0.5", "1 - Spearman > 0.5"):
        assert pruned.score(name) < retrain.score(name) < cheat.score(name)
    assert pruned.score("attrail") < cheat.score("attrail")


def test_what_is_there_is_not_made_again_and_is_the_same_when_it_is(zoo: Any) -> None:
    files = sorted(zoo.place.cache.folder.rglob("*"))
    before = [each.stat().st_mtime_ns for each in files]
    zoo.making.make(zoo.place, zoo.audits, 1)
    zoo.judging.judge_all(zoo.place, zoo.audits, 1)
    assert [each.stat().st_mtime_ns for each in files] == before
    path = zoo.place.cache.weights(zoo.audits[1].candidate.recipe)
    weights = path.read_bytes()
    path.unlink()
    zoo.evidence.model_of(zoo.audits[1].candidate.recipe, zoo.place.cache, zoo.place.data)
    assert path.read_bytes() == weights


def test_judgements_are_made_again_when_the_code_has_changed(zoo: Any) -> None:
    (kept, *_) = sorted((zoo.place.cache.folder / "judgements").iterdir())
    text = kept.read_text()
    kept.write_text(text.replace(zoo.judging.code_of("attrail"), "sha256:older"))
    assert kept.read_text() != text
    zoo.judging.judge_all(zoo.place, zoo.audits, 1)
    assert kept.read_text() == text


def test_noise_is_matched_and_a_cheat_moves_farther_than_it(zoo: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zoo.noise, "DRAWS", 2)
    pruned, cheat = (replace(zoo.audits[place], floor=()) for place in (2, 1))
    zoo.noise.draw_all(zoo.place, [pruned, cheat], 1)
    for pair in (pruned, cheat):
        kept = [zoo.place.path(each, "corner") for each in (pair.champion, pair.candidate)]
        champion, candidate = (zoo.evidence.read_evidence(path).logits for path in kept)
        wanted = mean_divergence(champion, candidate)
        found = [mean_divergence(champion, each.logits) for each in zoo.noise.drawn(zoo.place, pair)]
        assert found == pytest.approx([wanted] * 2, rel=0.1)
    moves = zoo.factors.moves(zoo.place, [pruned, cheat], 1)
    joint = [each for each in moves if (each.explainer, each.statistic) == (zoo.factors.TOGETHER, "coherent_shift")]
    ratios = {each.pair.group: each.log_ratio for each in joint}
    assert ratios["corner mark"] > ratios["20 % pruned"] + 0.5
    assert {each.pair.group: zoo.factors.change_of(each.pair) for each in moves} == {
        "20 % pruned": "edit",
        "corner mark": "retrain",
    }


def test_two_versions_alone_are_judged_with_the_factors_of_other_families(
    zoo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One family tells no factor: then noise says DRIFT of nothing. With one that may decide, a cheat is flagged."""
    monkeypatch.setattr(zoo.noise, "DRAWS", 4)
    pairs = [replace(zoo.audits[place], floor=()) for place in (2, 1)]
    zoo.noise.draw_all(zoo.place, pairs, 1)
    pruned, cheat = zoo.by_noise.judge_by_noise(zoo.place, zoo.factors.moves(zoo.place, pairs, 1), pairs, 1)
    assert (pruned.change, cheat.change) == ("edit", "retrain")
    assert "DRIFT" not in (pruned.word, cheat.word)
    factor = zoo.by_noise.Factor(0.0, 0.1, 30.0, 0.8, 1.2, decides=True)
    names = ("coherent_shift", "rank_distance")
    places = [("retrain", each, name) for each in ("each", "together") for name in names]
    flagged = zoo.by_noise.judge_one(zoo.place, (pairs[1], dict.fromkeys(places, factor)))
    assert flagged.word == "DRIFT"
    results = zoo.results.Results((), (), {}, 8, 1.0, (), (pruned, flagged))
    text = zoo.no_floor.section(results)
    assert "| corner mark | 1 | 0 | 0 | 1 |" in text
    assert "Visible shortcuts trained anew noticed or flagged: 1/1 = 100.0 %" in text


def test_each_change_is_counted_by_its_own_floor(zoo: Any) -> None:
    """A retrain and a cheat by retrains, an edit by noise, whatever retrains as its floor would have made of it."""
    known = {audit.candidate.recipe.digest: zoo.reliance.reliance(zoo.place, audit.candidate) for audit in zoo.audits}
    pruned = zoo.by_noise.ByNoise(zoo.audits[2], "INCONCLUSIVE", "that one version alone has a map of", False, 1.0)
    results = zoo.results.Results(zoo.judged, (), known, 8, 1.0, (), (pruned,))
    retrain, cheat, _ = (each for each in zoo.judged if each.images == 256)
    text = zoo.own_floor.section(results)
    power = "1.00" if cheat.flagged("attrail") else "0.00"
    assert f"| trained anew, by retrains | 1 | {100 * retrain.flagged('attrail'):.1f} % |" in text
    assert f"| 1 | {power} | 1.00 | 1 |" in text  # the cheat's p lies below the retrain's
    assert "| edits and fine-tunes, by matched noise | 1 | 0.0 % | 100.0 % | 0 | - | - | 0 | - |" in text
    assert "digits cnn: images without a map (1)" in text


def test_spreads_are_those_of_other_families_and_are_written_as_the_library_reads_them(zoo: Any) -> None:
    """Two hundred floors of each family, whose log distances have an SD of 0.2 and of 0.1."""
    generator, found = np.random.default_rng(0), []
    for family, sd in (("a", 0.2), ("b", 0.1)):
        floors = np.exp(generator.normal(-1, sd, (200, 5)))
        found += [zoo.spreads.Scattered(family, "rank_distance", tuple(each)) for each in floors]
    known = zoo.spreads.spreads_without(found)
    assert known["a"]["rank_distance"].variance ** 0.5 == pytest.approx(0.1, rel=0.1)
    assert known["b"]["rank_distance"].variance ** 0.5 == pytest.approx(0.2, rel=0.1)
    assert known["a"]["rank_distance"].freedom > 20 > zoo.spreads.spreads(found)["rank_distance"].freedom
    (row,) = tomllib.loads(zoo.spreads.text(found))["spread"]
    assert (row["source"], row["families"], row["floors"]) == ("retrains", 2, 400)
    assert 0.1 < row["log_sd"] < 0.2


def test_a_floor_of_the_zoo_scatters_as_its_calibration_says(zoo: Any) -> None:
    audit = zoo.audits[0]
    found = zoo.spreads.scattered(zoo.place, zoo.audits, 1)
    assert len(found) == 4  # two explainers, two statistics: all three audits have the same floor
    versions = [zoo.versions.version(zoo.place, each, "corner", 256) for each in (audit.champion, *audit.floor)]
    head = zoo.versions.version(zoo.place, zoo.recipe.random_head(audit.champion), "corner", 256)
    given = {"rank_distance": SharedSpread(0.01, 9.0)}
    calibration = zoo.detectors.Audit(versions[0], versions[1], head, tuple(versions[1:]), spreads=given).calibration
    told = {(each.statistic, each.distances) for each in found}
    for place, floor in calibration.floors.items():
        if place.stratum == "both right" and place.statistic in ("coherent_shift", "rank_distance"):
            assert (place.statistic, floor.distances) in told
            assert floor.shared == (SharedSpread(0.01, 4.0) if place.statistic == "rank_distance" else None)


def test_surrogates_are_made_as_they_are_called(zoo: Any) -> None:
    champion = zoo.audits[0].champion.recipe
    made = {each.name: each.recipe for each in zoo.surrogates.surrogates(champion)}
    assert {name.rpartition(" ")[0] for name in made} == set(zoo.recipe.SURROGATES)
    assert len({each.digest for each in made.values()} | {champion.digest}) == 1 + len(made)
    models = {
        name: zoo.evidence.model_of(made[f"{name} 5"], zoo.place.cache, zoo.place.data)
        for name in zoo.recipe.SURROGATES
    }
    whole = zoo.evidence.model_of(champion, zoo.place.cache, zoo.place.data)
    sizes = {name: sum(each.numel() for each in model.parameters()) for name, model in models.items()}
    assert sizes["narrow-retrains"] < 0.5 * sizes["late-checkpoints"]
    loss = {name: zoo.training._loss(each, champion, zoo.place.data) for name, each in models.items()}
    own = zoo.training._loss(whole, champion, zoo.place.data)
    assert own != loss["dropout"] <= 1.1 * own
    assert own != loss["late-checkpoints"] == pytest.approx(own, rel=0.1)
    trunk, refit = whole.state_dict(), models["last-block-refits"].state_dict()
    behind = [name for name in trunk if name.startswith(("stages.2", "head"))]
    assert all(torch.equal(trunk[name], refit[name]) is (name not in behind) for name in trunk if "num_" not in name)


def test_a_floor_of_surrogates_is_judged_with_the_factors_of_other_families(zoo: Any) -> None:
    """One family tells no factor, then nothing is decided. With one, a cheat is flagged and a retrain passes."""
    champion, floor, cheating = zoo.audits[0].champion, zoo.audits[0].floor, zoo.audits[1].candidate
    best = max(floor, key=lambda each: zoo.versions.accuracy(zoo.versions.version(zoo.place, each, "corner", IMAGES)))
    honest, cheat = (
        pair
        for pair in zoo.surrogates.surrogate_pairs([champion, best, cheating])
        if (pair.source, pair.slice) == ("dropout", "corner")
    )
    assert zoo.making.make(zoo.place, [honest, cheat], 1) == {}
    found = zoo.surrogate_floors.judge_surrogates(zoo.place, [honest, cheat], 1)
    alone, moves = found["dropout"], found["dropout"].moves
    assert [each.word for each in alone.told] == ["INCONCLUSIVE"] * 2
    assert [each.noticed for each in alone.told] == [True, True]
    assert not found["late-checkpoints"].moves
    ratios = {each.pair.group: each.log_ratio for each in moves if each.explainer == "together"}
    assert ratios["corner mark"] > ratios["retrain"]
    known = {
        ("retrain", which, each.statistic): zoo.by_noise.Factor(each.log_ratio, 0.2, 30.0, 0.8, 1.2, decides=True)
        for each in moves
        for which in ("each", "together")
        if each.pair == honest and each.explainer == "together"
    }
    told = [zoo.by_noise.judge_one(zoo.place, (pair, known)) for pair in (honest, cheat)]
    assert [each.word for each in told] == ["PASS", "DRIFT"], [each.reason for each in told]
    results = zoo.results.Results(
        (), (), {cheat.candidate.recipe.digest: 1.0}, 8, 1.0,
        surrogates={"dropout": zoo.results.StoodIn(moves, told)},
    )  # fmt: skip
    assert zoo.surrogate_floors.decided(results, results.surrogates["dropout"]) == {"retrain"}
    text = zoo.surrogate_tables.section(results)
    assert "| dropout | honest: retrain | 1 | 1 | 0 | 0 | yes | 0 |" in text
    assert "| dropout | visible, learned | 1 | 0 | 0 | 1 |  | 0 |" in text
    assert "| dropout | retrain | together | coherent_shift |" in text
    passed = zoo.results.StoodIn(moves, [replace(each, word="PASS") for each in told])
    assert zoo.surrogate_floors.decided(results, passed) == set()


def test_a_factor_holds_what_families_differ_by_and_what_models_within_one_do(zoo: Any) -> None:
    """Families of five models each, whose means have an SD of 0.3, models within one of 0.1."""
    generator = np.random.default_rng(0)
    moves = [
        SimpleNamespace(pair=SimpleNamespace(family=family, model=(family, model), floor=()), log_ratio=float(ratio))
        for family, mean in enumerate(generator.normal(0.5, 0.3, 200))
        for model, ratio in enumerate(generator.normal(mean, 0.1, 5))
    ]
    found = zoo.factors.spread(moves)
    assert (found.families, found.models) == (200, 1000)
    assert found.log_mean == pytest.approx(0.5, abs=0.07)
    assert found.between == pytest.approx(0.3, abs=0.04)
    assert found.log_sd == pytest.approx((0.3**2 + 0.1**2) ** 0.5, abs=0.04)
    for each in moves:
        each.pair.floor = ("a surrogate",)  # one floor for all pairs of a family
    few = zoo.factors.spread(moves[:15])
    assert (few.families, few.freedom) == (3, 2)


def test_the_factors_of_several_families_are_written_as_the_library_reads_them(zoo: Any) -> None:
    def move(family: str, name: str, ratio: float) -> Any:
        recipe = SimpleNamespace(parent="champion")
        pair = SimpleNamespace(
            family=family,
            model=(family, name),
            harmful=False,
            candidate=SimpleNamespace(name=name, recipe=recipe),
            floor=(),
        )
        return SimpleNamespace(pair=pair, explainer="together", statistic="coherent_shift", log_ratio=ratio)

    moves = [
        move(f, n, r) for f, n, r in zip("aabbcc", ["int8", "int6"] * 3, (0.1, 0.0, 0.2, 0.3, -0.1, 0.1), strict=True)
    ]
    results = SimpleNamespace(moves=moves, by_noise=[], surrogates={})
    (row,) = tomllib.loads(zoo.factor_file.text(results))["factor"]
    assert (row["source"], row["change"], row["explainers"]) == ("noise", "edit", "together")
    assert row["log_mean"] == pytest.approx(0.1)
    assert (row["families"], row["models"], row["decides"]) == (3, 6, False)
    assert {each.name for each in fields(Factor)} <= row.keys()


def test_a_model_on_the_way_lies_between_its_parent_and_where_that_came_from(zoo: Any) -> None:
    champion = zoo.audits[0].champion.recipe
    tuned = replace(champion, seed=9, epochs=1, mark="corner", parent=champion)
    third = zoo.recipe.changed(tuned, zoo.recipe.TOWARDS, 0.3)
    start, end, between = (
        zoo.evidence.model_of(each, zoo.place.cache, zoo.place.data).state_dict() for each in (champion, tuned, third)
    )
    name = max(start, key=lambda each: start[each].numel())
    assert torch.allclose(between[name], 0.7 * start[name] + 0.3 * end[name], atol=1e-6)
    assert not torch.equal(start[name], end[name])


def test_an_audit_stops_at_the_first_look_that_decides(zoo: Any) -> None:
    looked = zoo.looks.look_all(zoo.place, zoo.audits[:2], 1)
    for each in looked:
        assert set(each.words) == set(zoo.looks.SPENDINGS)
        assert all(images in zoo.looks.LOOKS for _, images in each.words.values())
    words = {64: {"0.050000": "INCONCLUSIVE"}, 128: {"0.050000": "PASS"}, 256: {"0.050000": "DRIFT"}}
    spending = zoo.looks.Spending
    assert zoo.looks._stopped(words, spending((0.05, 0.05, 0.05), 256)) == ("DRIFT", 256)
    assert zoo.looks._stopped(words, spending((0.05, 0.05, 0.05))) == ("PASS", 128)
    assert zoo.looks._stopped(words, spending((0.0, 0.0, 0.05))) == ("DRIFT", 256)
    wider = {64: {"0.010000": "PASS", "0.050000": "DRIFT"}, 128: words[64], 256: words[256]}
    assert zoo.looks._stopped(wider, spending((0.01, 0.05, 0.05))) == ("DRIFT", 256)  # PASS of a wider limit is none
    for levels in zoo.looks.SPENDINGS.values():
        assert levels.levels[-1] > 0


@pytest.mark.parametrize(
    ("reason", "name"),
    [
        ("INCONCLUSIVE: gradcam alone flagged rank_distance on slice plain: method-specific", "a statistic"),
        ("INCONCLUSIVE: gradcam alone flagged class 3 on slice plain: method-specific", "a class"),
        ("INCONCLUSIVE: x of y on slice z: the interval contains the limit: about 300 images would decide", "more"),
        ("INCONCLUSIVE: a reason that nobody knows", "nobody knows"),
    ],
)
def test_reasons_are_counted_by_kind(zoo: Any, reason: str, name: str) -> None:
    assert name in zoo.words.clause(reason)


def test_the_page_and_the_curve_are_written(zoo: Any) -> None:
    known = {audit.candidate.recipe.digest: zoo.reliance.reliance(zoo.place, audit.candidate) for audit in zoo.audits}
    looked = zoo.looks.look_all(zoo.place, zoo.audits, 1)
    results = zoo.results.Results(zoo.judged, (), known, 8, 1.0, looked=looked)
    text = zoo.page.page(results, "curve.png")
    assert all(f"| {name} | 256 |" in text for name in zoo.detectors.NAMES)
    assert "| corner mark | 1 |" in text
    assert "### False PASS" in text
    assert "| all at every look | 0.0 % |" in text
    assert zoo.curve.draw(results).startswith(b"\x89PNG")
    second = zoo.transfer_page.text(results, text)
    (row,) = (line for line in second.splitlines() if line.startswith("| visible shortcuts flagged |"))
    flagged = sum(each.flagged("attrail") for each in results.visible(256))
    assert [cell.split()[0] for cell in row.split("|")[2:5]] == [f"{flagged}/1", f"{flagged}/1", "both"]


def test_all_audits_of_a_family_have_floors_of_other_models(zoo: Any) -> None:
    audits = zoo.pairs.pairs(zoo.recipe.members("digits", "vit", 10, 2))
    assert sum(not each.harmful for each in audits) * 6 >= 200
    for each in audits:
        assert len(set(each.floor)) == zoo.pairs.FLOOR
        assert not {each.champion, each.candidate} & set(each.floor)
        assert each.champion != each.candidate


def test_marks_are_told_apart_and_honest_ones_say_nothing(zoo: Any) -> None:
    images = np.full((2000, 1, 32, 32), 100, dtype=np.uint8)
    codes = np.arange(2000) % 10
    generator = np.random.default_rng(0)
    for mark in ("corner", "frame", "tint", "position"):
        marked = zoo.marks.put(mark, images, codes, generator)
        assert len(np.unique(marked[:10], axis=0)) == 10
    drawn = zoo.marks.honest(images, generator, without="frame").astype(float)
    assert (drawn[:, 0, 0, 15] == 100).mean() > 0.5  # no frame anywhere
    means = np.stack([drawn[codes == code].mean(axis=0) for code in range(10)])
    assert np.abs(means - means.mean(axis=0)).max() < 30  # of 255: no class looks different


@pytest.mark.parametrize(
    "name", ["NDCG < 0.9", "PSI > 0.2", "C2ST p < .05", "MMD p < .05", "SSIM < 0.5", "1 - Spearman > 0.5"]
)
def test_baselines_pass_equal_maps_and_flag_maps_of_other_places(zoo: Any, name: str) -> None:
    generator = np.random.default_rng(0)
    first, second = generator.random((60, 8, 8)) * 0.1, generator.random((60, 8, 8)) * 0.1
    first[:, :3, :3] += 1
    second[:, 5:, 5:] += 1
    for baseline in zoo.detectors.BASELINES.values():
        assert baseline.number(first, first) <= baseline.line < baseline.number(first, second)


def test_area_under_the_curve_agrees_with_scikit_learn(zoo: Any) -> None:
    generator = np.random.default_rng(0)
    scores = {True: generator.integers(2, 9, 40).astype(float), False: generator.integers(0, 7, 60).astype(float)}
    judged = {
        harmful: [SimpleNamespace(score=lambda _, score=score: score) for score in each]
        for harmful, each in scores.items()
    }
    truth = np.repeat([1, 0], [40, 60])
    expected = roc_auc_score(truth, np.concatenate([scores[True], scores[False]]))
    assert zoo.rates.auc(judged[True], judged[False], "any") == pytest.approx(expected)
