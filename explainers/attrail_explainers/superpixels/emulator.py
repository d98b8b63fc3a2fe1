"""A Gaussian process over coalitions: what a model would have answered for the coalitions that were not evaluated.

A few hundred of the 2^S coalitions are affordable. Regressions on those alone (kernel SHAP, LIME) take everything a
linear model does not explain for noise; a Gaussian process with an interaction kernel explains most of it, so that the
same evaluations give values much nearer to the converged ones, with an interval (``make bench`` shows both).
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from attrail_explainers.runtime.blas import one_thread

Array = NDArray[np.float64]

LENGTHS = (4.0, 16.0)  # how many superpixels of mean relevance may change until outputs are unrelated
ADDITIVE = 10.0  # weight of the additive part
NOISES = (0.003, 0.03)  # variance that no smooth function explains, as a share of the process's
EXACT = 1e-6  # the same share for the whole image and the bare baseline, which completeness is about
SCOUTS = 512  # rows that settings are chosen on: more cost much and change little
ROUNDS = 2  # of re-estimating each superpixel's relevance
LEAST_RELEVANCE = 0.1  # of the mean: a superpixel that seems not to matter stays possible
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class Kernel:
    """exp(-sum of decay_j where z_j != z'_j) + additive * sum of decay_j s_j s'_j, with s = 2z-1.

    The first part is a product over superpixels and holds every order of interaction, fading with the order; ``decay``
    (S,) is each superpixel's relevance over the length (automatic relevance determination, Neal 1996).
    """

    decay: Array
    additive: float

    def __call__(self, first: Array, second: Array) -> Array:
        """(M,n) covariances of coalitions given as signs (M,S) and (n,S)."""
        agreement = (first * self.decay) @ second.T
        product: Array = np.exp((agreement - self.decay.sum()) / 2)
        return product + self.additive * agreement


class Emulator:
    """The process after seeing ``outputs`` (n,) for ``present`` (n,S), and the whole image's and the baseline's output.

    Settings maximise the marginal likelihood on a small grid (Rasmussen & Williams 2006, section 5.4), in rounds that
    estimate each superpixel's relevance anew; nothing is drawn at random.
    """

    @one_thread()
    def __init__(self, present: NDArray[np.bool_], outputs: Array, full: float, empty: float) -> None:
        count = present.shape[1]
        self.signs = np.where(np.concatenate([np.ones((1, count)), np.zeros((1, count)), present]), 1.0, -1.0)
        known = np.concatenate([[full, empty], outputs])
        self.mean = float(known.mean())
        self._centred = known - self.mean
        scouts, answers = self.signs[:SCOUTS], self._centred[:SCOUTS]
        fit = _likeliest(scouts, answers, np.ones(count))
        for _ in range(ROUNDS):
            fit = _likeliest(scouts, answers, _relevance(fit))
        self._fit = fit if len(known) <= SCOUTS else _Fit(fit.kernel, fit.noise, self.signs, self._centred)

    @one_thread()
    def predict(self, present: NDArray[np.bool_]) -> Array:
        """Expected outputs (M,) for coalitions (M,S)."""
        return np.asarray(self.mean + self._fit.kernel(np.where(present, 1.0, -1.0), self.signs) @ self._fit.weights)

    @one_thread()
    def shapley_values(self) -> Array:
        """Shapley values (S,) of the expected outputs, in closed form.

        A Shapley value is the integral over t of a player's mean effect when every other one takes part with
        probability t (Owen 1972). For a product kernel the mean is a product, and the integrand a polynomial of degree
        S-1 that Gauss-Legendre integrates exactly (as in Mohammadi et al., "PKeX-Shapley", 2025). The sum is the
        whole image's output minus the baseline's; what the noise term leaves of it is spread evenly.
        """
        values = self._effects @ self._fit.weights
        total = self._centred[0] - self._centred[1]
        return np.asarray(values + (total - values.sum()) / len(values))

    @one_thread()
    def shapley_deviations(self) -> Array:
        """Standard deviation (S,) of each Shapley value given the evaluations: the process's own interval."""
        known = np.einsum("jn,nj->j", self._effects, cho_solve(self._fit.factor, self._effects.T))
        variance = (self._prior_variance() - known) * self._fit.scale
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)))

    @property
    def noise(self) -> float:
        """Root mean square deviation of the Shapley values as a share of their spread over superpixels."""
        spread = float(self.shapley_values().std())
        return float(np.sqrt((self.shapley_deviations() ** 2).mean())) / max(spread, TINY)

    @one_thread()
    def explained_variance(self) -> float:
        """Share of the outputs' variance that is predicted when each row in turn is left out, in closed form.

        Rasmussen & Williams 2006, section 5.4.2; 1 at best, 0 for no better than the mean.
        """
        inverse = cho_solve(self._fit.factor, np.eye(len(self.signs)), check_finite=False)
        left_out = self._fit.weights[2:] / np.diag(inverse)[2:]
        return float(1 - (left_out**2).mean() / max(self._centred[2:].var(), TINY))

    @cached_property
    def _effects(self) -> Array:
        """(S,n) Shapley values of the kernel's functions k(., row)."""
        nodes, weights = _quadrature(self.signs.shape[1])
        decay, additive = self._fit.kernel.decay, self._fit.kernel.additive
        apart = np.exp(-decay)
        inside, outside = np.where(self.signs > 0, 1.0, apart), np.where(self.signs > 0, apart, 1.0)
        values = np.zeros(self.signs.shape)
        for node, weight in zip(nodes, weights, strict=True):
            means = node * inside + (1 - node) * outside
            values += weight * means.prod(axis=1, keepdims=True) / means
        values *= inside - outside
        return np.asarray((values + 2 * additive * decay * self.signs).T)

    def _prior_variance(self) -> Array:
        """(S,) variance of each Shapley value before any evaluation, the process's variance being one."""
        nodes, weights = _quadrature(self.signs.shape[1])
        decay, additive = self._fit.kernel.decay, self._fit.kernel.additive
        apart = 1 - np.exp(-decay)
        differ = nodes[:, None] * (1 - nodes) + (1 - nodes[:, None]) * nodes
        means = 1 - differ[..., None] * apart
        others = means.prod(axis=-1, keepdims=True) / means
        product = 2 * apart * np.einsum("s,t,stj->j", weights, weights, others)
        return np.asarray(product + 4 * additive * decay)


