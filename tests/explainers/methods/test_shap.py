"""Kernel SHAP against the definition of Shapley values and against the shap library."""

import itertools
import math

import numpy as np
import pytest
import shap
import torch
from torch import nn

from attrail_explainers.baselines import baseline_of
from attrail_explainers.errors import ExplanationError
from attrail_explainers.explanation import explain
from attrail_explainers.methods.shap import KernelShap, regressed
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.coalitions import draw_coalitions
from attrail_explainers.superpixels.evaluations import Evaluations, Perturbation, evaluate
from attrail_explainers.superpixels.segmentation import Segmentation
from attrail_explainers.tasks.single_label import SingleLabel

TARGET = 1
CAT = 2
SEGMENTS = 12  # SLIC finds nine in the cat
PERTURBATION = Perturbation(Segmentation(SEGMENTS), "blur", 2**10)


class Double(nn.Module):
    """The net in double precision, so that only the formulas can differ."""

    def __init__(self, net):
        super().__init__()
        self.net = net.double()

    def forward(self, images):
        return self.net(images.double())


@pytest.fixture
def classifier(small_net):
    return Classifier("net", "1", Double(small_net()))


@pytest.fixture
def picture(pictures):
    return torch.from_numpy(pictures[CAT])


@pytest.fixture
def evaluations(classifier, picture):
    found = evaluate(
        classifier.working_copy(picture[None]), picture, SingleLabel.of([TARGET]), "picture", 0, PERTURBATION
    )
    assert found.segments.max() >= 6
    assert len(found.log_odds) == 2 ** (found.segments.max() + 1) - 2
    return found


@pytest.fixture
def log_odds(classifier, picture, evaluations):
    """The masked log odds as a function of 0/1 rows, written anew from the definition log p/(1-p)."""
    baseline = baseline_of(picture, "blur").numpy()

    def function(rows):
        keep = rows.astype(bool)[:, evaluations.segments][:, None]
        images = torch.from_numpy(np.where(keep, picture.numpy(), baseline))
        with torch.no_grad():
            probability = torch.softmax(classifier.module.eval()(images), dim=1)[:, TARGET].numpy()
        return np.log(probability / (1 - probability))

    return function


def by_definition(function, count):
    """Shapley (1953): every superpixel's mean marginal contribution over all coalitions of the others."""
    rows = np.array(list(itertools.product([0, 1], repeat=count)))
    worth = dict(zip(map(tuple, rows), function(rows), strict=True))
    values = np.zeros(count)
    for player in range(count):
        for row in rows[rows[:, player] == 0]:
            size = int(row.sum())
            share = math.factorial(size) * math.factorial(count - size - 1) / math.factorial(count)
            joined = tuple(np.where(np.arange(count) == player, 1, row))
            values[player] += share * (worth[joined] - worth[tuple(row)])
    return values


def test_equals_the_definition(evaluations, log_odds):
    count = int(evaluations.segments.max()) + 1
    expected = by_definition(log_odds, count)
    assert np.abs(expected).max() > 0.05
    assert regressed(evaluations) == pytest.approx(expected, abs=1e-6)


def test_equals_shap_kernel_explainer(evaluations, log_odds):
    count = int(evaluations.segments.max()) + 1
    explainer = shap.KernelExplainer(log_odds, np.zeros((1, count)), link="identity")
    expected = explainer.shap_values(np.ones(count), nsamples=2**count, l1_reg=False, silent=True)
    assert regressed(evaluations) == pytest.approx(expected, abs=1e-6)


def test_map_spreads_each_value_over_its_superpixel(classifier, picture, evaluations):
    subject = Subject(classifier.working_copy(picture[None]), picture[None], SingleLabel.of([TARGET]), ("picture",), 0)
    maps = KernelShap(segments=SEGMENTS, evaluations=2**10).attribute(subject)
    expected = regressed(evaluations)
    for segment, value in enumerate(expected):
        inside = maps.values[0][evaluations.segments == segment].astype(np.float64)
        assert inside.sum() == pytest.approx(value, abs=1e-6)
        assert len(set(inside)) == 1


