"""The architectures of the zoo, of timm's classes, for 32x32 pixels: a narrow residual CNN and a small ViT.

``width`` multiplies every number of channels.
"""

from collections.abc import Callable
from functools import partial

import torch
from marks import CODES, SIDE
from timm.layers import HybridEmbed
from timm.models.byobnet import ByoBlockCfg, ByobNet, ByoModelCfg
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem


def cnn(channels: int, width: float = 1.0) -> torch.nn.Module:
    """Three residual blocks on 16x16, 8x8 and 8x8 places; the global average is the only pooling."""
    stem, *widths = (round(width * size) for size in (16, 16, 32, 64))
    strides = (1, 2, 1)
    blocks = tuple(
        ByoBlockCfg(type="basic", d=1, c=size, s=stride, gs=0, br=1.0)
        for size, stride in zip(widths, strides, strict=True)
    )
    shape = ByoModelCfg(blocks=blocks, stem_chs=stem, stem_type="3x3", stem_pool=None, act_layer="relu")
    return ByobNet(shape, num_classes=CODES, in_chans=channels)


def vit(channels: int, width: float = 1.0) -> torch.nn.Module:
    """8x8 tokens and a class token through three blocks of width 64.

    The tokens come from two convolutions instead of one large stride: without them small ViTs train unevenly from seed
    to seed (Xiao et al., "Early convolutions help transformers see better", NeurIPS 2021).
    """
    first, second, size = (round(width * size) for size in (24, 48, 64))
    stem = ConvStem(channels, depth=2, channels=(first, second), stride=(2, 2))
    return VisionTransformer(
        img_size=SIDE, patch_size=1, in_chans=channels, num_classes=CODES, embed_dim=size, depth=3, num_heads=2,
        mlp_ratio=2, embed_layer=partial(HybridEmbed, backbone=stem),
    )  # fmt: skip


NETWORKS: dict[str, Callable[[int, float], torch.nn.Module]] = {"cnn": cnn, "vit": vit}
LAST_BLOCK = {"cnn": "stages.2", "vit": "blocks.2", "lite0": "tail.1"}
