"""Adversarial: how little an image must be changed for a version to decide otherwise."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.inspection.exhibit import Panel, Picture, Shown
from attrail_explainers.inspection.view import View
from attrail_explainers.model.task import SINGLE_LABEL, TASKS, Target
from attrail_explainers.parameters import require_whole, settle

NORMS = ("l2", "linf")
BY_SIGN = ("binary", "multi_label")  # tasks in which the sign of a score is the decision
BEYOND = 1.02  # steps go this much further than the decision's border, as the authors have it
LEAST = 1e-4  # of log odds beyond the border that a step aims at, where it is all but there
HALVINGS = 5  # of the way back to the border: a change is at most 3 % of its first length too long
PRECISION = 0.05  # sizes that differ by less are alike
AT_ONCE = 64  # images whose changes are held at once


@dataclass(frozen=True)
class Adversarial:
    """The smallest change that was found to flip each image's decision, in L2 and Linf, for every version.

    DeepFool's steps (Moosavi-Dezfooli et al., CVPR 2016) towards the strongest rival, then halving of the way back to
    the border. What is found is an upper bound: a smaller change may exist. Sizes are those of pixels of 0..1, which
    changed images keep to, where the slice's preprocessing is known, else of the model's input. foolbox's last release
    is of March 2024, torchattacks' of 2023: this takes neither. ``steps`` are the most for each image, ``pictures`` how
    many changes are shown.
    """

    steps: int = 12
    pictures: int = 3

    title: ClassVar[str] = "How little flips the decision"

    def __post_init__(self) -> None:
        require_whole("steps", self.steps, 1)
        require_whole("pictures", self.pictures, 1)
        settle(self)

    def show(self, view: View) -> Shown:
        margin = margin_of(view.target)
        rows = np.arange(len(view.slice_)) if margin.by_question else view.rows
        sizes, drawn = dict[tuple[str, str], NDArray[np.float64]](), dict[str, NDArray[np.float32]]()
        for role in view.roles:
            for norm in NORMS:
                sizes[role, norm], changes = self._found(_Attack(view, role, margin, norm), rows)
                if norm == NORMS[0]:
                    drawn[role] = np.nan_to_num(changes.mean(axis=1))
        ids = view.slice_.sample_ids if margin.by_question else view.slice_.pictured
        names = [ids[row] for row in rows]
        table = [
            {"image": name, **{norm: {role: sizes[role, norm][place] for role in view.roles} for norm in NORMS}}
            for place, name in enumerate(names)
        ]
        panels = tuple(
            Panel("", f"smallest L2 change of {name}", tuple(Picture(role, drawn[role][place]) for role in view.roles))
            for place, name in enumerate(names[: self.pictures])
        )
        arrays: dict[str, NDArray[Any]] = {f"{role}/{norm}": each for (role, norm), each in sizes.items()}
        return Shown(tuple(table), NORMS, arrays, panels, _sentences(view, sizes))

    def _found(self, attack: "_Attack", rows: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        """The sizes (N,) of the smallest changes found, NaN where there is none, and the first of these themselves."""
        sizes, some = list[NDArray[np.float64]](), list[NDArray[np.float32]]()
        for start in range(0, len(rows), AT_ONCE):
            changes = attack.run(rows[start : start + AT_ONCE], self.steps)
            sizes.append(size_of(changes, attack.norm))
            some += list(changes[: self.pictures - len(some)]) if len(some) < self.pictures else []
        return np.concatenate(sizes), np.stack(some)


@dataclass(frozen=True)
class DecisionMargin:
    """By how much outputs (N,...) decide as they did: above 0 while the decision stands.

    With ``by_question`` each row of the slice is decided by itself, by the sign of its score; else it is the class of
    each image, against its strongest rival.
    """

    target: Target
    by_question: bool

    def of(self, outputs: torch.Tensor, rows: NDArray[np.int64], decided: torch.Tensor) -> torch.Tensor:
        """The margin (N,) of outputs for some rows of the slice, which were ``decided`` as (N,) says."""
        if self.by_question:
            return self.target.rows(rows).score(outputs) * decided
        own = outputs.gather(1, decided[:, None])[:, 0]
        rivals = outputs.scatter(1, decided[:, None], -torch.inf).amax(dim=1)
        return (own - rivals).double()

    def decided(self, outputs: torch.Tensor, rows: NDArray[np.int64]) -> torch.Tensor:
        """What is decided (N,): a class, or the sign of the score."""
        if self.by_question:
            return torch.where(self.target.rows(rows).score(outputs) >= 0, 1.0, -1.0).double()
        return outputs.argmax(dim=1)


def margin_of(target: Target) -> DecisionMargin:
    """The margin of a target's decisions; UnsupportedModelError where its task decides nothing that could flip."""
    if TASKS.name_of(target.task) == SINGLE_LABEL:
        return DecisionMargin(target, by_question=False)
    if TASKS.name_of(target.task) in BY_SIGN:
        return DecisionMargin(target, by_question=True)
    raise UnsupportedModelError(
        f"task {TASKS.name_of(target.task)!r} has no score whose sign is a decision: a change cannot flip it"
    )


