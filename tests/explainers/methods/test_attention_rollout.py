"""Attention rollout against its formula, with the attention computed from the model's own weights."""

import copy

import numpy as np
import pytest
import timm
import torch
import torchvision
from torch import nn

from attrail_explainers.errors import ExplanationError, UnsupportedModelError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain, explain_slice
from attrail_explainers.layers.attention import AttentionTape
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.slice import Slice

TARGETS = [0, 1, 2, 0, 1, 2]
TOLERANCE = 1e-5  # of the largest value


def timm_vit(**options):
    torch.manual_seed(0)
    return timm.create_model("test_vit", img_size=64, num_classes=3, **options).eval()


def vision_vit():
    torch.manual_seed(0)
    net = torchvision.models.VisionTransformer(64, 16, 2, 2, 32, 64, num_classes=3).eval()
    nn.init.normal_(net.heads.head.weight)
    return net


def explicit(net):
    """The same net with its attention written out instead of fused."""
    net = copy.deepcopy(net)
    for block in net.blocks:
        block.attn.fused_attn = False
    return net


def timm_attention(net, images):
    """Attention (N,heads,T,T) of each block by the formula softmax(q k^T / sqrt(d)), from what enters its qkv layer."""
    entering = []
    hooks = [each.attn.qkv.register_forward_pre_hook(lambda _, given: entering.append(given[0])) for each in net.blocks]
    with torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    found = []
    for block, tokens in zip(net.blocks, entering, strict=True):
        query, key, _ = block.attn.qkv(tokens).unflatten(2, (3, block.attn.num_heads, -1)).permute(2, 0, 3, 1, 4)
        found.append((query @ key.transpose(2, 3) / query.shape[-1] ** 0.5).softmax(dim=-1).detach().double().numpy())
    return found


def rolled_out(attentions):
    """Abnar & Zuidema's equation 1: (N,T,T)."""
    product = np.eye(attentions[0].shape[-1])
    for attention in attentions:
        product = (attention.mean(axis=1) / 2 + np.eye(attention.shape[-1]) / 2) @ product
    return product


def assert_close(found, expected):
    assert np.abs(found - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.fixture
def images(pictures):
    return torch.from_numpy(pictures.copy())


@pytest.mark.parametrize("change", [lambda net: net, explicit], ids=["fused", "written out"])
def test_row_of_the_class_token_is_the_papers_formula(change, pictures, images):
    net = timm_vit()
    expected = rolled_out(timm_attention(net, images))[:, 0, 1:].reshape(6, 4, 4)
    assert_close(explain(change(net), pictures, TARGETS, "attention_rollout").values, expected)


def test_model_that_averages_its_tokens_has_the_mean_of_their_rows(pictures, images):
    net = timm_vit(global_pool="avg")
    expected = rolled_out(timm_attention(net, images))[:, 1:, 1:].mean(axis=1).reshape(6, 4, 4)
    assert_close(explain(net, pictures, TARGETS, "attention_rollout").values, expected)


def test_distilled_model_has_the_mean_of_both_tokens_rows(pictures, images):
    torch.manual_seed(0)
    net = timm.create_model("deit_tiny_distilled_patch16_224", img_size=64, num_classes=3, depth=2).eval()
    expected = rolled_out(timm_attention(net, images))[:, :2, 2:].mean(axis=1).reshape(6, 4, 4)
    assert_close(explain(net, pictures, TARGETS, "attention_rollout").values, expected)


def test_multihead_attention_of_torch(pictures, images):
    """Its fast path, which calls no function that could be seen, must not be taken."""
    net = vision_vit()
    attentions, blocks = [], net.encoder.layers

    def attend(block, tokens):
        normed = block.ln_1(tokens)
        return block.self_attention(normed, normed, normed, need_weights=True, average_attn_weights=False)[1]

    hooks = [
        each.register_forward_pre_hook(lambda block, given: attentions.append(attend(block, *given))) for each in blocks
    ]
    with torch.no_grad():
        net(images)
    for hook in hooks:
        hook.remove()
    expected = rolled_out([each.double().numpy() for each in attentions])[:, 0, 1:].reshape(6, 4, 4)
    assert_close(explain(net, pictures, TARGETS, "attention_rollout").values, expected)


def test_encoder_of_torch_is_seen_too():
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    encoder = nn.TransformerEncoder(layer, 3).eval()
    with torch.inference_mode(), AttentionTape() as tape:
        encoder(torch.randn(2, 5, 16))
    assert [tuple(each.shape) for each in tape.blocks] == [(2, 5, 5)] * 3
    for attention in tape.blocks:
        torch.testing.assert_close(attention.sum(dim=2), torch.ones(2, 5))


def test_tape_leaves_outputs_alone(images):
    net = timm_vit()
    with torch.no_grad():
        plain = net(images)
        with AttentionTape():
            seen = net(images)
    assert torch.equal(plain, seen)


def test_masks_and_scales_are_kept():
    query, key, value = torch.randn(3, 2, 4, 5, 8)
    mask = torch.ones(5, 5, dtype=torch.bool).tril()
    with AttentionTape() as tape:
        nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, scale=0.5)
    expected = (query @ key.transpose(2, 3) * 0.5).masked_fill(~mask, -torch.inf).softmax(dim=-1).mean(dim=1)
    torch.testing.assert_close(tape.blocks[0], expected)


