"""Representation difference: groups of images that one version holds alike and the other does not."""

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import SpectralClustering  # type: ignore[import-untyped]

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.inspection.exhibit import Panel, Picture, Shown
from attrail_explainers.inspection.features import features_of
from attrail_explainers.inspection.view import View
from attrail_explainers.parameters import require_layer, require_whole, settle

BETA, GAMMA = (
    5.0,
    80.0,
)  # sharpness of affinities, and of differences over the number of images: as the authors have them
FEWEST = 8  # images, below which neighbourhoods say nothing
LEAST = 0.1  # mean difference, of at most 1, from which on a group is shown


@dataclass(frozen=True)
class RepresentationDifference:
    """Groups of images that are near each other in one version and not in the other.

    That is RDX (Kondapaneni et al., NeurIPS 2025). Distances are ranks among each image's neighbours, so that scales do
    not matter; differences count most where either is small. Groups come from spectral clustering of what is nearer in
    one version, each with the ``pictures`` that belong to it most.
    ``layer`` is where images are compared, the one Grad-CAM takes when None.
    """

    layer: str | None = None
    groups: int = 3
    pictures: int = 9

    title: ClassVar[str] = "Images that one version holds alike and the other does not"

    def __post_init__(self) -> None:
        require_layer(self.layer)
        require_whole("groups", self.groups, 1)
        require_whole("pictures", self.pictures, 2)
        settle(self)

    def show(self, view: View) -> Shown:
        if not view.pair:
            raise UnsupportedModelError("this compares two versions, and one was given")
        count = len(view.compared)
        if count < FEWEST:
            raise UnsupportedModelError(
                f"neighbours among images need at least {FEWEST} of them, the slice has {count}"
            )
        layers = [view.layer_of_evidence(role) for role in view.roles]
        if self.layer is not None:
            layers = view.layers([self.layer]) * 2
        pairs = zip(view.roles, layers, strict=True)
        ranks = [ranks_of(features_of(view, role, [layer], side=1)[layer.name]) for role, layer in pairs]
        rows, panels, arrays = [], list[Panel](), dict[str, NDArray[Any]]()
        for place, (role, layer) in enumerate(zip(view.roles, layers, strict=True)):
            nearer = differences(ranks[place], ranks[1 - place])
            arrays[f"{role}/nearer"] = nearer
            for found, strength in groups_of(nearer, self.groups, self.pictures, view.seed):
                members = view.compared[found]
                names = [view.image_names[each] for each in members]
                rows.append({"held_alike_by": role, "layer": layer.name, "difference": strength, "images": names})
                pictures = tuple(
                    Picture(view.image_names[each], view.slice_.picture(int(view.rows[each]))) for each in members
                )
                panels.append(Panel(layer.name, f"alike to the {role}, not to the other", pictures))
        notes = (
            () if rows else (f"In {layers[0].name} no group of images is clearly nearer to each other in one version.",)
        )
        return Shown(tuple(rows), ("difference",), arrays, tuple(panels), notes)


def groups_of(
    nearer: NDArray[np.float64], groups: int, images: int, seed: int
) -> list[tuple[NDArray[np.int64], float]]:
    """At most so many groups by what is ``nearer`` (N,N), strongest first, weak ones left out.

    Each is its members, at most ``images``, those that belong to it most first, and their mean difference, 0..1.
    """
    affinity = np.exp(BETA * (nearer + nearer.T) / 2)
    wanted = min(groups + 1, len(nearer) // 2)  # one more: most images are in no such group
    clustering = SpectralClustering(wanted, affinity="precomputed", random_state=seed % 2**32)
    labels = clustering.fit_predict(affinity)
    found = []
    for label in range(wanted):
        members = np.flatnonzero(labels == label)
        own = nearer[np.ix_(members, members)]
        own = (own + own.T) / 2
        best = np.argsort(-own.sum(axis=1), kind="stable")[:images]
        others = own[np.ix_(best, best)][~np.eye(len(best), dtype=bool)]
        if len(members) > 1 and others.mean() >= LEAST:
            found.append((members[best], float(others.mean())))
    return sorted(found, key=lambda each: -each[1])[:groups]


def ranks_of(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of features (N,D) the rank (N,N) of each image among the neighbours of every other, 0 for itself."""
    squares = (features**2).sum(axis=1)
    apart = squares[:, None] + squares[None] - 2 * features @ features.T
    np.fill_diagonal(apart, -np.inf)
    return np.argsort(np.argsort(apart, axis=1, kind="stable"), axis=1, kind="stable").astype(np.float64)


def differences(own: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much nearer (N,N) images are by their ``own`` ranks than by ``other`` ones, -1..1, most among neighbours."""
    gamma = GAMMA / len(own)
    return np.asarray(np.tanh(gamma * (other - own) / (np.minimum(own, other) + 1)))


EXHIBIT = RepresentationDifference
