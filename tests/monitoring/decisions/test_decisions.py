"""Decisions: read off logits, and compared only where they are about the same images."""

import numpy as np
import pytest
import torch

from attrail_explainers.errors import ConfigError, IncomparableError
from attrail_monitoring.decisions.decisions import Decisions, require_same_images

LABELS = np.array([0, 1, 2, 0])


def logits(seed=0):
    return np.random.default_rng(seed).normal(size=(4, 3)).astype(np.float32)


def test_logits_decide_by_their_top_class_with_torchs_probability():
    found = Decisions.of(logits(), LABELS)
    sure, top = torch.from_numpy(logits()).double().softmax(dim=1).max(dim=1)
    assert found.predictions.tolist() == top.tolist()
    assert found.confidences == pytest.approx(sure.numpy())
    assert found.right.tolist() == (top.numpy() == LABELS).tolist()
    assert Decisions.of(logits()).right is None
    huge = Decisions.of(np.array([[1e4, -1e4]]))
    assert huge.confidences.tolist() == [1.0]


def test_a_class_that_is_ruled_out_is_no_fault_and_what_is_no_number_is():
    assert Decisions.of(np.array([[0.0, -np.inf], [1.0, 1.0]])).confidences.tolist() == [1.0, 0.5]
    for given in (np.array([[0.0, np.nan]]), np.array([[0.0, np.inf]]), np.zeros(3), np.zeros((0, 3))):
        with pytest.raises(ConfigError, match=r"logits must be numbers \(N,classes\)"):
            Decisions.of(given)


def test_some_of_the_images_are_decisions_too():
    rows = np.array([True, False, True, False])
    found = Decisions.of(logits(), LABELS).at(rows)
    assert len(found) == 2
    assert found.labels.tolist() == [0, 2]
    assert Decisions(LABELS).at(rows).labels is None


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((LABELS.astype(float),), "one class index for each image, got float64"),
        ((LABELS[None],), "one class index for each image"),
        ((LABELS, LABELS[:3]), "labels must be one number for each of 4 predictions"),
        ((LABELS, LABELS + 0.5), "labels must be class indices, got float64"),
        ((LABELS, None, np.full(3, 0.5)), "confidences must be one number for each of 4 predictions"),
        ((LABELS, None, np.full(4, 1.1)), "confidences must be probabilities"),
        ((LABELS, None, np.full(4, np.nan)), "confidences must be probabilities"),
    ],
)
def test_what_are_no_decisions_is_refused(given, message):
    with pytest.raises(ConfigError, match=message):
        Decisions(*given)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (Decisions(LABELS[:3]), "about 4 images and about 3"),
        (Decisions(LABELS), "labels for one version alone"),
        (Decisions(LABELS, LABELS, np.full(4, 0.5)), "confidences for one version alone"),
        (Decisions(LABELS, LABELS[::-1]), "other labels for one version"),
    ],
)
def test_other_images_are_not_compared(other, message):
    with pytest.raises(IncomparableError, match=rf"slice 'night'.* {message}"):
        require_same_images("night", Decisions(LABELS, LABELS), other)