@pytest.mark.parametrize(
    "maker", [timm_vit, lambda: explicit(timm_vit()), vision_vit], ids=["fused", "explicit", "vision"]
)
def test_export_equals_module(maker, pictures, images, tmp_path):
    net = maker()
    exported = torch.export.export(net, (images,), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(exported, tmp_path / "net.pt2")
    loaded = classifier_from_export(tmp_path / "net.pt2", "net", "1")
    labels = np.asarray(TARGETS)
    slice_ = Slice("s", pictures, labels, tuple("abcdef"))
    method = make_explainer("attention_rollout")
    first, second = (
        explain_slice(each, slice_, [method], labels, seed=0)[0] for each in (Classifier("net", "1", net), loaded)
    )
    assert_close(second.values, first.values)


def test_images_need_not_be_square(pictures):
    net = timm_vit(dynamic_img_size=True)
    assert explain(net, pictures[:, :, :32], TARGETS, "attention_rollout").values.shape == (6, 2, 4)


class Unread(nn.Module):
    """Attends, and then forgets all about it."""

    def __init__(self, cut):
        super().__init__()
        self.vit, self.cut = timm_vit(), cut

    def forward(self, images):
        logits = self.vit(images)
        return (logits.detach() if self.cut else logits) * 0 + images.mean(dim=(2, 3))


@pytest.mark.parametrize("cut", [False, True])
def test_map_of_logits_that_read_no_token_is_undefined(cut, pictures):
    with pytest.raises(ExplanationError, match="the logits depend on no token"):
        explain(Unread(cut), pictures, TARGETS, "attention_rollout")


@pytest.mark.parametrize(
    ("model", "options", "reason"),
    [
        ("test_resnet", {}, "it has no attention"),
        ("swin_tiny_patch4_window7_224", {"img_size": 64, "window_size": 4, "depths": (1, 1, 1, 1)}, "within windows"),
        ("pvt_v2_b0", {}, "from some tokens to others"),
        ("cait_xxs24_224", {"img_size": 64, "depth": 1}, "from some tokens to others"),
        ("pit_ti_224", {}, "different numbers of tokens"),
    ],
)
def test_attention_that_is_not_all_to_all_is_refused(model, options, reason):
    torch.manual_seed(0)
    net = timm.create_model(model, num_classes=3, **options)
    side = 224 if model == "pit_ti_224" else 64
    with pytest.raises(UnsupportedModelError, match=f"attention_rollout does not apply to model .*{reason}"):
        explain(net, torch.randn(1, 3, side, side), [0], "attention_rollout")
