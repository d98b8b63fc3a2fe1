"""The layer whose activations stand for "where": found among the activations of one call."""

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.working_copy import Activation, WorkingCopy


def target_layer(model: WorkingCopy, size: tuple[int, int], forced: str | None = None) -> str:
    """Name of the submodule that finishes last with activations (N,C,h,w) on a grid larger than 1x1.

    That is the input of the global pooling in convolutional classifiers, the layer Grad-CAM's authors use
    (Selvaraju et al., ICCV 2017, section 3). ``size`` is the images' (H,W). Raises UnsupportedModelError
    when no submodule gives such activations, when tokens or channels-last activations follow (transformers: their
    four-dimensional tensors are no grid of places), or when the ``forced`` layer does not exist.
    """
    if forced is not None:
        if forced not in dict(model.module.named_modules()):
            raise UnsupportedModelError(f"model {model.label} has no layer {forced!r}")
        return forced
    placed = [each for each in model.activations if _has_places(each)]
    if not placed or not _on_grid(placed[-1], size):
        raise UnsupportedModelError(
            f"model {model.label} has no layer with activations on a grid (N,C,h,w) before its pooling, which "
            "gradcam needs: set the explainer's parameter layer, or use shap or lime, which only call the model"
        )
    return placed[-1].layer


def _has_places(found: Activation) -> bool:
    """Whether there is more than one place left: a grid, or tokens (T,C)."""
    return (len(found.shape) == 3 and min(found.shape[1:]) > 1) or (len(found.shape) == 2 and found.shape[0] > 1)


def _on_grid(found: Activation, size: tuple[int, int]) -> bool:
    """Whether the last two dimensions shrink the image about evenly, as strides do and tokens or channels do not."""
    if len(found.shape) != 3:
        return False
    rows, columns = (before / after for before, after in zip(size, found.shape[1:], strict=True))
    return 0.5 < rows / columns < 2
