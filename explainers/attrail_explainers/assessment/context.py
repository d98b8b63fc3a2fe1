"""A case: the maps under examination, and everything they were made from, so that checks can ask again."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ExplanationError
from attrail_explainers.explainer import Explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import Target
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.slice import Slice


@dataclass(frozen=True)
class Example:
    """One image (C,H,W) on the model's device, its target (one row) and its map (H,W) on the image's grid."""

    image: torch.Tensor
    target: Target
    sample_id: str
    values: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class CheckContext:
    """``maps`` are what ``explainer`` gives for a ``target`` of ``classifier`` on ``slice_`` under ``seed``."""

    classifier: Classifier
    slice_: Slice
    explainer: Explainer
    target: Target
    seed: int
    maps: Attributions

    def __len__(self) -> int:
        return len(self.slice_)

    @property
    def model(self) -> WorkingCopy:
        """Return the classifier's working copy for images of this size."""
        return self.classifier.working_copy(self.slice_.images)

    def examples(self) -> Iterator[tuple[int, Example]]:
        """Row number and example of every image that has a map."""
        for row in np.flatnonzero(self.maps.defined):
            image = torch.from_numpy(np.array(self.slice_.images[row])).to(self.model.device)
            values = on_grid(self.maps.values[row], (image.shape[1], image.shape[2]))
            yield int(row), Example(image, self.target.row(int(row)), self.slice_.pictured[row], values)

    def again(
        self,
        *,
        classifier: Classifier | None = None,
        images: NDArray[np.float32] | None = None,
        seed: int | None = None,
    ) -> NDArray[np.float32]:
        """Maps (N,h,w) of the same explainer with one thing changed; NaN where there is none."""
        slice_ = self.slice_ if images is None else replace(self.slice_, images=images)
        return self._explained(classifier or self.classifier, slice_, self.target, self.seed if seed is None else seed)

    def _explained(self, classifier: Classifier, slice_: Slice, target: Target, seed: int) -> NDArray[np.float32]:
        try:
            (found,) = explain_slice(classifier, slice_, [self.explainer], target, seed)
        except ExplanationError:  # one image without usable outputs, or no image with a map: each for itself
            if len(slice_) == 1:
                return np.full((1, *self.maps.values.shape[1:]), np.nan, dtype=np.float32)
            alone = [
                self._explained(classifier, slice_.rows(slice(row, row + 1)), target.row(row), seed)
                for row in range(len(slice_))
            ]
            return np.concatenate(alone)
        return found.values


def on_grid(values: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float64]:
    """A map (h,w) on a grid of ``size`` (H,W): bilinear between the centres of its cells, as Grad-CAM's are shown."""
    plain = torch.from_numpy(np.asarray(values, dtype=np.float64))
    if plain.shape != size:
        plain = torch.nn.functional.interpolate(plain[None, None], size, mode="bilinear", align_corners=False)[0, 0]
    return np.asarray(plain.numpy())
