"""Embedding: the cosine with a vector is explained."""

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cosine_similarity

from attrail_explainers import explain
from attrail_explainers.errors import ConfigError
from attrail_explainers.slice import Slice
from attrail_explainers.tasks.embedding import Embedding, neighbours


@pytest.fixture
def vectors(small_net):
    """A network that gives (N,5) vectors, none of them a class."""
    return small_net().eval()


def test_a_map_sums_to_the_change_of_the_cosine(vectors, pictures):
    query = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
    found = explain(vectors, pictures, query, "partition_shap", task="embedding", baseline="zero", evaluations=60)
    with torch.no_grad():
        one, other = vectors(torch.from_numpy(pictures)), vectors(torch.zeros(1, *pictures.shape[1:]))
        change = cosine_similarity(one, torch.from_numpy(query)) - cosine_similarity(other, torch.from_numpy(query))
    assert found.values.sum(axis=(1, 2), dtype=np.float64) == pytest.approx(change.numpy(), abs=1e-5)


def test_without_a_vector_it_is_the_models_own(vectors, pictures):
    with torch.no_grad():
        own = vectors(torch.from_numpy(pictures))
    for explainer in ("shap", "gradcam"):
        given, found = (explain(vectors, pictures, each, explainer, task="embedding") for each in (own, None))
        assert np.nanmax(np.abs(given.values - found.values)) <= 1e-4 * np.nanmax(np.abs(found.values))


def test_an_images_own_embedding_has_gradients(vectors, pictures):
    """The cosine with itself is at its largest: its gradient is zero, and no map would say anything."""
    assert not explain(vectors, pictures, None, "saliency", task="embedding").undefined


class Blank(nn.Module):
    """Gives nothing for pictures that are black, as a network with ReLU at its end may."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images) * (images.amax(dim=(1, 2, 3)) > -1).float()[:, None]


def test_an_embedding_that_is_zero_has_no_map(vectors, pictures):
    images = np.concatenate([pictures, np.full((1, 3, 64, 64), -1, np.float32)])
    found = explain(Blank(vectors), images, None, "shap", task="embedding", segments=12)
    assert found.undefined == {"6": "an embedding that is zero has no direction"}
    assert np.isnan(found.values[6]).all()


@pytest.mark.parametrize("wrong", [np.zeros(6), np.zeros((3, 5)), np.full((6, 5), np.nan)])
def test_what_are_no_vectors_is_refused(vectors, pictures, wrong):
    with pytest.raises(ConfigError, match=r"targets must be a finite vector for each of 6 images, \(N,dimensions\)"):
        explain(vectors, pictures, wrong, "saliency", task="embedding")


def test_vectors_must_have_the_models_dimensions(vectors, pictures):
    with pytest.raises(ConfigError, match="vectors of 4 numbers cannot be explained: model SmallNet has 5 dimensions"):
        explain(vectors, pictures, np.ones((6, 4)), "saliency", task="embedding")


def test_neighbours_are_the_nearest_others():
    vectors = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    vectors[7] = 3 * vectors[21]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = [
        max((float(one @ other), row) for row, other in enumerate(units) if row != own)[1]
        for own, one in enumerate(units)
    ]
    assert neighbours(vectors).tolist() == expected
    assert neighbours(vectors)[7] == 21


def test_the_nearest_neighbour_is_decided_or_its_label():
    vectors = np.float32([[1, 0], [1, 0.1], [0, 1], [0.1, 1]])
    images, ids = np.zeros((4, 1, 2, 2), np.float32), ("a", "b", "c", "d")
    slice_ = Slice("s", images, np.full(4, -1), ids)
    target = Embedding().answered(slice_, vectors)
    unlabelled = Embedding().decided(slice_, vectors, target)
    assert unlabelled.predictions.tolist() == [1, 0, 3, 2]
    assert unlabelled.truths is None
    labelled = Embedding().decided(Slice("s", images, np.array([5, 5, 6, 5]), ids), vectors, target)
    assert labelled.predictions.tolist() == [5, 5, 5, 6]
    assert labelled.truths.tolist() == [5, 5, 6, 5]
