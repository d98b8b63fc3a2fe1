"""The network of the second zoo: EfficientNet-lite0 at 96 pixels, its first blocks as ImageNet left them."""

import hashlib
import sys
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from marks import CODES

sys.path.append(str(Path(__file__).parents[1] / "bench"))

from real import lite0

NAME = "lite0"
SIDE = 96  # pixels
FROZEN = 5  # blocks, of seven: those behind them and the head are trained, 2.7 of 3.4 million weights
MOST = 2000  # batches kept, about a gigabyte

_kept: dict[tuple[object, ...], torch.Tensor] = {}


class Enlarged(torch.nn.Module):
    """Pictures (N,C,32,32) in -2..2 as the network was trained on, (N,3,96,96) in -1..1; grey ones three times."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        coloured = images.expand(-1, 3, -1, -1) / 2
        return torch.nn.functional.interpolate(coloured, size=(SIDE, SIDE), mode="bilinear")


class Frozen(torch.nn.Sequential):
    """The layers that no training changes.

    What they give for a batch is kept in this process, so that all models that share them pay for it once. It is
    computed where their weights were changed after all, where gradients are asked for and where hooks listen.
    """

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        listened = any(each._forward_hooks for each in self.modules())
        if torch.is_grad_enabled() or listened or not self._unchanged():
            return super().forward(images)
        content = hashlib.sha256(images.contiguous().numpy().tobytes()).digest()
        key = (content, tuple(images.shape), images.stride(), images.dtype)
        if key not in _kept:
            if len(_kept) >= MOST:
                _kept.clear()
            with torch.inference_mode(False), torch.no_grad():  # what is kept is trained on, too
                _kept[key] = super().forward(images.clone())
        return _kept[key].clone()

    def _unchanged(self) -> bool:
        pairs = zip(self.state_dict().values(), _imagenet().frozen.state_dict().values(), strict=True)
        return all(own.dtype == other.dtype and torch.equal(own, other) for own, other in pairs)


class Transferred(torch.nn.Module):
    """EfficientNet-lite0 (Tan & Le, ICML 2019, as timm has it) for ten classes; pictures are enlarged inside."""

    def __init__(self, channels: int, body: Any = None) -> None:
        super().__init__()
        body = body or timm.create_model("tf_efficientnet_lite0", num_classes=CODES)
        self.frozen = Frozen(Enlarged(), body.conv_stem, body.bn1, *body.blocks[:FROZEN])
        rest = body.blocks[FROZEN:]
        self.tail = torch.nn.Sequential(*rest, body.conv_head, body.bn2, body.global_pool, body.classifier)
        self.frozen.requires_grad_(False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.tail(self.frozen(images))
        return found

    def train(self, mode: bool = True) -> "Transferred":
        """Only what is trained: the frozen part's running statistics stay ImageNet's."""
        super().train(mode)
        self.frozen.eval()
        return self

    def begin(self) -> None:
        """Take ImageNet's weights for everything but the classes."""
        head = f"tail.{len(self.tail) - 1}."
        weights = _imagenet().state_dict()
        self.load_state_dict(self.state_dict() | {name: weights[name] for name in weights if not name.startswith(head)})


@cache
def _imagenet() -> Transferred:
    with torch.random.fork_rng():  # the weights drawn before ImageNet's are loaded must not move the caller's seed
        return Transferred(3, lite0()).eval()
