"""What the gradient family shares: gradients of the target's logit, and maps made from pixel values."""

from collections.abc import Callable, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import Maps
from attrail_explainers.model.task import Target
from attrail_explainers.model.working_copy import WorkingCopy


def differentiable(model: WorkingCopy, target: Target) -> Callable[[torch.Tensor], torch.Tensor]:
    """The target's number (N,), as its logit, as a function of images, as many as it has rows, or any for one row.

    UnsupportedModelError when no gradient leads back to them.
    """

    def slope(images: torch.Tensor) -> torch.Tensor:
        outputs = model.call(images)
        if not outputs.requires_grad:
            raise UnsupportedModelError(
                f"model {model.label}: no gradient leads back from its outputs to the image; use shap, lime or "
                "occlusion, which only call the model"
            )
        return target.slope(outputs)

    return slope


def gradients_of(model: WorkingCopy, images: torch.Tensor, target: Target) -> torch.Tensor:
    """Gradients (N,C,H,W) of the target's logit, of N rows or one, in images (N,C,H,W). One batch's graph at a time."""
    parts = list[torch.Tensor]()
    for start, chunk in zip(range(0, len(images), model.batch), model.chunks(images), strict=True):
        own = target if len(target) == 1 else target.rows(slice(start, start + len(chunk)))
        leaf = chunk.detach().clone().requires_grad_()
        parts += torch.autograd.grad(differentiable(model, own)(leaf).sum(), leaf)
    return torch.cat(parts)


def target_logits(model: WorkingCopy, images: torch.Tensor, target: Target) -> NDArray[np.float64]:
    """The target's logits (N,) of images (N,C,H,W)."""
    with torch.no_grad():
        return plain(target.slope(model.call(images)))


def maps_of(values: torch.Tensor, diagnostics: Mapping[str, NDArray[np.float64]] | None = None) -> Maps:
    """Maps of values (N,H,W); one that is not finite, or zero everywhere, is undefined."""
    found = values.detach().float().cpu().numpy()
    undefined = {}
    for row, each in enumerate(found):
        if not np.isfinite(each).all():
            undefined[row] = "its gradients are not finite"
        elif not each.any():
            undefined[row] = "no pixel has any influence: the map is zero everywhere"
    found[list(undefined)] = np.nan
    return Maps(found, undefined, diagnostics or {})


def completeness_residual(
    values: torch.Tensor, full: NDArray[np.float64], empty: NDArray[np.float64]
) -> dict[str, NDArray[np.float64]]:
    """Sum of each map (N,H,W) less the change of the target logit (N,) from baseline to image: ideally 0."""
    return {"completeness_residual": plain(values.double().sum(dim=(1, 2))) - (full - empty)}


def plain(values: torch.Tensor) -> NDArray[np.float64]:
    """A tensor's numbers in double precision."""
    return np.asarray(values.detach().double().cpu().numpy())
