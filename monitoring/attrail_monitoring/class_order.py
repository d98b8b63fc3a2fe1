"""Class order: whether a model follows the labels of a slice, but under other class indices."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

FEWEST = 30  # images, and
PER_CLASS = 4  # of them for each class: of fewer any predictions agree with labels in some order


def other_order(model: str, labels: NDArray[np.int64], predictions: NDArray[np.int64]) -> str:
    """A sentence if predictions (N,) agree with labels (N,) far more often in another order of the classes, else "".

    The order is the one-to-one assignment of labels to predicted classes with the most agreements (Kuhn 1955). Far more
    often is on half of the images or more, and twice as often as in the order that was taken.
    """
    names, label = np.unique(labels, return_inverse=True)
    found, prediction = np.unique(predictions, return_inverse=True)
    if len(labels) < max(FEWEST, PER_CLASS * len(names)):
        return ""
    together = np.zeros((len(names), len(found)), dtype=np.int64)
    np.add.at(together, (label, prediction), 1)
    best = float(together[linear_sum_assignment(together, maximize=True)].sum()) / len(labels)
    right = float((labels == predictions).mean())
    if best < max(0.5, 2 * right):
        return ""
    return (
        f"{model} decides {right:.1%} of the images rightly, and would decide {best:.1%} so if the classes were in "
        "another order: their order is most likely wrong, so log the model with its class names, or give a table whose "
        "labels are the model's class indices"
    )
