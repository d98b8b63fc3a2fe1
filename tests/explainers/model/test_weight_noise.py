"""Matched noise: Gaussian, on kernels and matrices alone, the same for the same draw, as strong as was asked for."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.divergence import churn, mean_divergence
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.model.weight_noise import WeightNoise, match_noise, noised, noised_tensors

IMAGES = np.random.default_rng(0).standard_normal((48, 3, 16, 16)).astype(np.float32)
IDS = tuple(str(row) for row in range(len(IMAGES)))


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return nn.Sequential(*layers, nn.Linear(16, 5)).eval()


def with_noise(classifier: Classifier, noise: WeightNoise) -> Classifier:
    return noised(classifier, classifier.working_copy(IMAGES), noise)


def test_divergence_is_torchs_and_churn_counts_top_classes():
    first, second = (np.random.default_rng(seed).standard_normal((20, 7)).astype(np.float32) for seed in (1, 2))
    logs = [torch.from_numpy(each).double().log_softmax(dim=1) for each in (first, second)]
    expected = nn.functional.kl_div(logs[1], logs[0], log_target=True, reduction="batchmean")
    assert mean_divergence(first, second) == pytest.approx(float(expected), rel=1e-12)
    assert mean_divergence(first, first + 3) == pytest.approx(0, abs=1e-6)
    assert churn(first, np.roll(first, 1, axis=1)) == 1.0
    assert churn(first, first) == 0.0


def test_noise_lies_on_kernels_and_matrices_alone_and_has_their_spread():
    plain = network()
    classifier = Classifier("net", "1", plain)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    after = with_noise(classifier, WeightNoise(3, 7, 0.1)).module.state_dict()
    assert noised_tensors(classifier.working_copy(IMAGES)) == ("0.weight", "5.weight")
    for name, tensor in before.items():
        moved = after[name] - tensor
        if name in ("0.weight", "5.weight"):
            assert float(moved.std()) == pytest.approx(0.1 * float(tensor.std()), rel=0.25)
        else:
            assert not moved.any()
        assert torch.equal(plain.state_dict()[name], tensor)  # the classifier's own module is not touched


def test_noise_depends_on_seed_draw_and_name_alone():
    classifier = Classifier("net", "1", network())
    states = [
        with_noise(classifier, noise).module.state_dict()["0.weight"]
        for noise in (WeightNoise(1, 7, 0.1), WeightNoise(1, 7, 0.1), WeightNoise(2, 7, 0.1), WeightNoise(1, 8, 0.1))
    ]
    assert torch.equal(states[0], states[1])
    assert not torch.allclose(states[0], states[2])
    assert not torch.allclose(states[0], states[3])
    digests = {with_noise(classifier, WeightNoise(draw, 7, 0.1)).weights_digest for draw in (1, 2)}
    assert len(digests) == 2


@pytest.mark.parametrize("divergence", [1e-4, 0.02, 0.5])
def test_a_match_moves_the_answers_as_far_as_was_asked_for(divergence):
    classifier = Classifier("net", "1", network())
    found = match_noise(classifier, IMAGES, IDS, divergence, draw=2, seed=5)
    again = with_noise(classifier, found.noise).logits(IMAGES, IDS)
    assert found.divergence == pytest.approx(divergence, rel=0.1)
    assert mean_divergence(classifier.logits(IMAGES, IDS), again) == found.divergence
    assert churn(classifier.logits(IMAGES, IDS), again) == found.churn
    assert match_noise(classifier, IMAGES, IDS, divergence, draw=2, seed=5) == found


def test_no_divergence_needs_no_noise_and_one_out_of_reach_is_not_said_to_be_reached():
    classifier = Classifier("net", "1", network())
    assert match_noise(classifier, IMAGES, IDS, 0.0, draw=1, seed=0).noise.sigma == 0.0
    far = match_noise(classifier, IMAGES, IDS, 1e6, draw=1, seed=0)
    assert far.divergence < 1e6
    assert math.isfinite(far.divergence)


def test_an_exported_program_and_a_parametrized_layer_take_noise(tmp_path):
    net = network()
    net[5] = parametrizations.weight_norm(net[5])
    program = torch.export.export(net, (torch.from_numpy(IMAGES),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "net.pt2")
    for classifier in (classifier_from_export(tmp_path / "net.pt2", "net", "1"), Classifier("net", "1", net)):
        found = match_noise(classifier, IMAGES, IDS, 0.02, draw=1, seed=0)
        assert found.divergence == pytest.approx(0.02, rel=0.1)


def test_half_precision_keeps_its_type():
    classifier = Classifier("net", "1", network().bfloat16())
    noisy = with_noise(classifier, WeightNoise(1, 0, 0.5)).module
    assert noisy.state_dict()["0.weight"].dtype == torch.bfloat16


def test_a_model_without_matrices_of_numbers_is_refused():
    class Means(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(3))

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images.mean(dim=(2, 3)) * self.scale

    with pytest.raises(UnsupportedModelError, match=r"net/1 has no weights that noise could be put on.*give retrains"):
        match_noise(Classifier("net", "1", Means()), IMAGES, IDS, 0.1, draw=1, seed=0)
