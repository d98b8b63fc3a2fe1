"""Detection: the model finds objects, each with a box and a class."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from attrail_explainers.errors import ConfigError, SliceError, UnsupportedModelError
from attrail_explainers.model.last_function import End
from attrail_explainers.model.output_scale import Outputs, OutputScale
from attrail_explainers.model.proposals import CLASSES, CORNERS, OBJECTNESS, ProposalForm, Scores
from attrail_explainers.model.task import Answers, Asked, Target, Task, class_indices
from attrail_explainers.parameters import require_choice, require_share, require_whole
from attrail_explainers.slice import NONE, Questions, Slice, told_apart

BoxFormat = Literal["xyxy", "xywh"]

BLOCK = 64  # images whose outputs are looked at together
SURE = 10  # boxes of an image, the surest, by which two versions are compared
CORNER = 0.04  # of the image: boxes that lie so near its corner, all of them, are no pixels but shares
KEPT = 300  # proposals of an image that are kept for decisions: no picture has so many objects, some grids have 25,000
TINY = torch.finfo(torch.float64).tiny
LOST = "no box that this version detects overlaps the one that is asked about"


@dataclass(frozen=True)
class Detection(Task):
    """Objects are found: how well a model finds a box of a class is explained, by the score of D-RISE.

    That is the largest, over proposals, of the overlap with the box (intersection over union) times the cosine of class
    scores times objectness (Petsiuk et al., CVPR 2021). The class scores of a box that is given are one-hot, those of a
    box that the reference found are its own: as in the paper, which takes the cosine of both, never the probability.
    The paper leaves the last factor out where a model has no objectness; here it is the largest class score then,
    because grids propose boxes everywhere and the faintest scores still point somewhere; ``confidence`` false leaves it
    out. Gradient methods take the log odds of the asked class in the proposal that scores highest (as Zhao & Chan, ICLR
    2023, take that of a prediction): cosine and overlap are flat at their best.

    The rows of a slice are boxes, and all those of an image share its evaluations. A slice's table has them in its
    column ``boxes``, in pixels of the picture as ``format`` says, or its section names a file of COCO's; else the boxes
    are asked about that the reference detects. A proposal is detected from the confidence ``threshold`` on, objectness
    times class score, and matches a box from the overlap ``iou`` on. ``classes`` and ``scores`` say what some models do
    not: see ``ProposalForm``.
    """

    threshold: float = 0.5
    iou: float = 0.5
    format: BoxFormat = "xyxy"
    classes: int | None = None
    scores: Scores | None = None
    confidence: bool = True

    answers: ClassVar[str] = "classes of objects"
    expected: ClassVar[str] = (
        "boxes, scores and labels for each image, logits (N,Q,K) with pred_boxes (N,Q,4), or proposals (N,4+C,P) or "
        "(N,P,5+C)"
    )
    asks_by: ClassVar[str] = "boxes"
    link: ClassVar[bool] = False
    lacking: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for name in ("threshold", "iou"):
            require_share(name, getattr(self, name))
        require_choice("format", self.format, ("xyxy", "xywh"))
        if self.classes is not None:
            require_whole("classes", self.classes, 1)
        if self.scores is not None:
            require_choice("scores", self.scores, ("softmax", "sigmoid"))
        if not isinstance(self.confidence, bool):
            raise ConfigError(f"confidence must be true or false, not {self.confidence!r}")
        super().__post_init__()

    def score(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return similarities(outputs, asked).amax(dim=1)

    def slope(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        best = similarities(outputs.detach(), asked).argmax(dim=1)
        rows = torch.arange(len(outputs), device=outputs.device)
        chosen = outputs[rows, best]
        sure = chosen[:, OBJECTNESS] * chosen[:, CLASSES:][rows, asked["class"].clamp(min=0)]
        return sure.logit(eps=torch.finfo(sure.dtype).eps)

    def parts(self, returned: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
        return ProposalForm(self.classes, self.scores, self.confidence).read(returned, images)

    def count(self, shape: tuple[int, ...]) -> int:
        return shape[-1] - CLASSES

    def scale_of(
        self, label: str, outputs: torch.Tensor, end: End | None, more: Callable[[], torch.Tensor], precision: float
    ) -> OutputScale:
        for each in (outputs, more()):
            shares = each[:, :, OBJECTNESS:]
            if not bool(((shares >= -precision) & (shares <= 1 + 16 * precision)).all()):
                raise UnsupportedModelError(
                    f"model {label} returns {float(shares.amin()):.3g} to {float(shares.amax()):.3g} where objectness "
                    "and class scores between 0 and 1 were expected: log it with its scores as probabilities"
                )
            if 0 < float(each[:, :, :CORNERS].amax()) < CORNER:
                raise UnsupportedModelError(
                    f"model {label} returns boxes that all lie in the image's first corner, as shares of its size "
                    "would: log it with its boxes in pixels of its input"
                )
        return OutputScale(Outputs.BOXES)

    def rows_of(self, outputs: torch.Tensor) -> torch.Tensor:
        return confidences(outputs).amax(dim=1)

    def kept(self, outputs: torch.Tensor) -> torch.Tensor:
        """The ``KEPT`` surest proposals, in the model's own order."""
        if outputs.shape[1] <= KEPT:
            return outputs
        surest = confidences(outputs).amax(dim=2).topk(KEPT, dim=1).indices.sort(dim=1).values
        return outputs.gather(1, surest[:, :, None].expand(-1, -1, outputs.shape[2]))

    def leaves_open(self, slice_: Slice) -> bool:
        return "box" not in slice_.facts

    def found(self, slice_: Slice, outputs: NDArray[np.float32], classes: Sequence[str] = ()) -> Questions:
        """The objects that the reference detects, the surest of each image first."""
        objects = [self._detected(torch.from_numpy(np.array(row))).numpy() for row in outputs]
        labels = [each[:, CLASSES:].argmax(axis=1).astype(np.int64) for each in objects]
        places = np.repeat(np.arange(len(objects)), [len(each) for each in objects])
        every = np.concatenate(objects)
        called = dict(enumerate(classes))
        names = [told_apart(called.get(label, str(label)) for label in own.tolist()) for own in labels]
        facts = {"box": every[:, :CORNERS], "scores": every[:, CLASSES:]}
        return Questions(places, np.concatenate(labels), facts, sum(names, ()))

    def asked(self, slice_: Slice) -> Target | None:
        facts = {name: slice_.facts[name] for name in ("box", "scores") if name in slice_.facts}
        return Target(self, {"class": slice_.labels, **facts}) if "box" in facts else None

    def answered(self, slice_: Slice, outputs: NDArray[np.float32]) -> Target:
        asked = self.asked(slice_)
        if asked is None:
            raise SliceError(f"slice {slice_.name!r} does not say which boxes it asks about")
        return asked

    def given(self, targets: Any, images: NDArray[np.float32], names: tuple[str, ...]) -> tuple[Slice, Target | None]:
        plain = Slice("images", images, np.full(len(images), NONE, dtype=np.int64), names)
        if targets is None:
            return plain, None
        boxes, labels = zip(*_given_boxes(targets, len(images)), strict=True)
        extent = np.array([images.shape[3], images.shape[2]] * 2, dtype=np.float32)
        places = np.repeat(np.arange(len(images)), [len(each) for each in labels])
        told: tuple[str, ...] = sum((told_apart(map(str, own.tolist())) for own in labels), ())
        slice_ = plain.asking(Questions(places, np.concatenate(labels), {"box": np.concatenate(boxes) / extent}, told))
        return slice_, self.asked(slice_)

    def flaw(self, asked: Mapping[str, NDArray[Any]], count: int) -> str | None:
        unknown = (asked["class"] < 0) | (asked["class"] >= count)
        return f"a box of class {asked['class'][unknown][0]} cannot be explained" if unknown.any() else None

    def unanswered(self, outputs: torch.Tensor, asked: Asked) -> dict[int, str]:
        found, _ = self._matched(outputs, asked)
        return dict.fromkeys((found == NONE).nonzero()[:, 0].tolist(), LOST)

    def chosen(self, outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
        return self._matched(outputs, asked)[0]

    def decided(self, slice_: Slice, outputs: NDArray[np.float32], target: Target) -> Answers:
        rows = [slice(start, start + BLOCK) for start in range(0, len(slice_), BLOCK)]
        pairs = [self._matched(torch.from_numpy(np.array(outputs[each])), _asked(target.rows(each))) for each in rows]
        found, sure = (torch.cat(each).numpy() for each in zip(*pairs, strict=True))
        truths = None if "scores" in target.values else slice_.labels
        return Answers(found, truths, sure.astype(np.float64).clip(0, 1))

    def divergence(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """How far the scores of the first's surest boxes are off in the second, mean of images; 0..1 for detectors."""
        return sum(self._moved(*each) for each in _pairs(first, second)) / len(first)

    def churn(self, first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
        """The share of all boxes that are detected by one version and not by the other."""
        both = [pair for one, two in _pairs(first, second) for pair in ((one, two), (two, one))]
        lost, boxes = np.array([self._lost(*pair) for pair in both]).reshape(-1, 2).sum(axis=0)
        return float(lost / boxes) if boxes else 0.0

    def _matched(self, outputs: torch.Tensor, asked: Asked) -> tuple[torch.Tensor, torch.Tensor]:
        """The class (N,) that is detected where the box is, ``NONE`` for none, and how sure that answer is.

        The class that is asked about, where it is among them, else the surest.
        """
        there = overlaps(outputs, asked["box"])[:, :, None] >= self.iou
        sure = torch.where(there, confidences(outputs), 0).amax(dim=1)
        asked_about = asked["class"].clamp(min=0)[:, None]
        own, (surest, label) = sure.gather(1, asked_about), sure.max(dim=1, keepdim=True)
        known, detected = own >= self.threshold, surest >= self.threshold
        classes = torch.where(known, asked_about, torch.where(detected, label, NONE))
        return classes[:, 0], torch.where(known, own, torch.where(detected, surest, 1 - surest))[:, 0]

    def _detected(self, proposals: torch.Tensor) -> torch.Tensor:
        """The proposals (B,5+C) of (P,5+C) that are detected, the surest first, one for each object."""
        sure, labels = confidences(proposals).max(dim=1)
        there = sure >= self.threshold
        kept = batched_nms(proposals[there, :CORNERS].float(), sure[there].float(), labels[there], self.iou)
        return proposals[there][kept]

    def _moved(self, one: torch.Tensor, two: torch.Tensor) -> float:
        surest = self._detected(one)[:SURE]
        if not len(surest):
            surest = one[confidences(one).amax(dim=1).argmax()][None]
        asked = {"box": surest[:, :CORNERS], "scores": surest[:, CLASSES:]}
        before, after = (self.score(each.expand(len(surest), *each.shape), asked) for each in (one, two))
        return float((before - after).abs().mean())

    def _lost(self, one: torch.Tensor, two: torch.Tensor) -> tuple[int, int]:
        """How many of the first's boxes the second does not detect, and how many there are."""
        boxes = self._detected(one)
        labels = boxes[:, CLASSES:].argmax(dim=1)
        asked = {"box": boxes[:, :CORNERS], "class": labels}
        found, _ = self._matched(two.expand(len(boxes), *two.shape), asked)
        return int((found != labels).sum()), len(boxes)


def confidences(proposals: torch.Tensor) -> torch.Tensor:
    """How sure a model is of each class (...,C) in proposals (...,5+C), 0..1."""
    return proposals[..., OBJECTNESS : OBJECTNESS + 1] * proposals[..., CLASSES:]


def overlaps(outputs: torch.Tensor, box: torch.Tensor) -> torch.Tensor:
    """Intersection over union (N,P), 0..1, of proposals (N,P,5+C) with a box (N,4) each."""
    boxes, own = outputs[:, :, :CORNERS].double(), box.double()[:, None]
    sides = torch.minimum(boxes[..., 2:], own[..., 2:]) - torch.maximum(boxes[..., :2], own[..., :2])
    shared = sides.clamp(min=0).prod(dim=-1)
    areas = [(each[..., 2:] - each[..., :2]).clamp(min=0).prod(dim=-1) for each in (boxes, own)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=TINY)


def similarities(outputs: torch.Tensor, asked: Asked) -> torch.Tensor:
    """D-RISE's similarity (N,P), in double precision, of proposals (N,P,5+C) to the box that each row asks about.

    Where no proposal of any row overlaps, it is not worth more than 0 there: only others are looked at.
    """
    overlap = overlaps(outputs, asked["box"])
    near = (overlap > 0).any(dim=0)
    if not near.any():
        return overlap * outputs[:, :, OBJECTNESS]
    classes = outputs[:, near, CLASSES:]
    lengths = torch.linalg.vector_norm(classes, dim=2, dtype=torch.float64).clamp(min=TINY)
    if "scores" in asked:
        wanted = torch.nn.functional.normalize(asked["scores"].double(), dim=1)
        alike = (classes * wanted[:, None]).sum(dim=2) / lengths
    else:
        label = asked["class"].clamp(min=0)[:, None, None].expand(-1, classes.shape[1], -1)
        alike = classes.gather(2, label)[:, :, 0] / lengths
    found = torch.zeros_like(overlap)
    found[:, near] = overlap[:, near] * alike * outputs[:, near, OBJECTNESS].double()
    return found


def _asked(target: Target) -> Asked:
    return {name: torch.from_numpy(np.array(each)) for name, each in target.values.items()}


def _pairs(first: NDArray[np.float32], second: NDArray[np.float32]) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Two versions' proposals (P,5+C), image by image."""
    for one, two in zip(first, second, strict=True):
        yield torch.from_numpy(np.array(one)), torch.from_numpy(np.array(two))


def _given_boxes(targets: Any, images: int) -> Iterator[tuple[NDArray[np.float32], NDArray[np.int64]]]:
    """Boxes (B,4) and labels (B,) of each image, from dicts as torchvision's detectors are trained with."""
    dicts = isinstance(targets, Sequence) and all(isinstance(each, Mapping) for each in targets)
    if not dicts or any(not {"boxes", "labels"} <= set(each) for each in targets):
        raise ConfigError("targets must be a dict for each image, of its boxes (B,4) in pixels and their labels (B,)")
    if len(targets) != images:
        raise ConfigError(f"targets must be boxes of {images} images, got those of {len(targets)}")
    if not any(len(each["labels"]) for each in targets):
        raise ConfigError("no image has a box: there is nothing to explain")
    for place, each in enumerate(targets):
        count = len(each["labels"])
        labels = class_indices(each["labels"] if count else np.zeros(0, dtype=np.int64), "labels")
        boxes = torch.as_tensor(each["boxes"], dtype=torch.float32).detach().cpu().numpy()
        if not count and not len(boxes):
            boxes = boxes.reshape(0, CORNERS)
        if boxes.shape != (count, CORNERS) or not np.isfinite(boxes).all() or not (boxes[:, 2:] > boxes[:, :2]).all():
            raise ConfigError(
                f"targets of image {place} must be a box (x0, y0, x1, y1) in pixels, x0 < x1 and y0 < y1, for each of "
                f"{count} labels, got boxes of shape {boxes.shape}: {boxes[:1].tolist()}"
            )
        yield boxes, labels


TASK = Detection
