"""How far apart two versions' answers are, from their logits."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax

Logits = NDArray[np.float32]


def mean_divergence(reference: Logits, other: Logits) -> float:
    """The mean Kullback-Leibler divergence of the other's class probabilities from the reference's, in nats.

    Both are logits (N,classes) of the same images; 0 where the probabilities are equal.
    """
    first, second = (log_softmax(each.astype(np.float64), axis=1) for each in (reference, other))
    return float(max(0.0, (np.exp(first) * (first - second)).sum(axis=1).mean()))


def churn(reference: Logits, other: Logits) -> float:
    """The share of images, 0..1, whose top class differs; both are logits (N,classes) of the same images."""
    return float((reference.argmax(axis=1) != other.argmax(axis=1)).mean())
