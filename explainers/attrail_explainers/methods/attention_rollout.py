"""Attention rollout: how much of each place attention carries to the tokens that the head reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.layers.activations import logits_from
from attrail_explainers.layers.attention import AttentionTape
from attrail_explainers.layers.target_layer import token_layer
from attrail_explainers.model.places import TargetLayer
from attrail_explainers.model.working_copy import WorkingCopy
from attrail_explainers.subject import Subject


@dataclass(frozen=True)
class AttentionRollout:
    """Attention rollout (Abnar & Zuidema, ACL 2020, equation 1) on the grid of tokens.

    The product over blocks of (A + I) / 2, A being the mean over heads of a block's attention. A map is the mean of the
    rows of those tokens that the head reads, which their gradient tells: the class token's, also the distillation
    token's, or all places' where the model averages them. Raises UnsupportedModelError unless every block lets
    all tokens attend to all.
    """

    needs: ClassVar[frozenset[Need]] = frozenset({Need.ATTENTION})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.UNSIGNED, Trait.UNTARGETED})

    def attribute(self, subject: Subject) -> Maps:
        model = subject.model
        tape = AttentionTape()
        with torch.no_grad(), tape:
            model.call(subject.images)
        tokens = _token_count(model, tape.blocks)
        layer = token_layer(model, subject.images, tokens)
        rolled = rollout(tape.blocks, _tokens_read(subject, layer))
        values = layer.places.grid(rolled[:, :, None])[: len(subject), 0].cpu().numpy()
        unread = np.flatnonzero(~np.isfinite(values).all(axis=(1, 2)))
        values[unread] = np.nan
        return Maps(values, {int(row): "the logits depend on no token" for row in unread})


def rollout(blocks: Sequence[torch.Tensor], read: torch.Tensor) -> torch.Tensor:
    """Share 0..1 (N,T) of each token in those that are ``read`` (N,T), from the blocks' attention (N,T,T) in order."""
    shares = (read / read.sum(dim=1, keepdim=True))[:, None]
    for attention in reversed(blocks):
        shares = (shares @ attention + shares) / 2
    return shares[:, 0]


def _token_count(model: WorkingCopy, blocks: Sequence[torch.Tensor]) -> int:
    shapes = {tuple(each.shape) for each in blocks}
    reason = None
    if not shapes:
        reason = "it has no attention"
    elif any(len(shape) != 3 or shape[0] != model.batch for shape in shapes):
        reason = "it attends within windows"
    elif any(queries != keys for _, queries, keys in shapes):
        reason = "it attends from some tokens to others, not from all to all"
    elif len(shapes) > 1:
        reason = "its blocks have different numbers of tokens"
    if reason is not None:
        raise UnsupportedModelError(f"attention_rollout does not apply to model {model.label}: {reason}")
    return shapes.pop()[1]


def _tokens_read(subject: Subject, layer: TargetLayer) -> torch.Tensor:
    """1.0 for each token (N,T) of the layer on which the image's logits depend, whichever class; else 0.0."""
    leaf, logits = logits_from(subject, layer)
    if not logits.requires_grad:  # nothing of the layer is left in the logits
        return torch.zeros(leaf.shape[:2], device=leaf.device)
    (gradients,) = torch.autograd.grad(logits.square().sum(), leaf)
    return gradients.ne(0).any(dim=2).float()


METHOD = AttentionRollout
