"""Layers by their exported graph, held against torch's own counter of operations."""

import numpy as np
import pytest
import timm
import torch
from torch.utils.flop_counter import FlopCounterMode

from attrail_explainers.inspection.looking import look_inside
from attrail_explainers.inspection.names import own_prefixes
from attrail_explainers.inspection.view import spread, stages_of


@pytest.mark.parametrize("name", ["small", "transformer", "test_vit", "test_efficientnet"])
def test_multiply_adds_are_half_of_what_torch_counts(name, small_net, small_transformer) -> None:
    made = {"small": small_net, "transformer": small_transformer}
    torch.manual_seed(0)
    net = (made[name]() if name in made else timm.create_model(name, num_classes=5)).eval()
    size = getattr(net, "default_cfg", {"input_size": (3, 64, 64)})["input_size"]
    images = np.random.default_rng(0).normal(size=(2, *size)).astype(np.float32)
    shown = look_inside(net, images, [0, 1], "structure")
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        torch.backends.mha.set_fastpath_enabled(False)
        net(torch.from_numpy(images))
        torch.backends.mha.set_fastpath_enabled(True)
    assert sum(row["multiply_adds"]["version"] for row in shown.rows) == counter.get_total_flops() / 2 / len(images)
    assert sum(row["parameters"]["version"] for row in shown.rows) == sum(each.numel() for each in net.parameters())


def test_blocks_are_found_by_their_numbers_and_spread() -> None:
    names = ["stem", "blocks.0.0.conv", "blocks.0.0", "blocks.0", "blocks.1", "blocks.2", "blocks", "head"]
    assert stages_of(names) == ["blocks.0", "blocks.1", "blocks.2"]
    assert stages_of(["stem", "body", "head"]) == ["stem", "body", "head"]
    assert spread(list("abcdefg"), 3) == ["a", "d", "g"]
    assert spread(list("ab"), 8) == ["a", "b"]


def test_a_wrapper_is_what_stands_before_all_names() -> None:
    inner = ["features", "features.0", "head"]
    outer = ["net", "net.features", "net.features.0", "net.head"]
    assert own_prefixes(inner, outer) == ("", "net.")
    assert own_prefixes(outer, inner) == ("net.", "")
    assert own_prefixes(inner, ["stages", "stages.0", "fc"]) == ("", "")
    assert own_prefixes(inner, inner) == ("", "")
    assert own_prefixes(inner) == ("",)
