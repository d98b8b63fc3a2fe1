"""The layer whose activations stand for "where": found by running the model once."""

from collections.abc import Callable

import torch

from attrail_explainers.classifier import Classifier
from attrail_explainers.errors import UnsupportedModelError


def target_layer(classifier: Classifier, images: torch.Tensor) -> str:
    """Name of the submodule that finishes last with activations (N,C,h,w) on a grid larger than 1x1.

    That is the input of the global pooling in convolutional classifiers, the layer Grad-CAM's authors use
    (Selvaraju et al., ICCV 2017, section 3). ``images`` is one batch (N,C,H,W). Raises UnsupportedModelError
    when no submodule gives such activations, or when the configured layer does not exist.
    """
    modules = dict(classifier.module.named_modules())
    if classifier.target_layer is not None:
        if classifier.target_layer not in modules:
            raise UnsupportedModelError(f"model {classifier.label} has no layer {classifier.target_layer!r}")
        return classifier.target_layer
    finished: list[str] = []

    def keep(name: str) -> Callable[[torch.nn.Module, object, object], None]:
        def hook(module: torch.nn.Module, arguments: object, output: object) -> None:
            if isinstance(output, torch.Tensor) and output.ndim == 4 and min(output.shape[2:]) > 1:
                finished.append(name)

        return hook

    with classifier.evaluating(), torch.inference_mode():
        handles = [module.register_forward_hook(keep(name)) for name, module in modules.items() if name]
        try:
            classifier.call(images, hooked=True)
        finally:
            for handle in handles:
                handle.remove()
    if not finished:
        raise UnsupportedModelError(
            f"model {classifier.label} has no layer with activations on a grid (N,C,h,w), which gradcam needs: "
            "use shap or lime, which only call the model"
        )
    return finished[-1]
