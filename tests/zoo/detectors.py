"""The detectors: each says from two versions' maps how far they are apart, and whether that is too far.

Every detector gets the maps of all explainers. A baseline flags when its number for any explainer crosses its line,
and its score is that of the most suspicious explainer; it gets the images that have a map in both versions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import zoom
from scipy.stats import binomtest, rankdata
from skimage.metrics import structural_similarity
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import ndcg_score
from sklearn.metrics.pairwise import euclidean_distances
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from attrail_explainers.attributions import Attributions
from attrail_monitoring.comparison import compare
from attrail_monitoring.floor.calibration import Calibration, Rehearsal, calibrate
from attrail_monitoring.floor.noise_floor import Source
from attrail_monitoring.floor.spreads import MOST
from attrail_monitoring.inference.shared_spread import SharedSpread
from attrail_monitoring.maps.strata import HEADLINES
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.verdict.findings import DriftReport, Verdict
from attrail_monitoring.verdict.policy import Policy

Array = NDArray[np.float64]

VERSION = 1  # of the baselines: their judgements are made again when it changes
ALPHA = 0.05
SMALLEST = 1e-12
PERMUTATIONS = 500


@dataclass(frozen=True)
class Judgement:
    """``score`` is larger the further apart the versions are; ``reason`` is the detector's own word."""

    score: float
    flagged: bool
    reason: str = ""


@dataclass(frozen=True)
class Audit:
    """What a detector may look at; only ours looks at ``random_head``, the reference without its classes, and floor.

    ``source`` says what the floor's versions are, ``change`` what is declared of the candidate. ``spreads`` stand in
    for those that the library has, which come from this very zoo.
    """

    reference: VersionMaps
    candidate: VersionMaps
    random_head: VersionMaps
    floor: tuple[VersionMaps, ...]
    source: Source = "retrains"
    change: str = "retrain"
    spreads: Mapping[str, SharedSpread] | None = None

    @cached_property
    def calibration(self) -> Calibration:
        rehearsal = Rehearsal(replace(self.random_head, right=self.reference.right))
        found = calibrate(self.reference, self.floor, Policy().settings, self.source, rehearsal, self.change)
        return found if self.spreads is None else _with(found, self.spreads)


def _with(calibration: Calibration, spreads: Mapping[str, SharedSpread]) -> Calibration:
    """The calibration with other spreads for whole slices, counted as the library counts its own."""
    known = {name: replace(each, freedom=min(each.freedom, MOST)) for name, each in spreads.items()}
    floors = {
        place: replace(floor, shared=known.get(place.statistic)) if place.stratum in HEADLINES else floor
        for place, floor in calibration.floors.items()
    }
    return replace(calibration, floors=floors)


def verdict(audit: Audit) -> DriftReport:
    """The library's verdict under the default policy, instrument checks included, as ``attrail audit`` has it."""
    return compare(audit.reference, audit.candidate, audit.calibration, Policy())


def attrail(audit: Audit) -> Judgement:
    """Flagged when the verdict is DRIFT; score: -log10 of the smallest p of all hypotheses that count."""
    report = verdict(audit)
    return Judgement(score(report), report.verdict is Verdict.DRIFT, f"{report.verdict}: {report.reason}")


def score(report: DriftReport) -> float:
    """-log10 of the smallest p of all hypotheses that count."""
    counted = [each for each in report.findings if each.measurement.primary and not each.unfit]
    chances = [each.p_value for each in counted if each.p_value is not None]
    chances += [each.p_value for each in (*report.agreements, *report.moved)]
    chances += [each.p_value for each in report.decisions if each.p_value is not None]
    return float(abs(np.log10(max(min(chances, default=1.0), 1e-300))))


def ndcg(reference: Array, candidate: Array) -> float:
    """1 - NDCG of the cells' mean absolute attributions, the formula of SageMaker Clarify."""
    first, second = _mean_importance(reference), _mean_importance(candidate)
    return float(1 - ndcg_score(first[None], second[None]))


def psi(reference: Array, candidate: Array) -> float:
    """Population stability index of the mean absolute attribution per cell, as shares of the whole."""
    first, second = (np.maximum(each / each.sum(), 1e-6) for each in map(_mean_importance, (reference, candidate)))
    return float(((first - second) * np.log(first / second)).sum())


def ssim(reference: Array, candidate: Array) -> float:
    """1 - mean structural similarity of the maps, each divided by its largest absolute value (Adebayo et al. 2018).

    Maps that are smaller than its window of 7x7 are enlarged, as those who look at maps of images do.
    """
    first, second = (
        _as_large_as(7, each / np.abs(each).max(axis=(1, 2), keepdims=True).clip(SMALLEST))
        for each in (reference, candidate)
    )
    return float(1 - structural_similarity(first, second, channel_axis=0, data_range=2.0))


