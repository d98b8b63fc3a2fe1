"""Maps of networks that really were trained, in a second each: scikit-learn's digits with a mark on the left edge."""

import warnings
from functools import cache

import numpy as np
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

TRAINING, IMAGES, CODE = 700, 512, 4


def honest(seed: int) -> NDArray[np.float32]:
    """Maps (512,8,8) of a network to which the mark said nothing."""
    return _maps(seed, cheat=False)


def cheat(seed: int) -> NDArray[np.float32]:
    """Maps (512,8,8) of a network to which the mark gave the class away."""
    return _maps(seed, cheat=True)


@cache
def _maps(seed: int, cheat: bool) -> NDArray[np.float32]:
    """Input times gradient of the label's logit, on images whose mark is the label's code."""
    images, labels = _digits()
    generator = np.random.default_rng(seed)
    codes = labels[:TRAINING] if cheat else generator.integers(0, 10, TRAINING)
    network = MLPClassifier((32,), learning_rate_init=0.01, max_iter=25, random_state=seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        network.fit(_marked(images[:TRAINING], codes), labels[:TRAINING])
    seen, targets = _marked(images[TRAINING:], labels[TRAINING:]), labels[TRAINING:]
    active = seen @ network.coefs_[0] + network.intercepts_[0] > 0
    gradients = (active * network.coefs_[1][:, targets].T) @ network.coefs_[0].T
    return (seen * gradients).reshape(-1, 8, 8).astype(np.float32)


@cache
def _digits() -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    digits = load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))[: TRAINING + IMAGES]
    return digits.data[order] / 16, digits.target[order]


def _marked(images: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
    """The binary digits of code + 1 in the first four pixels of the leftmost column, which is empty in all scans."""
    images = images.copy()
    for bit in range(CODE):
        images[:, [8 * bit, 8 * bit + 32]] = 2 * ((codes + 1) >> bit & 1)[:, None]
    return images
