"""LIME against the lime library's own image explainer."""

import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer
from scipy.special import expit

from attrail_explainers.methods.lime import Lime, fair_coins, surrogate
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.coalitions import Coalitions, draw_coalitions
from attrail_explainers.superpixels.evaluations import Evaluations, Perturbation, evaluate
from attrail_explainers.superpixels.segmentation import Segmentation
from attrail_explainers.superpixels.shared_method import shared_evaluations
from attrail_explainers.tasks.single_label import SingleLabel

TARGET = 1
CAT = 2
SEGMENTS = 12  # SLIC finds nine in the cat


class Recorded(LimeImageExplainer):
    """lime's image explainer from its distances on, over rows and probabilities that were recorded before."""

    def __init__(self, rows, probabilities, kernel_width):
        super().__init__(kernel_width=kernel_width, feature_selection="none", random_state=0)
        self.recorded = rows, probabilities[:, None]

    def data_labels(self, *arguments, **named):
        return self.recorded


def by_lime(evaluations, kernel_width):
    rows = np.vstack([np.ones(evaluations.coalitions.present.shape[1]), evaluations.coalitions.present])
    probabilities = expit(np.append(evaluations.full, evaluations.log_odds))
    image = np.zeros((*evaluations.segments.shape, 3))
    explanation = Recorded(rows, probabilities, kernel_width).explain_instance(
        image,
        None,
        labels=(0,),
        top_labels=None,
        num_features=rows.shape[1],
        segmentation_fn=lambda image: evaluations.segments,
        random_seed=0,
    )
    weights = dict(explanation.local_exp[0])
    return np.array([weights[segment] for segment in range(rows.shape[1])]), explanation.score


def regressed(evaluations, kernel_width):
    coalitions = evaluations.coalitions
    probability = expit(evaluations.log_odds)
    return surrogate(coalitions.present, probability, expit(evaluations.full), coalitions.weight, kernel_width)


@pytest.fixture
def classifier(small_net):
    return Classifier("net", "1", small_net())


@pytest.mark.parametrize("kernel_width", [0.1, 0.25, 2.0])
def test_equals_lime(classifier, pictures, kernel_width):
    image = torch.from_numpy(pictures[CAT])
    evaluations = evaluate(
        classifier.working_copy(image[None]),
        image,
        SingleLabel.of([TARGET]),
        "picture",
        0,
        Perturbation(Segmentation(SEGMENTS), "blur", 2**10),
    )
    assert (evaluations.coalitions.weight == 1).all()
    weights, fit = regressed(evaluations, kernel_width)
    expected, expected_fit = by_lime(evaluations, kernel_width)
    assert np.abs(expected).max() > 1e-3
    assert weights == pytest.approx(expected, abs=1e-8)
    assert fit == pytest.approx(expected_fit, abs=1e-8)


def test_explains_the_probability(classifier, pictures):
    """The log odds that are shared with SHAP turn back into the model's own softmax probabilities."""
    image = torch.from_numpy(pictures[CAT])
    found = evaluate(
        classifier.working_copy(image[None]),
        image,
        SingleLabel.of([TARGET]),
        "picture",
        0,
        Perturbation(Segmentation(SEGMENTS), "blur", 8),
    )
    with torch.no_grad():
        probability = torch.softmax(classifier.module.eval()(image[None].clone()), dim=1)[0, TARGET]
    assert expit(found.full) == pytest.approx(float(probability), rel=1e-5)


def emulated(evaluations, kernel_width):
    present = fair_coins(evaluations.coalitions.present.shape[1])
    probability = expit(evaluations.emulator.predict(present))
    return surrogate(present, probability, expit(evaluations.full), np.ones(len(present)), kernel_width)


@pytest.mark.parametrize(("estimator", "computed"), [("regression", regressed), ("emulator", emulated)])
def test_map_carries_each_weight_over_its_superpixel(classifier, pictures, estimator, computed):
    images = torch.from_numpy(pictures[[CAT]])
    subject = Subject(classifier.working_copy(images), images, SingleLabel.of([TARGET]), ("picture",), 0)
    explainer = Lime(segments=SEGMENTS, evaluations=100, estimator=estimator)
    maps = explainer.attribute(subject)
    evaluations = shared_evaluations(subject, 0, Perturbation(Segmentation(SEGMENTS), "blur", 100))
    weights, fit = computed(evaluations, explainer.kernel_width)
    for segment, weight in enumerate(weights):
        assert (maps.values[0][evaluations.segments == segment] == np.float32(weight)).all()
    assert maps.diagnostics["surrogate_r2"][0] == fit


def test_image_without_parts_is_undefined(classifier, pictures):
    subject = Subject(
        classifier.working_copy(pictures), torch.from_numpy(pictures[:1]), SingleLabel.of([TARGET]), ("picture",), 0
    )
    maps = Lime(segments=1).attribute(subject)
    assert maps.undefined == {0: "fewer than two superpixels"}
    assert np.isnan(maps.values).all()


PLAYERS = 14
WEIGHTS = np.random.default_rng(1).normal(size=PLAYERS)
ROWS = 4000
SEEDS = 30


def game(rows):
    rows = rows.astype(float)
    return rows @ WEIGHTS + 2 * rows[:, 0] * rows[:, 5] - 3 * rows[:, 2] * rows[:, 3] * rows[:, 9]


def evaluated(coalitions):
    ends = game(np.array([np.ones(PLAYERS), np.zeros(PLAYERS)]))
    return Evaluations(np.arange(PLAYERS)[None], coalitions, game(coalitions.present), *ends)


def coins(seed):
    present = np.random.default_rng(seed).integers(0, 2, (ROWS, PLAYERS)).astype(bool)
    present = present[present.any(axis=1) & ~present.all(axis=1)]
    return Coalitions(present, np.ones(len(present)))


def unweighted(coalitions):
    return Coalitions(coalitions.present, np.ones(len(coalitions.present)))


def mean_and_error(draws):
    weights = np.array([regressed(evaluated(draw), 0.25)[0] for draw in draws])
    return weights.mean(axis=0), weights.std(axis=0, ddof=1) / np.sqrt(len(weights))


def test_weighted_rows_stand_for_fair_coins():
    """Rows drawn for SHAP and weighted estimate the surrogate of lime's fair coins.

    Means of 30 independent draws of 4000 rows each are compared, so that the ridge penalty, which depends on the number
    of rows, is the same on both sides. Per superpixel the difference of two such means is normal with the standard
    error measured here; 4.5 of them are exceeded by chance in 14 superpixels about once in 10 000 seeds, and the
    seeds are fixed. The same rows without their weights must fail the same test, or it could see nothing.
    """
    drawn = [draw_coalitions(PLAYERS, ROWS, np.random.default_rng(seed)) for seed in range(SEEDS)]
    expected, expected_error = mean_and_error(coins(1000 + seed) for seed in range(SEEDS))

    def distance(draws):
        mean, error = mean_and_error(draws)
        return (np.abs(mean - expected) / np.hypot(error, expected_error)).max()

    assert expected_error.max() < 0.01 * np.abs(expected).max()
    assert distance(drawn) < 4.5
    assert distance(map(unweighted, drawn)) > 4.5
