"""The layer whose activations stand for "where": found by running the model once."""

from collections.abc import Callable

import torch

from attrail_explainers.classifier import Classifier
from attrail_explainers.errors import UnsupportedModelError


def target_layer(classifier: Classifier, images: torch.Tensor) -> str:
    """Name of the submodule that finishes last with activations (N,C,h,w) on a grid larger than 1x1.

    That is the input of the global pooling in convolutional classifiers, the layer Grad-CAM's authors use
    (Selvaraju et al., ICCV 2017, section 3). ``images`` is one batch (N,C,H,W). Raises UnsupportedModelError
    when no submodule gives such activations, when tokens or channels-last activations follow (transformers: their
    four-dimensional tensors are no grid of places), or when the configured layer does not exist.
    """
    modules = dict(classifier.module.named_modules())
    if classifier.target_layer is not None:
        if classifier.target_layer not in modules:
            raise UnsupportedModelError(f"model {classifier.label} has no layer {classifier.target_layer!r}")
        return classifier.target_layer
    finished: list[str | None] = []

    def keep(name: str) -> Callable[[torch.nn.Module, object, object], None]:
        def hook(module: torch.nn.Module, arguments: object, output: object) -> None:
            if isinstance(output, torch.Tensor) and _has_places(output):
                finished.append(name if _on_grid(output, images) else None)

        return hook

    with classifier.evaluating(), torch.inference_mode():
        handles = [module.register_forward_hook(keep(name)) for name, module in modules.items() if name]
        try:
            classifier.call(images, hooked=True)
        finally:
            for handle in handles:
                handle.remove()
    if not finished or finished[-1] is None:
        raise UnsupportedModelError(
            f"model {classifier.label} has no layer with activations on a grid (N,C,h,w) before its pooling, which "
            "gradcam needs: set the explainer's parameter layer, or use shap or lime, which only call the model"
        )
    return finished[-1]


def _has_places(output: torch.Tensor) -> bool:
    """Whether there is more than one place left: a grid, or tokens (N,T,C)."""
    return (output.ndim == 4 and min(output.shape[2:]) > 1) or (output.ndim == 3 and output.shape[1] > 1)


def _on_grid(output: torch.Tensor, images: torch.Tensor) -> bool:
    """Whether the last two dimensions shrink the image about evenly, as strides do and tokens or channels do not."""
    if output.ndim != 4:
        return False
    rows, columns = (before / after for before, after in zip(images.shape[2:], output.shape[2:], strict=True))
    return 0.5 < rows / columns < 2
