"""Which images moved: evidence of the candidate where neither reference nor retrains have it."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ConfigError
from attrail_monitoring.floor.envelope import Envelope
from attrail_monitoring.inference.conformal import conformal_p_values
from attrail_monitoring.inference.multiplicity import benjamini_hochberg, holm
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.version_maps import require_comparable

Array = NDArray[np.float64]
UNIT = 0.9  # quantile of the retrains' own shares that counts as one
SMALLEST = 1e-6


@dataclass(frozen=True, eq=False)
class Displacement:
    """How much of each image's evidence lies out of the envelope of reference and retrains, by one explainer.

    ``outside`` (N,) is the candidate's share, 0..1, NaN without a map in it or in the envelope; ``usual`` (K,N) the
    same of each retrain. ``lost`` (N,) marks images without a map in the candidate that reference and retrains explain,
    ``counted`` (N,) the images on which a verdict may rest.
    """

    slice: str
    explainer: str
    samples: tuple[str, ...]
    outside: Array
    usual: Array
    lost: NDArray[np.bool_]
    counted: NDArray[np.bool_]

    @classmethod
    def of(
        cls,
        reference: Attributions,
        candidate: Attributions,
        envelope: Envelope,
        settings: Settings,
        counted: NDArray[np.bool_] | None = None,
    ) -> "Displacement":
        """How far each image's map lies outside the envelope; ``counted`` (N,) marks images that are asked about.

        All are by default. Raises IncomparableError when the maps are not like with like.
        """
        require_comparable(reference, candidate)
        rows = np.ones(len(reference.sample_ids), dtype=np.bool_) if counted is None else counted
        outside = envelope.outside(candidate, settings).astype(np.float64)
        lost = np.isfinite(envelope.low).all(axis=1) & ~candidate.defined
        usual = envelope.usual.astype(np.float64)
        return cls(reference.slice_name, reference.explainer, reference.sample_ids, outside, usual, lost, rows)


@dataclass(frozen=True)
class MovedImages:
    """The images of one slice whose evidence moved, by all ``explainers`` together.

    ``samples`` are named at the false discovery ``rate``, the furthest first, among the ``images`` on which a verdict
    may rest; ``beside`` are named among all others. ``p_value`` is the chance that retrains move any of those images so
    far, ``adjusted`` the same for all slices of the audit (Holm), ``flagged`` where it is at most ``level``. ``hides``
    says that it would be if the images whose maps the candidate lost had moved.
    """

    slice: str
    explainers: tuple[str, ...]
    images: int
    samples: tuple[str, ...]
    rate: float
    p_value: float
    adjusted: float
    level: float
    flagged: bool
    hides: bool = False
    beside: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Plain values for the record."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}


def moved_images(displacements: Sequence[Displacement], rate: float, margin: float = 0.0) -> NDArray[np.int64]:
    """Rows of the images that moved, by all explainers of one slice together, the furthest first.

    Benjamini-Hochberg at the false discovery ``rate`` on ``chances``, of all images however they were decided. Images
    without a map are not among the rows: they are counted by themselves. ConfigError for a rate that is none.
    """
    if not 0 < rate < 1:
        raise ConfigError(f"expected a rate of false discoveries between 0 and 1, got {rate}")
    p_values = chances(displacements, margin)
    rows = np.flatnonzero(np.isfinite(p_values))
    found = rows[benjamini_hochberg(p_values[rows]) <= rate]
    return found[np.argsort(-_joined(displacements)[0][found], kind="stable")].astype(np.int64)


def moved_on_slices(
    slices: Mapping[str, Sequence[Displacement]], level: float, rate: float, margin: float
) -> tuple[MovedImages, ...]:
    """What moved on each slice, flagged at the ``level`` of all slices together, named at the false discovery rate.

    Only counted images are tested, against all of the retrains': those move most where the retrain decides otherwise,
    so that images whose decision stayed come out a little too seldom.
    """
    p_values, at_worst = (
        {name: any_moved(chances(found, margin, lost)[found[0].counted]) for name, found in slices.items()}
        for lost in (False, True)
    )
    adjusted, worst = (dict(zip(slices, holm(list(each.values())), strict=True)) for each in (p_values, at_worst))
    return tuple(
        MovedImages(
            slice=name,
            explainers=tuple(each.explainer for each in found),
            images=int((np.isfinite(chances(found)) & found[0].counted).sum()),
            samples=_names(found, rate, margin, counted=True),
            rate=rate,
            p_value=p_values[name],
            adjusted=float(adjusted[name]),
            level=level,
            flagged=bool(adjusted[name] <= level),
            hides=bool(worst[name] <= level < adjusted[name]),
            beside=_names(found, rate, margin, counted=False),
        )
        for name, found in slices.items()
    )


def _names(found: Sequence[Displacement], rate: float, margin: float, counted: bool) -> tuple[str, ...]:
    """Samples of the moved images that are counted, or of those that are not."""
    return tuple(found[0].samples[row] for row in moved_images(found, rate, margin) if found[0].counted[row] == counted)


def any_moved(p_values: Array) -> float:
    """The chance of p-values (N,), NaN where untested, if no image moved (Simes 1986); 1 without any."""
    tested = p_values[np.isfinite(p_values)]
    return float(benjamini_hochberg(tested).min()) if len(tested) else 1.0


def chances(displacements: Sequence[Displacement], margin: float = 0.0, lost_moved: bool = False) -> Array:
    """Conformal p-values (N,) of the images of one slice, NaN where no explainer has a map (Bates et al. 2023).

    An image's distance is the Euclidean norm of its shares outside over explainers, each in units of what nine of ten
    maps of its retrains stay below; a p-value tells how many of the retrains' images lie as far out. On real maps this
    finds more than any explainer alone, and more than distances to the reference, which hold the reference's own noise.
    No p-value is below 1 / (1 + K N), so fewer than 1 / (K rate) moved images, four with five retrains at 5 %, cannot
    be told from chance. An image of which every explainer moves at most ``margin`` has not moved. With ``lost_moved``
    the images whose map the candidate lost count as the furthest.
    """
    distances, usual = _joined(displacements)
    p_values = np.full(len(distances), np.nan)
    tested = np.isfinite(distances)
    p_values[tested] = conformal_p_values(usual, distances[tested])
    small = np.nan_to_num(np.stack([each.outside for each in displacements])).max(axis=0) <= margin
    p_values[tested & small] = 1.0
    if lost_moved:
        p_values[np.any([each.lost for each in displacements], axis=0)] = 1 / (1 + len(usual))
    return p_values


def _joined(displacements: Sequence[Displacement]) -> tuple[Array, Array]:
    """Distances (N,) of the candidate, and (M,) of the retrains' images that every explainer has a map of."""
    units = [
        max(float(np.nanquantile(each.usual, UNIT, method="higher")), SMALLEST) if _known(each) else 1.0
        for each in displacements
    ]
    outside = np.stack([each.outside / unit for each, unit in zip(displacements, units, strict=True)])
    usual = np.sqrt(sum((each.usual / unit) ** 2 for each, unit in zip(displacements, units, strict=True)))
    distances = np.sqrt(np.nansum(outside**2, axis=0))
    distances[np.isnan(outside).all(axis=0)] = np.nan
    return distances, usual[np.isfinite(usual)]


def _known(displacement: Displacement) -> bool:
    return bool(np.isfinite(displacement.usual).any())
