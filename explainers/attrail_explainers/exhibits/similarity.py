"""Similarity: in which layers two versions hold the same images alike, by centred kernel alignment."""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.inspection.exhibit import Panel, Picture, Shown
from attrail_explainers.inspection.features import features_of
from attrail_explainers.inspection.view import View
from attrail_explainers.parameters import require_names, require_whole, settle

FEWEST = 4  # images, below which the unbiased estimator does not exist


@dataclass(frozen=True)
class Similarity:
    """Linear CKA of every pair of layers (Kornblith et al., ICML 2019).

    It is 1 where images are alike in the same way, and 0 where they are not at all. The estimator is the unbiased one
    (Song et al. 2012; Nguyen et al., ICLR 2021), which may fall slightly below 0: with fewer images than features, as
    on slices of some dozen images, the plain one tends to 1 for any two networks.
    ``layers`` are names of layers, at most ``most`` blocks spread from first to last when None.
    """

    layers: tuple[str, ...] | None = None
    most: int = 12

    title: ClassVar[str] = "Similarity of layers"

    def __post_init__(self) -> None:
        if self.layers is not None:
            object.__setattr__(self, "layers", require_names("layers", self.layers))
        require_whole("most", self.most, 1)
        settle(self)

    def show(self, view: View) -> Shown:
        count = len(view.compared)
        if count < FEWEST:
            raise UnsupportedModelError(f"CKA is about at least {FEWEST} images, the slice has {count}")
        layers = {role: view.own_layers(role, self.layers, self.most) for role in view.roles}
        names, others = ([each.name for each in layers[role]] for role in (view.roles[0], view.roles[-1]))
        grams = [[gram(each) for each in features_of(view, role, own).values()] for role, own in layers.items()]
        found = np.array([[cka(one, other) for other in grams[-1]] for one in grams[0]])
        rows = _pair(names, others, found) if view.pair else _alone(names, found)
        across = f"rows: layers of the {view.roles[0]}, columns: of the {view.roles[-1]}, first to last"
        panel = Panel("", "CKA, up to 1", (Picture(across, found.clip(0)),))
        return Shown(
            tuple(rows),
            ("cka",),
            {"cka": found},
            (panel,),
            _sentences(names, found) if names == others and view.pair else (),
        )


def gram(features: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inner products (N,N) of features (N,D), with no product of an image with itself."""
    products = features @ features.T
    np.fill_diagonal(products, 0)
    return np.asarray(products)


def cka(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """Linear CKA of two Gram matrices (N,N) by the unbiased estimator; 0 where all images are one to either."""
    both = hsic(first, second)
    alone = hsic(first, first) * hsic(second, second)
    return float(both / np.sqrt(alone)) if alone > 0 else 0.0


def hsic(first: NDArray[np.float64], second: NDArray[np.float64]) -> float:
    """The unbiased HSIC of two Gram matrices with zero diagonals (Song et al., JMLR 2012, eq. 5)."""
    count = len(first)
    trace = (first * second).sum()
    sums = first.sum() * second.sum() / ((count - 1) * (count - 2))
    cross = 2 * (first.sum(axis=0) @ second.sum(axis=0)) / (count - 2)
    return float((trace + sums - cross) / (count * (count - 3)))


def _pair(names: list[str], others: list[str], found: NDArray[np.float64]) -> list[dict[str, Any]]:
    rows = []
    for place, name in enumerate(names):
        best = int(found[place].argmax())
        same = {"cka": found[place, others.index(name)]} if name in others else {}
        rows.append({"layer": name, **same, "most_like": others[best], "there": found[place, best]})
    return rows


def _alone(names: list[str], found: NDArray[np.float64]) -> list[dict[str, Any]]:
    pairs = pairwise(range(len(names)))
    return [{"layer": names[place], "next": names[after], "cka": found[place, after]} for place, after in pairs]


def _sentences(names: list[str], found: NDArray[np.float64]) -> tuple[str, ...]:
    same = np.diag(found)
    least = int(same.argmin())
    return (
        f"Layers of one name are least alike at {names[least]}, {same[least]:.2f}; at the last one {same[-1]:.2f}.",
    )


EXHIBIT = Similarity
