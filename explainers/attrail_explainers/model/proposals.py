"""Proposals of an object detector: one tensor (N,P,5+C) of whatever detectors return.

A proposal is a box (x0, y0, x1, y1), shares of the image's width and height, its objectness and C class scores, both
0..1; objectness times class score is how sure the model is of that class there. Rows of zeros fill up.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.model.task import tensors_of

Scores = Literal["softmax", "sigmoid"]

CORNERS = 4  # numbers of a box
OBJECTNESS = 4  # where it stands
CLASSES = 5  # from where on class scores stand
MOST = 300  # boxes of an image that a list of boxes keeps, the surest: torchvision's detectors give 100 to 300

# Hugging Face's detectors with a class for "no object", the last one; the others have a sigmoid for each class.
SOFTMAX = {"DetrObjectDetectionOutput", "YolosObjectDetectionOutput", "TableTransformerObjectDetectionOutput"}
LEVELS = 2  # more grids of different shapes than these are levels of a pyramid, whose boxes are still to be decoded
LIST = ("boxes", "scores", "labels")  # torchvision's names


@dataclass(frozen=True)
class ProposalForm:
    """What a model itself does not say of its proposals.

    ``classes``, how many there are, is needed where it gives labels without class scores; ``scores`` where it gives
    logits and boxes without a name by which transformers' models are known. Without ``confidence`` objectness is 1
    where a model has none, else it is the largest class score there.
    """

    classes: int | None = None
    scores: Scores | None = None
    confidence: bool = True

    def read(self, returned: Any, images: torch.Tensor) -> dict[str, torch.Tensor]:
        """Proposals (N,P,5+C) for images (N,C,H,W), by the names of what they were read from.

        Read are, in this order: a dict of boxes, scores and labels for each image (torchvision); logits (N,Q,K) and
        pred_boxes (N,Q,4) (DETR, YOLOS and their like); boxes (N,P,4), scores and labels (N,P), by these names or in a
        tuple of three, also without the N of a single image; each tensor (N,4+C,P) without or (N,P,5+C) with objectness
        (the families of YOLO), or (N,P,6) whose last column holds labels. Raises UnsupportedModelError for what must be
        said by the task's parameters.
        """
        parts = tensors_of(returned)
        for reader in (self._lists, self._queries, self._triple):
            found = reader(returned, parts, images)
            if found is not None:
                return {"": found}
        grids = {name: part for name, part in parts.items() if _is_grid(part, images)}
        if len({part.shape for part in grids.values()}) > LEVELS:
            raise UnsupportedModelError(
                f"the model gives {len(grids)} grids of numbers, as detectors do whose boxes are not decoded yet: log "
                "it with all its boxes in one tensor (N,4+C,P) or (N,P,5+C), in pixels of its input"
            )
        return {name: self._grid(part, images) for name, part in grids.items()}

    def _lists(self, returned: Any, parts: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor | None:
        names = [[f"{row}.{name}" for name in LIST] for row in range(len(images))]
        if not isinstance(returned, list | tuple) or not {name for row in names for name in row} <= set(parts):
            return None
        triples = ((parts[boxes], parts[scores], parts[labels]) for boxes, scores, labels in names)
        return torch.stack([self._filled(*each, images) for each in triples])

    def _queries(self, returned: Any, parts: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor | None:
        logits, boxes = parts.get("logits"), parts.get("pred_boxes")
        if (logits is None or boxes is None) and len(parts) == 2:
            logits, boxes = sorted(parts.values(), key=_are_boxes)
        if logits is None or boxes is None or logits.ndim != 3 or len(logits) != len(images):
            return None
        if not (_are_boxes(boxes) and logits.is_floating_point() and boxes.shape[:-1] == logits.shape[:2]):
            return None
        scores = self.scores or _scores_of(returned)
        if scores == "softmax":
            empty = logits.softmax(dim=2)[:, :, -1:]
            return torch.cat([_corners(boxes), 1 - empty, logits[:, :, :-1].softmax(dim=2)], dim=2)
        return torch.cat([_corners(boxes), self._without_objectness(logits.sigmoid())], dim=2)

    def _triple(self, returned: Any, parts: Mapping[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor | None:
        named = [parts[name] for name in LIST if name in parts]
        boxes, scores, labels = named if len(named) == len(LIST) else _by_shape(list(parts.values()))
        if boxes is None or scores is None or labels is None:
            return None
        if boxes.ndim == 2 and len(images) == 1:
            boxes, scores, labels = boxes[None], scores[None], labels[None]
        if boxes.ndim != 3 or not boxes.shape[:2] == scores.shape == labels.shape or len(boxes) != len(images):
            return None
        return torch.stack([self._filled(*row, images) for row in zip(boxes, scores, labels, strict=True)])

    def _grid(self, part: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
        if part.shape[2] == 6 and bool((part[:, :, 5] == part[:, :, 5].round()).all()):
            rows = zip(part[:, :, :CORNERS], part[:, :, 4], part[:, :, 5], strict=True)
            return torch.stack([self._filled(*row, images) for row in rows])
        if part.shape[1] < part.shape[2]:
            turned = part.transpose(1, 2)
            rest = self._without_objectness(turned[:, :, CORNERS:])
        else:
            turned, rest = part, part[:, :, CORNERS:]
        return torch.cat([_corners(turned[:, :, :CORNERS]) / _extent(images), rest], dim=2)

    def _without_objectness(self, scores: torch.Tensor) -> torch.Tensor:
        """Objectness in front of class scores (N,P,C), so that both multiply to these scores."""
        if not self.confidence:
            return torch.cat([torch.ones_like(scores[:, :, :1]), scores], dim=2)
        largest = scores.amax(dim=2, keepdim=True)
        return torch.cat([largest, scores / largest.clamp(min=torch.finfo(scores.dtype).tiny)], dim=2)

    def _filled(
        self, boxes: torch.Tensor, scores: torch.Tensor, labels: torch.Tensor, images: torch.Tensor
    ) -> torch.Tensor:
        """Proposals (MOST,5+C) of one image's boxes (P,4) in pixels, scores (P,) and labels (P,)."""
        if self.classes is None:
            raise UnsupportedModelError(
                "the model gives labels without scores of all classes: set the task's classes to how many it knows"
            )
        whole = labels.long()
        if len(whole) and not 0 <= int(whole.min()) <= int(whole.max()) < self.classes:
            raise UnsupportedModelError(
                f"the model gives the label {int(whole.max())}, the task says that it knows {self.classes} classes, 0 "
                "and up: set the task's classes to how many it knows, its background among them"
            )
        kept = scores.argsort(descending=True, stable=True)[:MOST].sort().values
        hot = torch.nn.functional.one_hot(whole[kept], self.classes).to(scores.dtype)
        sure = scores[kept, None]
        rest = [sure, hot] if self.confidence else [torch.ones_like(sure), hot * sure]
        found = torch.cat([(boxes[kept] / _extent(images)).to(sure.dtype), *rest], dim=1)
        return torch.nn.functional.pad(found, (0, 0, 0, MOST - len(found)))