class _Fit:
    """One setting's Cholesky factor, weights of the rows, the scale that suits it best and its log likelihood."""

    def __init__(self, kernel: Kernel, noise: float, signs: Array, outputs: Array) -> None:
        self.kernel, self.noise, self.signs = kernel, noise, signs
        covariance = kernel(signs, signs)
        share = np.full(len(signs), noise)
        share[:2] = EXACT
        covariance[np.diag_indices_from(covariance)] += share
        self.factor = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
        self.weights = cho_solve(self.factor, outputs, check_finite=False)
        self.scale = max(float(outputs @ self.weights) / len(outputs), TINY)
        half_determinant = np.log(np.diag(self.factor[0])).sum()
        self.likelihood = -0.5 * len(outputs) * np.log(self.scale) - half_determinant


def _likeliest(signs: Array, outputs: Array, relevance: Array) -> _Fit:
    kernels = [Kernel(relevance / length, ADDITIVE / len(relevance)) for length in LENGTHS]
    fits = [_Fit(kernel, noise, signs, outputs) for kernel in kernels for noise in NOISES]
    return max(fits, key=lambda fit: fit.likelihood)


def _relevance(fit: _Fit) -> Array:
    """(S,) how much the expected output changes when one superpixel is switched, relative to the mean superpixel.

    Switching superpixel j of a row multiplies its covariance with a row that agrees there by exp(-decay_j) and with
    one that does not by the inverse, so that one matrix product serves all superpixels.
    """
    signs, decay = fit.signs, fit.kernel.decay
    product = np.exp(((signs * decay) @ signs.T - decay.sum()) / 2)
    near, far = np.cosh(decay) - 1, np.sinh(decay)
    expected = (product @ fit.weights)[:, None]
    crossed = product @ (signs * fit.weights[:, None])
    additive = 2 * fit.kernel.additive * decay * (signs * fit.weights[:, None]).sum(axis=0)
    change = near * expected - signs * (far * crossed + additive)
    size = np.sqrt((change**2).mean(axis=0))
    return np.asarray(LEAST_RELEVANCE + (1 - LEAST_RELEVANCE) * size / max(size.mean(), TINY))


def _quadrature(count: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on 0..1, exact for polynomials of degree S-1."""
    nodes, weights = np.polynomial.legendre.leggauss(-(-count // 2))
    return (nodes + 1) / 2, weights / 2
