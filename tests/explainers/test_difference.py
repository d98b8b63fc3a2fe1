"""SHAP of the difference equals the difference of SHAP, from fewer evaluations; and evaluations stop early."""

import copy

import numpy as np
import pytest
import torch

from attrail_explainers.difference import explain_difference
from attrail_explainers.errors import ConfigError, IncomparableError, SliceError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain, explain_slice, given_subjects
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import make_task
from attrail_explainers.superpixels.evaluations import Perturbation, Perturbed, evaluate
from attrail_explainers.superpixels.segmentation import Segmentation
from attrail_explainers.tasks.single_label import SingleLabel

TARGETS = [0, 1, 2, 3, 4, 0]


def budget(segments, evaluations, tolerance=None):
    return Perturbation(Segmentation(segments), "blur", evaluations, tolerance)


def nudged(net, share=0.02):
    """A close version: every weight of the last convolution moved a little."""
    second = copy.deepcopy(net)
    with torch.no_grad():
        generator = torch.Generator().manual_seed(5)
        weight = second.features[3].weight
        weight += share * weight.std() * torch.randn(weight.shape, generator=generator)
    return second


def test_equals_the_difference_of_exact_values(small_net, pictures):
    """With few superpixels all coalitions are evaluated, and SHAP is exact."""
    net = small_net()
    second = nudged(net, 0.5)
    settings = {"segments": 12, "evaluations": 4000, "estimator": "regression"}
    first, other = (explain(each, pictures[2:4], [1, 3], "shap", **settings).values for each in (net, second))
    found = explain_difference(net, second, pictures[2:4], [1, 3], perturbation=budget(12, 4000))
    assert found.values == pytest.approx(other - first, abs=0.02 * float(np.abs(other - first).max()))
    assert (found.evaluations <= 4000).all()


def test_close_versions_need_fewer_evaluations(small_net, pictures):
    net = small_net()
    second = nudged(net)
    together = explain_difference(net, second, pictures, TARGETS, perturbation=budget(40, 1000, 0.2))
    same = explain_difference(net, second, pictures, TARGETS, perturbation=budget(40, 1000, 0.2))
    assert together.values.tobytes() == same.values.tobytes()
    assert together.evaluations.max() < 1000
    full = explain_difference(net, second, pictures, TARGETS, perturbation=budget(40, 1000))
    assert (full.evaluations >= 999).all()
    error = np.abs(together.values - full.values)
    assert (error <= 4 * together.deviations + 4 * full.deviations).mean() > 0.98
    assert np.sqrt((error**2).mean()) < 0.3 * full.values.std()


def test_stops_earlier_with_a_wider_tolerance(small_net, pictures):
    model = Classifier("net", "1", small_net()).working_copy(pictures)
    image = torch.from_numpy(pictures[2])

    def spent(tolerance):
        perturbation = Perturbation(Segmentation(60), "blur", 700, tolerance)
        return len(evaluate(model, image, SingleLabel.of([1]), "a", 0, perturbation).log_odds) + 2

    assert spent(0.99) == 128
    assert spent(0.5) <= spent(0.1) <= spent(0.001) == spent(None) == 700


def test_stopping_early_takes_the_first_of_the_same_coalitions(small_net, pictures):
    model = Classifier("net", "1", small_net()).working_copy(pictures)
    image = torch.from_numpy(pictures[2])
    early, full = (
        evaluate(model, image, SingleLabel.of([1]), "a", 0, Perturbation(Segmentation(60), "blur", 700, tolerance))
        for tolerance in (0.99, None)
    )
    count = len(early.log_odds)
    assert count < len(full.log_odds)
    assert (early.coalitions.present == full.coalitions.present[:count]).all()
    assert early.log_odds == pytest.approx(full.log_odds[:count], abs=1e-6)
    assert early.coalitions.weight.shape == (count,)


def test_together_is_each_alone(small_net, pictures):
    models = [Classifier("net", str(seed), small_net(seed)).working_copy(pictures) for seed in (1, 2)]
    image, perturbation = torch.from_numpy(pictures[0]), Perturbation(Segmentation(20), "blur", 60)
    together = Perturbed(models, image, SingleLabel.of([0]), "a", 0, perturbation).evaluations()
    for model, found in zip(models, together, strict=True):
        alone = evaluate(model, image, SingleLabel.of([0]), "a", 0, perturbation)
        assert found.log_odds.tobytes() == alone.log_odds.tobytes()


def test_bfloat16_is_near_float32(small_net, pictures):
    exact, short = (
        explain(small_net(), pictures, TARGETS, "shap", evaluations=100, precision=precision).values
        for precision in ("float32", "bfloat16")
    )
    assert exact.tobytes() != short.tobytes()
    assert np.sqrt(((exact - short) ** 2).mean()) < 0.2 * exact.std()


def test_bad_input_is_named(small_net, pictures):
    net = small_net()
    with pytest.raises(ConfigError, match="class 5 "):
        explain_difference(net, net, pictures[:1], [5])
    with pytest.raises(SliceError, match="6 images need as many targets and sample ids, got 2, 6"):
        explain_difference(net, net, pictures, [0, 1])
    other = small_net()
    other.head = torch.nn.Linear(16, 7)
    with pytest.raises(IncomparableError, match="5 classes, the second 7"):
        explain_difference(net, other, pictures[:1], [0])
    for tolerance in (0, 1, -0.1, float("nan"), "0.1"):
        with pytest.raises(ConfigError, match="tolerance"):
            Perturbation(Segmentation(), "blur", 100, tolerance)
    with pytest.raises(ConfigError, match="precision"):
        Perturbation(Segmentation(), "blur", 100, None, "float8")


def test_tensors_are_taken_as_arrays_are(small_net, pictures):
    """As in ``explain``; and an image with a number that is none is refused there and here."""
    net = small_net()
    second, settings = nudged(net), {"perturbation": budget(12, 40)}
    array = explain_difference(net, second, pictures[2:4], np.array([1, 3]), **settings)
    tensor = explain_difference(net, second, torch.from_numpy(pictures[2:4]), torch.tensor([1, 3]), **settings)
    assert tensor.values.tobytes() == array.values.tobytes()
    broken = pictures[2:4].copy()
    broken[1, 0, 0, 0] = np.nan
    with pytest.raises(SliceError, match="image 1 holds NaN"):
        explain_difference(net, second, broken, [1, 3], **settings)


@pytest.mark.parametrize(
    ("task", "targets", "rows"), [("multi_label", [[0, 2], [1]], 3), ("regression", None, 2), ("embedding", None, 2)]
)
def test_every_task_is_the_difference_of_exact_values(small_net, pictures, task, targets, rows):
    net = small_net()
    if task == "regression":
        net.head = torch.nn.Linear(net.head.in_features, 1)
    second = nudged(net, 0.5)
    asked = make_task(task)
    classifier = Classifier("net", "", net, task=asked)
    subjects, target = given_subjects(classifier, pictures[2:4], targets, None)
    shap = make_explainer("shap", {"segments": 6, "evaluations": 400, "estimator": "regression"})
    first, other = (
        explain_slice(Classifier("net", "", each, task=asked), subjects, [shap], target, 0)[0] for each in (net, second)
    )
    found = explain_difference(net, second, pictures[2:4], targets, perturbation=budget(6, 400), task=task)
    assert found.sample_ids == subjects.sample_ids
    assert found.values.shape[0] == rows
    expected = other.values - first.values
    assert found.values == pytest.approx(expected, abs=0.02 * float(np.abs(expected).max()))