@pytest.mark.parametrize("budget", [33, 64, 256, 5000])
@pytest.mark.parametrize("baseline", ["blur", "mean", "zero"])
def test_completeness_at_any_budget(classifier, pictures, budget, baseline):
    """A map sums to log odds of the image minus log odds of its baseline."""
    images, settings = pictures[[0, CAT]], {"segments": SEGMENTS, "evaluations": budget, "baseline": baseline}
    found = explain(classifier.module, images, [0, 3], "shap", **settings)
    for row, target in enumerate([0, 3]):
        image = torch.from_numpy(images[row])
        both = torch.stack([image, baseline_of(image, baseline)])
        with torch.no_grad():
            probability = torch.softmax(classifier.module.eval()(both), dim=1)[:, target].numpy()
        whole, bare = np.log(probability / (1 - probability))
        assert found.values[row].sum(dtype=np.float64) == pytest.approx(whole - bare, abs=1e-5)
        assert abs(found.diagnostics["completeness_residual"][row]) < 1e-5


PLAYERS = 10
WEIGHTS = np.random.default_rng(0).normal(size=PLAYERS)


def game(rows):
    """Ten players with pairs and a triple that act together: no linear model fits it."""
    rows = np.asarray(rows, dtype=float)
    pairs = (rows[:, :-1] * rows[:, 1:]) @ WEIGHTS[:-1] * 2
    return rows @ WEIGHTS + pairs + 3 * rows[:, 0] * rows[:, 4] * (1 - rows[:, 7])


def sampled(budget, seed):
    coalitions = draw_coalitions(PLAYERS, budget, np.random.default_rng(seed))
    ends = game([np.ones(PLAYERS), np.zeros(PLAYERS)])
    segments = np.arange(PLAYERS)[None]
    return regressed(Evaluations(segments, coalitions, game(coalitions.present), *ends))


def test_sampled_values_approach_the_exact_ones():
    """The root mean square error over 40 seeds falls by about half with four times the budget: at least by a third."""
    expected = by_definition(game, PLAYERS)
    error = {
        budget: np.sqrt(np.mean([(sampled(budget, seed) - expected) ** 2 for seed in range(40)]))
        for budget in (60, 240, 960)
    }
    assert error[240] < error[60] * 2 / 3
    assert error[960] < error[240] * 2 / 3
    assert error[960] < 0.05 * np.abs(expected).max()
    assert sampled(2**PLAYERS, 0) == pytest.approx(expected, abs=1e-9)


def test_sampled_values_are_not_biased():
    """The mean over 200 seeds lies within 4 standard errors of the exact values in every superpixel."""
    expected = by_definition(game, PLAYERS)
    values = np.array([sampled(200, seed) for seed in range(200)])
    errors = values.std(axis=0, ddof=1) / np.sqrt(len(values))
    assert errors.max() < 0.02 * np.abs(expected).max()
    assert (np.abs(values.mean(axis=0) - expected) < 4 * errors + 1e-12).all()


@pytest.mark.parametrize(
    ("estimator", "reason"),
    [
        ("regression", "6 evaluations do not determine the values of"),
        ("emulator", "8 evaluations are too few to tell"),
    ],
)
def test_too_few_evaluations_are_undefined(classifier, pictures, estimator, reason):
    images = torch.from_numpy(pictures[:1])
    subject = Subject(classifier.working_copy(images), images, SingleLabel.of([TARGET]), ("picture",), 0)
    maps = KernelShap(segments=30, evaluations=8, estimator=estimator).attribute(subject)
    assert np.isnan(maps.values).all()
    assert reason in maps.undefined[0]
    with pytest.raises(ExplanationError, match=reason):
        explain(classifier.module, pictures[:1], [TARGET], "shap", segments=30, evaluations=8, estimator=estimator)


def test_image_without_parts_is_undefined(classifier, pictures):
    maps = explain(classifier.module, pictures[:2], [0, 0], "shap", segments=SEGMENTS)
    assert not maps.undefined
    subject = Subject(
        classifier.working_copy(pictures), torch.from_numpy(pictures[:1]), SingleLabel.of([0]), ("picture",), 0
    )
    assert KernelShap(segments=1).attribute(subject).undefined == {0: "fewer than two superpixels"}
