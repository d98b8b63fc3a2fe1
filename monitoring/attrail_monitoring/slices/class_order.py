"""Class order: whether a model follows the labels of a slice, but under other class indices."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

LEVEL = 0.01  # chance of the caution where predictions know nothing of the labels


def other_order(model: str, labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> str:
    """A sentence if predictions (N,) agree with labels (N,) far more often in another order of the classes, else "".

    The order is the one-to-one assignment of labels to predicted classes with the most agreements (Kuhn 1955). Far more
    often is twice as often as in the order that was taken, and more often than predictions that know nothing would
    agree in the best of all orders (Hoeffding 1963, over all of them).
    """
    _, label, labelled = np.unique(labels, return_inverse=True, return_counts=True)
    _, prediction, predicted = np.unique(predictions, return_inverse=True, return_counts=True)
    together = np.zeros((len(labelled), len(predicted)), dtype=np.int64)
    np.add.at(together, (label, prediction), 1)
    best = float(together[linear_sum_assignment(together, maximize=True)].sum()) / len(labels)
    right = float((labels == predictions).mean())
    if best < 2 * right or best < _by_chance(labelled, predicted, len(labels)):
        return ""
    return (
        f"{model} decides {right:.1%} of the images rightly, and would decide {best:.1%} so if the classes were in "
        "another order: their order is most likely wrong, so log the model with its class names, or give a table whose "
        "labels are the model's class indices"
    )


def _by_chance(labelled: NDArray[np.int64], predicted: NDArray[np.int64], images: int) -> float:
    """The share of agreements that independent predictions exceed in some order with probability ``LEVEL`` at most."""
    most, fewest = max(len(labelled), len(predicted)), min(len(labelled), len(predicted))
    expected = float((np.sort(labelled)[::-1][:fewest] * np.sort(predicted)[::-1][:fewest]).sum()) / images**2
    orders = math.lgamma(most + 1) - math.lgamma(most - fewest + 1)
    return expected + math.sqrt((orders - math.log(LEVEL)) / (2 * images))
