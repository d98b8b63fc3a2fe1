"""A planted change is named by its layer, and no other layer is."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers.exhibits.structure import merged
from attrail_explainers.inspection.looking import look_inside

IMAGES = np.random.default_rng(5).normal(size=(2, 3, 32, 32)).astype(np.float32)


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    blocks = [
        nn.Sequential(nn.Conv2d(3 if not n else 16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()) for n in range(5)
    ]
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4)).eval()


def seen(first: nn.Module, second: nn.Module):
    shown = look_inside(second, IMAGES, [0, 1], "structure", reference=first)
    return {row["layer"]: row for row in shown.rows}, " ".join(shown.notes)


def outstanding(rows) -> set[str]:
    return {name for name, row in rows.items() if row["stands_out"]}


def moved_by_training(net: nn.Module, frozen: str | None = None) -> nn.Module:
    """A copy all of whose weights moved a little, but for one layer's."""
    torch.manual_seed(9)
    copied = copy.deepcopy(net)
    with torch.no_grad():
        for name, weight in copied.named_parameters():
            if frozen is None or not name.startswith(f"{frozen}."):
                weight.add_((0.02 * weight.std() + 1e-4) * torch.randn_like(weight))
    return copied


def test_a_block_that_was_drawn_anew_is_named_among_layers_that_were_trained_on() -> None:
    net = network()
    again = moved_by_training(net)
    again[3][0].reset_parameters()
    rows, notes = seen(net, again)
    assert outstanding(rows) == {"3.0"}
    assert rows["3.0"]["relative_change"] > 1
    assert "furthest beyond the others: 3.0" in notes
    alone = copy.deepcopy(net)
    alone[1][0].reset_parameters()
    rows, notes = seen(net, alone)
    assert outstanding(rows) == {"1.0"}
    assert [name for name, row in rows.items() if row["status"] != "same"] == ["1.0"]


def test_a_layer_that_was_frozen_is_named() -> None:
    net = network()
    rows, notes = seen(net, moved_by_training(net, frozen="2.0"))
    same = [name for name, row in rows.items() if row["relative_change"] == 0]
    assert same == ["2.0"]
    assert outstanding(rows) == set()
    assert "Exactly the same weights in 1: 2.0." in notes


def test_a_channel_that_was_silenced_and_a_layer_that_was_rounded_are_named() -> None:
    net = network()
    silent = copy.deepcopy(net)
    with torch.no_grad():
        silent[2][0].weight[7] = 0
    rows, _ = seen(net, silent)
    assert outstanding(rows) == {"2.0"}
    assert rows["2.0"]["change"] == "silenced: channel 7; channel 7 alone"
    for kind, rounded in {
        "rounded to bfloat16": lambda weight: weight.bfloat16().float(),
        "rounded: 15 different values": lambda weight: (weight / weight.abs().max() * 7.5).round().clamp(-8, 7) / 8,
        "pruned: 40% of its weights are 0": lambda weight: (
            weight * (weight.abs() > weight.abs().flatten().quantile(0.4))
        ),
    }.items():
        changed = copy.deepcopy(net)
        with torch.no_grad():
            changed[4][0].weight.copy_(rounded(changed[4][0].weight))
        rows, _ = seen(net, changed)
        assert outstanding(rows) == {"4.0"}, kind
        assert rows["4.0"]["change"].startswith(kind)


def test_layers_that_came_went_and_changed_their_shape_are_named() -> None:
    net = network()
    other = copy.deepcopy(net)
    other[1] = nn.Sequential(*other[1], nn.Tanh())
    other[4][0], other[4][1], other[7] = nn.Conv2d(16, 12, 3, padding=1), nn.BatchNorm2d(12).eval(), nn.Linear(12, 4)
    rows, notes = seen(net, other)
    statuses = {name: row["status"] for name, row in rows.items() if row["status"] != "same"}
    assert statuses.pop("1.3") == "added"
    assert set(statuses.values()) == {"other shape"}
    assert {"4.0", "4.1", "7"} <= set(statuses)
    assert {name for name in statuses if name[:1] in set("0123")} == set()
    assert "Added: 1.3." in notes
    assert list(rows).index("1.3") == list(rows).index("1.2") + 1
    assert seen(other, net)[0]["1.3"]["status"] == "removed"


def test_a_wrapper_makes_no_difference() -> None:
    class Served(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.model = inner

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.model(images)

    rows, notes = seen(network(), Served(network()))
    assert {row["status"] for row in rows.values()} == {"same"}
    assert "hold exactly the same" in notes
    assert seen(Served(network()), network())[0].keys() == rows.keys()


@pytest.mark.parametrize(("second", "whole"), [("abxcd", "abxcd"), ("xbc", "axbcd"), ("ad", "abcd"), ("ay", "aybcd")])
def test_layers_of_two_versions_are_listed_in_order(second: str, whole: str) -> None:
    found = merged("abcd", second)
    assert sorted(found) == sorted(whole)
    assert [name for name in found if name in "abcd"] == list("abcd")
