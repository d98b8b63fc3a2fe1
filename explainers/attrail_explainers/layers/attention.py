"""The attention of a model's blocks, seen where torch computes it, whatever the modules around it are called."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class AttentionTape(TorchFunctionMode):
    """Keeps the attention of every block that runs inside it: the mean over heads (N,queries,keys), in order.

    It sees scaled dot products, fused or exported, ``torch.nn.MultiheadAttention``, whose fast path torch leaves while
    a mode is active, and plain softmax over keys of (N,heads,queries,keys).
    """

    def __init__(self) -> None:
        super().__init__()
        self.blocks: list[torch.Tensor] = []

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        kind = getattr(func, "__name__", "").partition(".")[0]  # "softmax.int" in an exported graph
        if kind == "scaled_dot_product_attention":
            self._keep(_of_products(func, *args, **kwargs))
        elif kind == "multi_head_attention_forward":
            self._keep(func(*args, **{**kwargs, "need_weights": True, "average_attn_weights": False})[1])
        elif kind == "softmax" and _over_keys(output):
            self._keep(output)
        return output

    def _keep(self, weights: torch.Tensor) -> None:
        self.blocks.append(weights.detach().float().mean(dim=1))


def _of_products(
    func: Any, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, *rest: Any, **named: Any
) -> Any:
    """The weights (N,heads,queries,keys): what comes out where every key's value is a unit vector of its own."""
    keys = key.shape[-2]
    units = torch.eye(keys, dtype=value.dtype, device=value.device).expand(*value.shape[:-2], keys, keys)
    weights: torch.Tensor = func(query, key, units, *rest, **named)
    return weights


def _over_keys(output: torch.Tensor) -> bool:
    if output.ndim != 4:
        return False
    total = output.detach().sum(dim=-1)
    return bool(torch.allclose(total, torch.ones_like(total), atol=1e-2))
