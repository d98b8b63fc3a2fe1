"""Semantic segmentation: the model chooses a class for each place of an image."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from attrail_explainers.errors import ConfigError, SliceError
from attrail_explainers.files.index_mask import classes_in
from attrail_explainers.model.last_function import End
from attrail_explainers.model.log_odds import target_log_odds
from attrail_explainers.model.output_scale import OutputScale, place_scale_of
from attrail_explainers.model.task import Answers, Asked, Target, Task, class_indices, tensors_of
from attrail_explainers.parameters import require_names, require_share
from attrail_explainers.slice import NONE, Questions, Slice
from attrail_explainers.tasks.multi_label import label_lists, labelled_rows

KEPT = 2**18  # numbers of an image's outputs that are kept: the places of two classes at 362 pixels, of 150 at 41
AUXILIARY = "aux"  # what torchvision calls the output of a head that only helps in training


@dataclass(frozen=True)
class Segmentation(Task):
    """A class for each place: the mean log odds of a class over a zone are explained, the same zone for every version.

    The zone is where a mask says that the class is, or else where the reference finds it. Seg-Grad-CAM (Vinogradova et
    al., AAAI 2020) sums the class's logits over a zone; their mean, a constant times that, lets zones of any size
    be compared, and is what gradient methods take. What is explained by masking is the mean of the log odds of the
    class against all others at each place, as for single labels: logits of several classes are known but for a number
    that they have in common at each place, and no number may hang on that. Where classes are ``overlapping``, each
    with a sigmoid of its own, the two are one.

    A class that nobody named is asked about where it takes up the ``share`` of an image, background included; ``ask``
    names those that every image is asked about instead. What is decided is whether a version's own mask of the class
    overlaps with the zone by ``iou`` (intersection over union, from 0.5 on as in Kirillov et al., CVPR 2019), which is
    right where the zone is a mask that was given.
    """

    share: float = 0.05
    iou: float = 0.5
    ask: tuple[str, ...] = ()
    overlapping: bool = False

    expected: ClassVar[str] = "logits (N,classes,h,w)"
    asks_by: ClassVar[str] = "zones"
    lacking: ClassVar[bool] = True
    whole: ClassVar[bool] = False

    def __post_init__(self) -> None:
        require_share("share", self.share)
        require_share("iou", self.iou)
        object.__setattr__(self, "ask", require_names("ask", self.ask))
        if not isinstance(self.overlapping, bool):
            raise ConfigError(f"overlapping must be true or false, not {self.overlapping!r}")
        super().__post_init__()

    def score(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        """Row by row, so that a sum over places never depends on which rows stand together."""
        weights = weights_of(asked["zone"], outputs)
        pairs = zip(outputs, asked["class"].tolist(), weights, strict=True)
        return torch.stack([self._mean_log_odds(*each) for each in pairs])

    def _mean_log_odds(self, outputs: torch.Tensor, class_: int, weights: torch.Tensor) -> torch.Tensor:
        """The mean log odds of a class in outputs (C,h,w), each place by its weight (h,w)."""
        inside = weights > 0
        rows = outputs.double()[:, inside].T
        odds = rows[:, class_] if self.overlapping else target_log_odds(rows, class_)
        return (odds * weights[inside]).sum() / weights.sum().clamp(min=torch.finfo(weights.dtype).tiny)

    def slope(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        weights = weights_of(asked["zone"], outputs)
        own = outputs[torch.arange(len(outputs)), asked["class"]]
        size = weights.sum(dim=(1, 2)).clamp(min=torch.finfo(weights.dtype).tiny)
        return (own * (weights / size[:, None, None]).to(own.dtype)).sum(dim=(1, 2))

    def fits(self, part: torch.Tensor, images: int) -> bool:
        return part.is_floating_point() and part.ndim == 4 and len(part) == images

    def parts(self, returned: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """The grids in what a model returned; an auxiliary head's where that is asked for, or there is no other."""
        found = {name: part for name, part in tensors_of(returned).items() if self.fits(part, len(images))}
        main = {name: part for name, part in found.items() if AUXILIARY not in name.split(".")}
        return main if main and self.output not in found else found

    def scale_of(
        self, label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
    ) -> OutputScale:
        return place_scale_of(label, outputs, end, more, precision, overlapping=self.overlapping)

    def rows_of(self, outputs: torch.Tensor) -> torch.Tensor:
        return outputs.mean(dim=(2, 3))

    def kept(self, outputs: torch.Tensor) -> torch.Tensor:
        """The means of cells, so many that an image's outputs are at most ``KEPT`` numbers."""
        shrunk = math.sqrt(KEPT / outputs[0].numel())
        if shrunk >= 1:
            return outputs
        height, width = (max(1, int(side * shrunk)) for side in outputs.shape[2:])
        return functional.adaptive_avg_pool2d(outputs, (height, width))

    def leaves_open(self, slice_: Slice) -> bool:
        return "zone" not in slice_.facts

    def found(self, slice_: Slice, outputs: NDArray[np.float32], classes: Sequence[str] = ()) -> Questions:
        """Where the reference finds the classes that are asked for, or each that takes up the ``share`` of an image."""
        masks = [self._masks(row) for row in outputs]
        if slice_.image_ids is not None:  # a row for each class that is named
            _require_classes(slice_, outputs.shape[1])
            zones = np.stack([mask[label] for mask, label in zip(masks, slice_.labels, strict=True)])
            return Questions(np.arange(len(slice_)), slice_.labels, {"zone": zones})
        found = [(row, label) for row, mask in enumerate(masks) for label in self._large(mask)]
        places, labels = np.array(found, dtype=np.int64).reshape(-1, 2).T
        zones = np.array([masks[row][label] for row, label in found], dtype=np.bool_).reshape(-1, *outputs.shape[2:])
        names = tuple(classes[label] if label < len(classes) else str(label) for _, label in found)
        return Questions(places, labels, {"zone": zones}, names)

    def _masks(self, outputs: NDArray[np.float32]) -> NDArray[np.bool_]:
        """Where outputs (C,h,w) find each class (C,h,w)."""
        if self.overlapping:
            return outputs >= 0
        return np.asarray(outputs.argmax(axis=0)[None] == np.arange(len(outputs))[:, None, None])

    def _large(self, masks: NDArray[np.bool_]) -> list[int]:
        return [int(label) for label in np.flatnonzero(masks.mean(axis=(1, 2)) >= self.share)]

    def asked(self, slice_: Slice) -> Target | None:
        zone = slice_.facts.get("zone")
        return None if zone is None else Target(self, {"class": slice_.labels, "zone": zone})

    def answered(self, slice_: Slice, outputs: NDArray[np.float32]) -> Target:
        asked = self.asked(slice_.asking(self.found(slice_, outputs)))
        if asked is None or len(asked) != len(slice_):
            raise SliceError(f"slice {slice_.name!r} does not say which classes it asks about")
        return asked

    def given(self, targets: Any, images: NDArray[np.float32], names: tuple[str, ...]) -> tuple[Slice, Target | None]:
        """Without targets, or with lists of classes, zones are where the model finds them."""
        if targets is None:
            return Slice("images", images, np.full(len(images), NONE, dtype=np.int64), names), None
        if isinstance(targets, Mapping):
            zones, labels = zones_given(targets, images)
            slice_ = Slice("images", images, labels, names, facts={"zone": zones, "given": np.ones(len(zones), bool)})
            return slice_, self.asked(slice_)
        masks = np.asarray(targets.detach().cpu() if isinstance(targets, torch.Tensor) else targets, dtype=object)
        if masks.ndim < 3:
            return labelled_rows("images", images, names, label_lists(targets, len(images))), None
        return self._of_masks(np.asarray(masks.tolist()), images, names)

    def _of_masks(
        self, masks: NDArray[Any], images: NDArray[np.float32], names: tuple[str, ...]
    ) -> tuple[Slice, Target | None]:
        """Images with masks (N,H,W) of class indices: a row for each class that takes up the ``share``."""
        if masks.shape != (len(images), *images.shape[2:]) or masks.dtype.kind not in "iu":
            raise ConfigError(
                f"targets must be masks of class indices (N,H,W) of images {images.shape}, got {masks.dtype} of shape "
                f"{masks.shape}; or lists of classes, or a zone and a class of each image"
            )
        own = [classes_in(mask, self.share) for mask in masks]
        if not any(own):
            raise ConfigError(f"no class takes up {self.share:.0%} of any mask: there is nothing to explain")
        slice_ = labelled_rows("images", images, names, [np.array(each, dtype=np.int64) for each in own])
        zones = np.stack([masks[row] == label for row, labels in enumerate(own) for label in labels])
        facts = {"zone": zones, "given": np.ones(len(zones), bool)}
        asking = slice_.asking(Questions(np.arange(len(zones)), slice_.labels, facts))
        return asking, self.asked(asking)

    def flaw(self, asked: Mapping[str, NDArray[Any]], count: int) -> str | None:
        classes = asked["class"]
        unknown = (classes < 0) | (classes >= count)
        return f"class {classes[int(unknown.argmax())]} cannot be explained" if unknown.any() else None

    def unanswered(self, outputs: torch.Tensor, asked: Asked) -> dict[int, str]:
        empty = ~asked["zone"].flatten(1).any(dim=1)
        rows = empty.nonzero()[:, 0].tolist()
        return {row: f"its zone is empty: class {int(asked['class'][row])} is nowhere in the image" for row in rows}

    def chosen(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        """The class that was asked where it is chosen for at least half of the zone."""
        weights, classes = weights_of(asked["zone"], outputs), asked["class"]
        own = outputs[torch.arange(len(outputs)), classes]
        there = own >= 0 if self.overlapping else outputs.argmax(dim=1) == classes[:, None, None]
        inside = (there * weights).sum(dim=(1, 2))
        return torch.where(2 * inside >= weights.sum(dim=(1, 2)), classes, NONE)

    def decided(self, slice_: Slice, outputs: NDArray[np.float32], target: Target) -> Answers:
        zones, classes = target.values["zone"], target.classes
        overlaps = np.array([self._overlap(*each) for each in zip(outputs, zones, classes, strict=True)])
        given = slice_.facts.get("given")
        truths = None
        if given is not None and given.all():
            truths = np.where(zones.any(axis=(1, 2)), classes, NONE)
        return Answers(np.where(overlaps >= self.iou, classes, NONE), truths)

    def _overlap(self, outputs: NDArray[np.float32], zone: NDArray[np.bool_], class_: int) -> float:
        """Intersection over union of a zone and where outputs (C,h,w) find its class; 0 where both are empty.

        Logits are brought to the zone's size bilinearly, as segmenters' own post-processing does.
        """
        grid = torch.from_numpy(outputs)[None]
        if grid.shape[2:] != zone.shape:
            grid = functional.interpolate(grid, zone.shape, mode="bilinear", align_corners=False)
        mask = self._masks(grid[0].numpy())[class_]
        return float((mask & zone).sum() / max(1, (mask | zone).sum()))

    def divergence(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """The mean Kullback-Leibler divergence over images and places, in nats; of each class where they overlap."""
        pairs = zip(torch.from_numpy(first), torch.from_numpy(_like(second, first)), strict=True)
        found = [self._divergence(*pair) for pair in pairs]
        return max(0.0, sum(found) / len(found))

    def _divergence(self, first: torch.Tensor, second: torch.Tensor) -> float:
        one, other = (self._log_shares(each.double()) for each in (first, second))
        return float((one.exp() * (one - other)).sum(dim=0).mean())

    def _log_shares(self, outputs: torch.Tensor) -> torch.Tensor:
        """Log-probabilities of the classes at each place, or of a class there and not there, from outputs (C,h,w)."""
        if self.overlapping:
            return torch.stack([functional.logsigmoid(outputs), functional.logsigmoid(-outputs)])
        return outputs.log_softmax(dim=0)

    def churn(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """The share of places of another class, or of places and classes where these overlap."""
        second = _like(second, first)
        if self.overlapping:
            return float(((first >= 0) != (second >= 0)).mean())
        return float((first.argmax(axis=1) != second.argmax(axis=1)).mean())


def _require_classes(slice_: Slice, count: int) -> None:
    unknown = (slice_.labels < 0) | (slice_.labels >= count)
    if unknown.any():
        row = int(unknown.argmax())
        raise SliceError(
            f"slice {slice_.name!r}: image {slice_.sample_ids[row]!r} is asked about class {slice_.labels[row]}, the "
            f"model has {count} classes, 0 and up"
        )


def weights_of(zone: torch.Tensor, outputs: torch.Tensor) -> torch.Tensor:
    """How much of each place of outputs (N,C,h,w) lies in zones (N,H,W) of any resolution: (N,h,w), double, 0..1."""
    size = (outputs.shape[2], outputs.shape[3])
    return functional.adaptive_avg_pool2d(zone.double()[:, None], size)[:, 0]


def zones_given(targets: Mapping[str, Any], images: NDArray[np.float32]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """A zone and a class for each image, from what was given as "zone" and "class"; ConfigError for anything else."""
    if set(targets) != {"zone", "class"}:
        raise ConfigError(f"targets must have a zone and a class of each image, got {', '.join(map(str, targets))}")
    zone = targets["zone"]
    zones = np.asarray(zone.detach().cpu() if isinstance(zone, torch.Tensor) else zone)
    labels = class_indices(targets["class"], "classes")
    if zones.dtype != np.bool_ or zones.ndim != 3 or not len(zones) == len(labels) == len(images):
        raise ConfigError(
            f"targets must be {len(images)} zones (N,H,W) of True and False with a class each, got {zones.dtype} of "
            f"shape {zones.shape} with {len(labels)} classes"
        )
    return zones, labels


def _like(outputs: NDArray[np.float32], other: NDArray[np.float32]) -> NDArray[np.float32]:
    """Outputs (N,C,h,w) on the grid of others, where a version answers in another resolution."""
    if outputs.shape[2:] == other.shape[2:]:
        return outputs
    return np.asarray(
        functional.interpolate(torch.from_numpy(outputs), other.shape[2:], mode="bilinear", align_corners=False).numpy()
    )


TASK = Segmentation
