"""One question to a model: does it answer, and what is it?"""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers.errors import ExplanationError
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.description import describe
from attrail_explainers.runtime.machine import machine_of

SAMPLES = tuple("abcdef")


@pytest.fixture
def classifier(small_net: Callable[[int], nn.Module]) -> Classifier:
    return Classifier("net", "1", small_net(3))


def test_a_model_is_described_by_its_weights_and_size(classifier: Classifier, pictures: np.ndarray) -> None:
    found = describe(classifier, pictures, SAMPLES)
    assert (found.weights_digest, found.classes, found.device) == (classifier.weights_digest, 5, "cpu")
    assert found.identity == classifier.identity
    assert (found.machine, found.batch_size) == (machine_of(torch.device("cpu")), None)
    first_convolution = 8 * 32 * 32
    assert found.activations > 2 * first_convolution, "its norm and its ReLU make as many numbers again"
    with torch.no_grad():
        classifier.module.head.weight.add_(1)
    other = describe(Classifier("net", "2", classifier.module, batch_size=2), pictures, SAMPLES)
    assert other == replace(found, weights_digest=other.weights_digest, batch_size=2)
    assert other.identity != found.identity


def test_a_model_without_numbers_is_refused_by_its_first_image(classifier: Classifier, pictures: np.ndarray) -> None:
    with torch.no_grad():
        classifier.module.head.bias.fill_(float("nan"))
    with pytest.raises(ExplanationError, match="for image 'a'"):
        describe(classifier, pictures, SAMPLES)
