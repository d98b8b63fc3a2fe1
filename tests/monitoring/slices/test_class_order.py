"""Class order: labels that a model follows under other class indices are named, honest mistakes are not."""

import numpy as np
import pytest

from attrail_monitoring.slices.class_order import other_order

LABELS = np.repeat(np.arange(10), 20)


def predicted(order, wrong, seed=0):
    """Predictions that follow the labels in an order of the classes but for a share that is wrong at random."""
    random = np.random.default_rng(seed)
    found = np.asarray(order)[LABELS]
    return np.where(random.random(len(LABELS)) < wrong, random.integers(0, 10, len(LABELS)), found)


@pytest.mark.parametrize("wrong", [0.0, 0.3])
def test_another_order_is_named_with_both_accuracies(wrong):
    order = [9, 0, 1, 2, 3, 4, 5, 6, 7, 8]
    found = predicted(order, wrong)
    right, best = (float((found == each).mean()) for each in (LABELS, np.asarray(order)[LABELS]))
    said = other_order("fox/1", LABELS, found)
    assert said.startswith(f"fox/1 decides {right:.1%} of the images rightly, and would decide {best:.1%} so")
    assert "their order is most likely wrong" in said


@pytest.mark.parametrize("wrong", [0.0, 0.3, 0.6, 1.0])
def test_a_right_order_is_not_doubted_however_weak_the_model(wrong):
    for seed in range(20):
        assert other_order("fox/1", LABELS, predicted(range(10), wrong, seed)) == ""


def test_few_images_agree_in_some_order_and_say_nothing():
    assert other_order("fox/1", np.arange(10), np.roll(np.arange(10), 1)) == ""


def test_a_model_that_knows_more_classes_than_the_slice_shows():
    labels = np.repeat([0, 1], 30)
    assert "would decide 100.0% so" in other_order("fox/1", labels, labels + 500)
