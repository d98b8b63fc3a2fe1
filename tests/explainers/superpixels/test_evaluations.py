"""Masked evaluations: the right pictures reach the model, once, whoever asks."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import nn

from attrail_explainers.baselines import baseline_of
from attrail_explainers.errors import ConfigError, ExplanationError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.log_odds import target_log_odds
from attrail_explainers.slice import Slice
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.evaluations import Perturbation, evaluate
from attrail_explainers.superpixels.segmentation import Segmentation
from attrail_explainers.superpixels.shared_method import shared_evaluations
from attrail_explainers.tasks.single_label import SingleLabel

PERTURBATION = Perturbation(Segmentation(12), "blur", 40)


class Counting(nn.Module):
    """Keeps what it was shown, in the class's own list: models are run as copies."""

    shown: ClassVar[list[torch.Tensor]] = []

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        self.shown.append(images.clone())
        return self.net(images)


@pytest.fixture
def counting(small_net):
    return Counting(small_net())


@pytest.fixture
def counted(counting, pictures):
    """The working copy, with the calls that made it forgotten."""
    model = Classifier("net", "1", counting).working_copy(pictures)
    Counting.shown.clear()
    return model


@pytest.fixture
def slice_(pictures):
    return Slice("s", pictures[:3], np.arange(3), ("a", "b", "c"))


def calls_for(counting, slice_, *explainers):
    """Calls of the model, without those that look at it first: its layers, classes, scale and repeatability."""
    Counting.shown.clear()
    Classifier("net", "1", counting).working_copy(slice_.images)
    first = len(Counting.shown)
    Counting.shown.clear()
    explain_slice(Classifier("net", "1", counting), slice_, explainers, slice_.labels, seed=0)
    return len(Counting.shown) - first


def subject_of(module, pictures):
    model = Classifier("net", "1", module).working_copy(pictures)
    return Subject(model, torch.from_numpy(pictures[:1]), SingleLabel.of([0]), ("a",), 0)


def test_lime_and_shap_share_one_set_of_evaluations(counting, slice_):
    settings = {"segments": 12, "evaluations": 40}
    lime, shap = make_explainer("lime", settings), make_explainer("shap", settings)
    alone = calls_for(counting, slice_, shap)
    per_image = -(-40 // 32)
    assert alone == len(slice_) * per_image
    assert calls_for(counting, slice_, lime, shap) == alone
    assert calls_for(counting, slice_, shap, lime, lime) == alone


@pytest.mark.parametrize("change", [{"baseline": "zero"}, {"segments": 13}, {"compactness": 9.0}, {"evaluations": 42}])
def test_other_settings_are_not_shared(counting, slice_, change):
    settings = {"segments": 12, "evaluations": 40}
    shap, other = make_explainer("shap", settings), make_explainer("lime", settings | change)
    assert calls_for(counting, slice_, shap, other) == 2 * calls_for(counting, slice_, shap)


def test_a_subject_evaluates_each_image_once(counting, pictures):
    subject = subject_of(counting, pictures)
    first = shared_evaluations(subject, 0, PERTURBATION)
    calls = len(Counting.shown)
    assert shared_evaluations(subject.with_layer("net.features"), 0, PERTURBATION) is first
    assert len(Counting.shown) == calls > 0


@pytest.mark.parametrize("budget", [4, 33, 40, 100])
def test_the_budget_counts_every_evaluation(counted, pictures, budget):
    found = evaluate(
        counted,
        torch.from_numpy(pictures[2]),
        SingleLabel.of([0]),
        "a",
        seed=0,
        perturbation=Perturbation(Segmentation(12), "blur", budget),
    )
    assert len(found.log_odds) + 2 <= budget
    assert len(found.log_odds) + 2 >= budget - 1
    assert len(Counting.shown) == -(-(len(found.log_odds) + 2) // 32)


def test_models_are_shown_the_masked_copies(counted, pictures):
    """The image, its baseline, then each coalition's superpixels on the baseline, in the order of the rows."""
    image = torch.from_numpy(pictures[2])
    found = evaluate(counted, image, SingleLabel.of([0]), "a", seed=0, perturbation=PERTURBATION)
    shown = torch.cat(Counting.shown)[: len(found.log_odds) + 2]
    baseline = baseline_of(image, "blur")
    assert torch.equal(shown[0], image)
    assert torch.equal(shown[1], baseline)
    for copy, row in zip(shown[2:], found.coalitions.present, strict=True):
        kept = torch.from_numpy(np.isin(found.segments, np.flatnonzero(row)))
        assert torch.equal(copy[:, kept], image[:, kept])
        assert torch.equal(copy[:, ~kept], baseline[:, ~kept])


def test_two_versions_get_the_same_coalitions(small_net, pictures):
    """Common random numbers: only the model differs, so only the outputs do."""
    first, second = (shared_evaluations(subject_of(small_net(seed), pictures), 0, PERTURBATION) for seed in (1, 2))
    assert first.coalitions.present.tobytes() == second.coalitions.present.tobytes()
    assert first.segments.tobytes() == second.segments.tobytes()
    assert not np.allclose(first.log_odds, second.log_odds)


def test_blur_equals_scipy(pictures):
    sigma = 64 / 8
    expected = [gaussian_filter(channel, sigma, mode="mirror", radius=int(3 * sigma)) for channel in pictures[0]]
    assert baseline_of(torch.from_numpy(pictures[0]), "blur").numpy() == pytest.approx(np.stack(expected), abs=1e-5)


def test_mean_and_zero_baselines(pictures):
    image = torch.from_numpy(pictures[0])
    colour = pictures[0].reshape(3, -1).mean(axis=1)
    assert baseline_of(image, "mean").numpy() == pytest.approx(
        np.broadcast_to(colour[:, None, None], image.shape), abs=1e-6
    )
    assert not baseline_of(image, "zero").any()


def test_log_odds_equal_their_definition():
    logits = torch.from_numpy(np.random.default_rng(0).normal(size=(50, 4)) * 3).float()
    probability = torch.softmax(logits.double(), dim=1)
    for target in range(4):
        expected = torch.log(probability[:, target]) - torch.log(1 - probability[:, target])
        assert target_log_odds(logits, target).numpy() == pytest.approx(expected.numpy(), abs=1e-9)


def test_log_odds_do_not_saturate():
    """At these logits the float32 probability is exactly one."""
    found = target_log_odds(torch.tensor([[900.0, 0.0], [901.0, 0.0]]), 0)
    assert found.tolist() == [900.0, 901.0]


def test_broken_perturbed_copies_are_named(pictures):
    class BreaksOnBlur(nn.Module):
        def forward(self, images):
            sharp = (images.diff(dim=3).abs().amax(dim=(1, 2, 3)) > 0.2)[:, None]
            return torch.where(sharp, images.mean(dim=(2, 3)), torch.nan)

    with pytest.raises(ExplanationError, match="'a'"):
        shared_evaluations(subject_of(BreaksOnBlur(), pictures), 0, PERTURBATION)


def test_impossible_settings_are_refused():
    with pytest.raises(ConfigError, match="blur, mean or zero, not 'noise'"):
        Perturbation(Segmentation(), "noise", 100)
    with pytest.raises(ConfigError, match="whole number of at least 4, not 3"):
        Perturbation(Segmentation(), "blur", 3)
    with pytest.raises(ConfigError, match=r"whole number of at least 4, not 7\.5"):
        Perturbation(Segmentation(), "blur", 7.5)
