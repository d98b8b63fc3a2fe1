"""Partition SHAP against the definition of Owen values and against the shap library."""

import itertools

import numpy as np
import pytest
import shap
import torch
from scipy.cluster.hierarchy import linkage

from attrail_explainers.baselines import baseline_of
from attrail_explainers.explanation import explain
from attrail_explainers.methods.partition_shap import SPLITS, Tree, owen_values, tree_of
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.games import Answers, Game, games_of
from attrail_explainers.superpixels.segmentation import Segmentation
from attrail_explainers.tasks.single_label import SingleLabel

CAT = 2
WEIGHTS = np.random.default_rng(0).normal(size=24)


def joins_of(players):
    return linkage(np.random.default_rng(players).normal(size=(players, 3)), method="ward")


def additive(rows):
    return 3 + np.asarray(rows, dtype=float) @ WEIGHTS[: np.shape(rows)[1]]


def involved(rows):
    """Pairs and a triple act together: no linear model fits it."""
    rows = np.asarray(rows, dtype=float)
    pairs = (rows[:, :-1] * rows[:, 1:]) @ WEIGHTS[: rows.shape[1] - 1] * 2
    return additive(rows) + pairs + 3 * rows[:, 0] * rows[:, 4] * (1 - rows[:, 3])


def asked(strategy, game):
    """The strategy's result when the game answers, and how many rows it asked about."""
    rows, count = next(strategy), 0
    while True:
        count += len(rows)
        try:
            rows = strategy.send(Answers(game(rows), np.zeros(len(rows), dtype=np.int64)))
        except StopIteration as end:
            return end.value, count


def by_definition(game, tree):
    """Owen (1977): the mean marginal contribution over all orders that keep every group of the tree together."""

    def orders(node):
        if node < tree.players:
            return [[node]]
        left, right = (orders(child) for child in tree.children[node - tree.players])
        pairs = list(itertools.product(left, right))
        return [first + second for first, second in pairs] + [second + first for first, second in pairs]

    values, every = np.zeros(tree.players), orders(tree.root)
    for order in every:
        rows = np.zeros((tree.players + 1, tree.players))
        for place, player in enumerate(order):
            rows[place + 1 :, player] = 1
        values[order] += np.diff(game(rows)) / len(every)
    return values


@pytest.mark.parametrize("players", [2, 5, 7])
def test_equals_the_definition(players):
    game = involved if players >= 5 else additive
    tree = Tree.of(joins_of(players), players)
    (values, total), _ = asked(owen_values(tree, 10**6), game)
    assert values == pytest.approx(by_definition(game, tree), abs=1e-9)
    assert values.sum() == pytest.approx(total, abs=1e-9)


class Masker:
    """What shap needs to know: rows of 0/1 are passed on as they are."""

    def __init__(self, players):
        self.shape = (1, players)
        self.clustering = joins_of(players)

    def __call__(self, mask, row):
        return mask[None].astype(float)


@pytest.mark.parametrize("budget", [10, 42, 90, 300, 10**5])
@pytest.mark.parametrize("players", [8, 24])
def test_equals_shap_partition_explainer(players, budget):
    """Also where the evaluations do not suffice to split every group."""
    explainer = shap.PartitionExplainer(involved, Masker(players))
    settings = {"max_evals": budget, "batch_size": 2 * SPLITS, "silent": True}
    expected = explainer(np.ones((1, players)), **settings).values[0]
    (values, _), count = asked(owen_values(Tree.of(joins_of(players), players), budget), involved)
    assert np.abs(expected).max() > 1
    assert values == pytest.approx(expected, abs=1e-9)
    assert count <= budget


@pytest.mark.parametrize("players", [2, 7, 24])
def test_additive_games_have_their_shapley_values(players):
    """The Owen value of an additive game is each player's own weight, whatever the tree."""
    (values, _), _ = asked(owen_values(Tree.of(joins_of(players), players), 10**6), additive)
    assert values == pytest.approx(WEIGHTS[:players], abs=1e-9)


@pytest.mark.parametrize("budget", [4, 5, 17, 64, 100])
def test_budget_is_kept_and_nothing_gets_lost(budget):
    (values, total), count = asked(owen_values(Tree.of(joins_of(24), 24), budget), involved)
    assert budget - 1 <= count <= budget
    assert total == pytest.approx(float(np.diff(involved([[0] * 24, [1] * 24]))[0]))
    assert values.sum() == pytest.approx(total, abs=1e-9)


def test_no_global_random_numbers_are_drawn(small_net, pictures):
    np.random.seed(7)
    before = np.random.get_state()[1].tolist()
    explain(small_net(), pictures[:2], [0, 1], "partition_shap", segments=12, evaluations=40)
    assert np.random.get_state()[1].tolist() == before


def test_ties_are_broken_the_same_way_every_time():
    """All groups of one size contribute the same: only their turn can tell them apart."""
    tree, results = Tree.of(joins_of(24), 24), set()
    for seed in range(5):
        np.random.seed(seed)
        (values, _), _ = asked(owen_values(tree, 60), lambda rows: np.sqrt(rows.sum(axis=1)))
        results.add(values.tobytes())
    assert len(results) == 1


def test_tree_joins_what_is_near_and_alike():
    """Two colours side by side, four squares each: the two colours are the last to be joined."""
    image = torch.zeros(3, 40, 80)
    image[0, :, :40], image[2, :, 40:] = 1, 1
    segments = np.arange(40)[:, None] // 20 * 4 + np.arange(80)[None] // 20
    tree = tree_of(Game("picture", image, image, segments, 0))
    halves = {tuple(np.flatnonzero(row)) for row in tree.members[tree.children[-1]]}
    assert halves == {(0, 1, 4, 5), (2, 3, 6, 7)}
    assert tree.members[tree.root].all()


def test_map_is_spread_and_complete(small_net, pictures):
    """The map sums to log odds of the image minus log odds of its baseline; pixels of a superpixel are alike."""
    net = small_net().double()
    classifier = Classifier("net", "1", torch.nn.Sequential(Doubled(), net))
    images = torch.from_numpy(pictures[[CAT, 0]])
    subject = Subject(classifier.working_copy(images), images, SingleLabel.of([3, 1]), ("a", "b"), 0)
    found = explain(classifier.module, images, [3, 1], "partition_shap", segments=12, baseline="mean", evaluations=50)
    for row, game in enumerate(games_of(subject, Segmentation(12), "mean")):
        both = torch.stack([game.image, baseline_of(game.image, "mean")])
        with torch.no_grad():
            probability = torch.softmax(classifier.module.eval()(both), dim=1)[:, int(game.target.classes[0])].numpy()
        whole, bare = np.log(probability / (1 - probability))
        assert found.values[row].sum(dtype=np.float64) == pytest.approx(whole - bare, abs=1e-5)
        assert abs(found.diagnostics["completeness_residual"][row]) < 1e-5
        assert found.diagnostics["segments"][row] == game.players > 5
        for player in range(game.players):
            assert len(set(found.values[row][game.segments == player])) == 1


class Doubled(torch.nn.Module):
    def forward(self, images):
        return images.double()


def test_image_without_parts_is_undefined(small_net, pictures):
    images = torch.from_numpy(pictures[:1])
    subject = Subject(Classifier("net", "1", small_net()).working_copy(images), images, SingleLabel.of([0]), ("a",), 0)
    from attrail_explainers.methods.partition_shap import PartitionShap

    maps = PartitionShap(segments=1).attribute(subject)
    assert maps.undefined == {0: "fewer than two superpixels"}
    assert np.isnan(maps.values).all()