class _Attack:
    """Changes images of a slice, as little as DeepFool finds, until one version decides otherwise about them."""

    def __init__(self, view: View, role: str, margin: DecisionMargin, norm: str) -> None:
        self.view, self.role, self.margin, self.norm = view, role, margin, norm
        self.model = view.models[role]
        channels, preprocessing = view.slice_.images.shape[1], view.slice_.preprocessing
        mean, std = (0.0,) * channels, (1.0,) * channels
        if preprocessing is not None:
            mean, std = preprocessing.mean, preprocessing.std
        level, spread = (torch.tensor(each, device=self.model.device)[:, None, None] for each in (mean, std))
        self.unit = 1 / spread  # of a pixel, in the model's input
        self.bounds = None if preprocessing is None else (-level / spread, (1 - level) / spread)

    def run(self, rows: NDArray[np.int64], steps: int) -> NDArray[np.float32]:
        """The changes (N,C,H,W) of some rows, in units of pixels, NaN where none was found."""
        images = self.view.images(rows, self.role)
        with torch.no_grad():
            decided = self.margin.decided(self.model.call(images), rows)
        change, left = torch.zeros_like(images), np.arange(len(rows))
        for _ in range(steps + 1):  # the last one only looks
            stands = []
            for place in np.array_split(left, max(1, -(-len(left) // self.model.batch))):
                stepped, standing = self._step(images[place], change[place], rows[place], decided[place])
                change[place] = stepped
                stands.append(place[standing])
            left = np.concatenate(stands)
            if not len(left):
                break
        self._halve(images, change, rows, decided, np.setdiff1d(np.arange(len(rows)), left))
        values = (change / self.unit).float().cpu().numpy()
        values[left] = np.nan
        return values

    def _step(
        self, images: torch.Tensor, change: torch.Tensor, rows: NDArray[np.int64], decided: torch.Tensor
    ) -> tuple[torch.Tensor, NDArray[np.bool_]]:
        """The changes after one more of DeepFool's steps, of those alone whose decision still stands; and which do."""
        leaf = (images + change).detach().requires_grad_()
        outputs = self.model.call(leaf)
        if not outputs.requires_grad:
            raise UnsupportedModelError(
                f"model {self.model.label}: no gradient leads back from its outputs to the image, along which it could "
                "be changed"
            )
        margin = self.margin.of(outputs, rows, decided)
        (gradient,) = torch.autograd.grad(margin.sum(), leaf)
        gradient, stands = gradient * self.unit, margin.detach() > 0
        far = (margin.detach() + LEAST).to(gradient)[:, None, None, None]
        if self.norm == "linf":
            step = gradient.sign() * far / gradient.abs().sum(dim=(1, 2, 3), keepdim=True).clamp_min(1e-12)
        else:
            step = gradient * far / gradient.square().sum(dim=(1, 2, 3), keepdim=True).clamp_min(1e-24)
        stepped = self._inside(images + change - BEYOND * step * self.unit) - images
        return torch.where(stands.to(images.device)[:, None, None, None], stepped, change), stands.cpu().numpy()

    def _inside(self, changed: torch.Tensor) -> torch.Tensor:
        """Changed images, kept to what pixels can be."""
        if self.bounds is None:
            return changed
        return torch.maximum(torch.minimum(changed, self.bounds[1]), self.bounds[0])

    def _halve(
        self,
        images: torch.Tensor,
        change: torch.Tensor,
        rows: NDArray[np.int64],
        decided: torch.Tensor,
        flipped: NDArray[np.int64],
    ) -> None:
        """Leave of each change that flipped a decision the shortest part that still does."""
        if not len(flipped):
            return
        least, most = (torch.full((len(flipped), 1, 1, 1), each, device=images.device) for each in (0.0, 1.0))
        for _ in range(HALVINGS):
            middle = (least + most) / 2
            with torch.no_grad():
                outputs = self.model.call(images[flipped] + middle * change[flipped])
                stands = self.margin.of(outputs, rows[flipped], decided[flipped]) > 0
            stands = stands.to(images.device)[:, None, None, None]
            least, most = torch.where(stands, middle, least), torch.where(stands, most, middle)
        change[flipped] = change[flipped] * most


def size_of(changes: NDArray[np.float32], norm: str) -> NDArray[np.float64]:
    """The size (N,) of changes (N,C,H,W) in a norm; NaN where there is none."""
    flat = changes.reshape(len(changes), -1).astype(np.float64)
    return np.asarray(np.sqrt((flat**2).sum(axis=1)) if norm == "l2" else np.abs(flat).max(axis=1))


def _sentences(view: View, sizes: Mapping[tuple[str, str], NDArray[np.float64]]) -> tuple[str, ...]:
    unit = "pixels of 0..1" if view.slice_.preprocessing else "the model's input"
    found = [f"Sizes are in units of {unit}, and upper bounds: a smaller change may exist."]
    for norm, spoken in zip(NORMS, ("L2", "Linf"), strict=True):
        parts = []
        for role in view.roles:
            known = sizes[role, norm][np.isfinite(sizes[role, norm])]
            middle = f"{np.median(known):.3g}" if len(known) else "none"
            lost = len(sizes[role, norm]) - len(known)
            parts.append(f"{role} {middle}" + (f" ({lost} did not flip)" if lost else ""))
        sentence = f"Median {spoken}: {', '.join(parts)}"
        if view.pair:
            first, second = (sizes[role, norm] for role in view.roles)
            both = np.isfinite(first) & np.isfinite(second)
            easier, harder = (
                (one < (1 - PRECISION) * other)[both].sum() for one, other in ((second, first), (first, second))
            )
            sentence += f"; of {both.sum()} images {easier} are easier to flip in the candidate, {harder} harder"
        found.append(sentence + ".")
    return tuple(found)


EXHIBIT = Adversarial