def spearman(reference: Array, candidate: Array) -> float:
    """Mean over images of 1 - Spearman's correlation of the two maps."""
    first, second = (_standardised(rankdata(_flat(each), axis=1)) for each in (reference, candidate))
    return float(1 - (first * second).sum(axis=1).mean())


def c2st(reference: Array, candidate: Array) -> float:
    """-log10 p of the classifier two-sample test (Lopez-Paz & Oquab, ICLR 2017) on mass-normalised maps.

    Logistic regression, five folds, both maps of an image in the same one; p is the binomial test of its hits.
    """
    maps = np.concatenate([_mass_normalised(reference), _mass_normalised(candidate)])
    versions, images = np.repeat([0, 1], len(reference)), np.tile(np.arange(len(reference)), 2)
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=500))
    told = cross_val_predict(model, maps, versions, groups=images, cv=GroupKFold(5))
    hits = int((told == versions).sum())
    return float(-np.log10(max(binomtest(hits, len(versions), 0.5, alternative="greater").pvalue, 1e-300)))


def mmd(reference: Array, candidate: Array) -> float:
    """-log10 p of the maximum mean discrepancy (Gretton et al., JMLR 2012) of mass-normalised maps.

    Gaussian kernel, median heuristic; p from permuting versions over all maps, as for unpaired samples.
    """
    maps = np.concatenate([_mass_normalised(reference), _mass_normalised(candidate)])
    squares = euclidean_distances(maps, squared=True)
    kernel = np.exp(-squares / np.median(squares[np.triu_indices(len(maps), 1)]).clip(SMALLEST))
    signs = np.repeat([1.0, -1.0], len(reference))
    generator = np.random.default_rng(0)
    drawn = np.stack([signs, *(generator.permutation(signs) for _ in range(PERMUTATIONS))])
    found = np.einsum("pn,pn->p", drawn @ kernel, drawn)
    return float(-np.log10((found >= found[0] - SMALLEST).mean()))


@dataclass(frozen=True)
class Baseline:
    """A number and the line beyond which it flags, with where the line comes from."""

    number: Callable[[Array, Array], float]
    line: float
    origin: str


BASELINES: Mapping[str, Baseline] = {
    "NDCG < 0.9": Baseline(ndcg, 0.1, "SageMaker Clarify's and Azure ML's alarm for attribution drift"),
    "PSI > 0.2": Baseline(psi, 0.2, "the usual line of the population stability index"),
    "C2ST p < .05": Baseline(c2st, -np.log10(ALPHA), "the level"),
    "MMD p < .05": Baseline(mmd, -np.log10(ALPHA), "the level"),
    "SSIM < 0.5": Baseline(ssim, 0.5, "no published line: the middle between unrelated (0) and equal (1)"),
    "1 - Spearman > 0.5": Baseline(spearman, 0.5, "no published line: the middle between equal (0) and unrelated (1)"),
}
NAMES = ("attrail", *BASELINES)


def judged(name: str, audit: Audit) -> Judgement:
    """The judgement of the detector of this name."""
    if name == "attrail":
        return attrail(audit)
    baseline = BASELINES[name]
    numbers = {}
    for first, second in zip(audit.reference.maps, audit.candidate.maps, strict=True):
        numbers[first.explainer] = baseline.number(*_both_defined(first, second))
    score = max(numbers.values())
    return Judgement(
        score, bool(score > baseline.line), ", ".join(f"{key} {value:.3g}" for key, value in numbers.items())
    )


def _both_defined(first: Attributions, second: Attributions) -> tuple[Array, Array]:
    rows = first.defined & second.defined
    return first.values[rows].astype(np.float64), second.values[rows].astype(np.float64)


def _flat(maps: Array) -> Array:
    return maps.reshape(len(maps), -1)


def _as_large_as(side: int, maps: Array) -> Array:
    """Maps (N,h,w), those with a shorter side enlarged linearly by the least whole factor that reaches it."""
    factor = -(-side // min(maps.shape[1:]))
    return maps if factor == 1 else np.asarray(zoom(maps, (1, factor, factor), order=1, mode="nearest", grid_mode=True))


def _mean_importance(maps: Array) -> Array:
    return np.asarray(np.abs(_flat(maps)).mean(axis=0))


def _mass_normalised(maps: Array) -> Array:
    flat = _flat(maps)
    return np.asarray(flat / np.abs(flat).sum(axis=1, keepdims=True).clip(SMALLEST))


def _standardised(rows: Array) -> Array:
    """Rows (N,D) with mean 0 and length 1; a constant one becomes zeros."""
    centred = rows - rows.mean(axis=1, keepdims=True)
    return np.asarray(centred / np.sqrt((centred**2).sum(axis=1, keepdims=True)).clip(SMALLEST))