def _scores_of(returned: Any) -> Scores:
    name = type(returned).__name__
    if not name.endswith("ObjectDetectionOutput"):
        raise UnsupportedModelError(
            "the model gives logits and boxes and does not say what its logits are: set the task's scores to "
            '"softmax" where the last class means no object, as in DETR and YOLOS, or to "sigmoid"'
        )
    return "softmax" if name in SOFTMAX else "sigmoid"


def _by_shape(parts: list[torch.Tensor]) -> list[torch.Tensor | None]:
    """Boxes, scores and labels of three tensors in any order: labels are whole numbers."""
    if len(parts) != len(LIST):
        return [None, None, None]
    boxes = max(parts, key=lambda each: (_are_boxes(each), each.ndim))
    rest = [each for each in parts if each is not boxes]
    scores, labels = (next((each for each in rest if each.is_floating_point() is kind), None) for kind in (True, False))
    return [boxes if _are_boxes(boxes) else None, scores, labels]


def _is_grid(part: torch.Tensor, images: torch.Tensor) -> bool:
    fitting = part.ndim == 3 and len(part) == len(images)
    return fitting and part.is_floating_point() and min(part.shape[1:]) >= CLASSES


def _are_boxes(part: torch.Tensor) -> bool:
    return part.is_floating_point() and part.shape[-1:] == (CORNERS,)


def _corners(boxes: torch.Tensor) -> torch.Tensor:
    """Boxes (...,4) given by centre, width and height, by their corners."""
    centre, half = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _extent(images: torch.Tensor) -> torch.Tensor:
    """What pixels of images (N,C,H,W) are divided by."""
    height, width = images.shape[2:]
    return torch.tensor([width, height, width, height], dtype=torch.float32, device=images.device)
