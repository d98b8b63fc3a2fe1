"""The target layer: how places are read from shapes, which layer is taken, and what makes a layer unfit."""

import copy

import numpy as np
import pytest
import timm
import torch
from torch import nn

from attrail_explainers import layers
from attrail_explainers.classifier import Classifier
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explanation import explain
from attrail_explainers.layers import heads, target_layer
from attrail_explainers.loading import classifier_from_export
from attrail_explainers.places import Form, Places, arrangements
from attrail_explainers.probing import Probing, locality, probes, quarters

TARGETS = [0, 1, 2, 0, 1, 2]


def found_in(net, images, forced=None):
    return target_layer(Classifier("net", "1", net).working_copy(images), torch.as_tensor(images), forced)


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((512, 7, 7), (224, 224), Places(Form.GRID, 7, 7, 512)),
        ((7, 7, 768), (224, 224), Places(Form.CHANNELS_LAST, 7, 7, 768)),
        ((512, 4, 7), (112, 224), Places(Form.GRID, 4, 7, 512)),
        ((512, 3, 2), (70, 64), Places(Form.GRID, 3, 2, 512)),
        ((196, 192), (224, 224), Places(Form.TOKENS, 14, 14, 192, 0)),
        ((197, 192), (224, 224), Places(Form.TOKENS, 14, 14, 192, 1)),
        ((198, 192), (224, 224), Places(Form.TOKENS, 14, 14, 192, 2)),
        ((261, 384), (224, 224), Places(Form.TOKENS, 16, 16, 384, 5)),
        ((204, 384), (224, 224), Places(Form.TOKENS, 14, 14, 384, 8)),
        ((25, 192), (96, 64), Places(Form.TOKENS, 6, 4, 192, 1)),
        ((25, 192), (64, 96), Places(Form.TOKENS, 4, 6, 192, 1)),
    ],
)
def test_places_are_read_from_the_shape(shape, size, expected):
    assert next(arrangements(shape, size)) == expected


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((512, 1, 1), (224, 224)),  # pooled
        ((1, 192), (224, 224)),  # a class token alone
        ((3, 197, 64), (224, 224)),  # heads, tokens, numbers
        ((512, 4, 7), (224, 224)),  # square images have square grids
        ((512, 7, 4), (112, 224)),  # lying images have lying grids
        ((1000,), (224, 224)),
        ((205, 192), (224, 224)),  # nine tokens before the places
    ],
)
def test_shapes_without_places(shape, size):
    assert list(arrangements(shape, size)) == []


def test_a_grid_seen_elsewhere_comes_before_a_shorter_prefix():
    assert next(arrangements((9, 64), (32, 32))).prefix == 0
    assert next(arrangements((9, 64), (32, 32), {(2, 2)})) == Places(Form.TOKENS, 2, 2, 64, 5)


def test_every_form_gives_the_same_grid():
    grid = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    last = grid.permute(0, 2, 3, 1)
    tokens = torch.cat([torch.full((2, 6, 3), -1), last.flatten(1, 2)], dim=1)
    assert torch.equal(Places(Form.GRID, 4, 5, 3).grid(grid), grid)
    assert torch.equal(Places(Form.CHANNELS_LAST, 4, 5, 3).grid(last), grid)
    assert torch.equal(Places(Form.TOKENS, 4, 5, 3, 6).grid(tokens), grid)


def test_quarters_leave_the_middle_out():
    assert quarters(3, 2).int().tolist() == [
        [[1, 0], [0, 0], [0, 0]],
        [[0, 1], [0, 0], [0, 0]],
        [[0, 0], [0, 0], [1, 0]],
        [[0, 0], [0, 0], [0, 1]],
    ]


def test_locality_tells_a_turned_grid_from_a_straight_one():
    noise = probes(torch.randn(1, 3, 64, 64))
    small = nn.functional.avg_pool2d(noise, 8)
    assert locality(small) == 1
    assert locality(small.transpose(2, 3)) == 0.5
    assert locality(small.flatten(2).roll(32, dims=2).reshape_as(small)) == 0


def test_probes_are_in_the_images_range_and_the_same_for_all():
    images = torch.rand(1, 3, 40, 24) * 20 + 100
    noise = probes(images)
    assert noise.shape == (10, 3, 40, 24)
    assert float(noise.mean()) == pytest.approx(float(images.mean()), rel=0.01)
    assert float(noise.std()) == pytest.approx(float(images.std()), rel=0.05)
    assert torch.equal(noise, probes(images))
    assert probes(torch.zeros(1, 3, 8, 8)).std() > 0.5


class Pooled(nn.Module):
    """A body that keeps places, then their mean, then a linear head."""

    def __init__(self, *body, width=8):
        super().__init__()
        self.body = nn.Sequential(*body)
        self.head = nn.Linear(width, 3)

    def forward(self, images):
        return self.head(self.body(images).mean(dim=(2, 3)))


def conv(before=3, after=8, stride=8):
    return nn.Conv2d(before, after, stride, stride=stride)


def test_only_passing_on_is_not_an_activation(pictures):
    """Exported programs drop identities and dropout: a layer named after them would not be found there."""
    net = Pooled(conv(), nn.ReLU(), nn.Identity(), nn.Dropout(0.5))
    names = [each.layer for each in Classifier("net", "1", net).working_copy(pictures).activations]
    assert names == ["body.0", "body.1", "body", "head"]
    assert found_in(net, pictures).name == "body"


def test_layer_that_runs_more_than_once_is_passed_over(pictures):
    class Shared(Pooled):
        def forward(self, images):
            found = self.body[1](self.body[0](images))
            return self.head(self.body[1](self.body[2](found)).mean(dim=(2, 3)))

    net = Shared(conv(), nn.ReLU(), conv(8, 8, 1))
    assert found_in(net, pictures).name == "body.2"
    with pytest.raises(UnsupportedModelError, match=r"'body.1'.*ran 2 times.*set the explainer's parameter layer"):
        found_in(net, pictures, "body.1")


class Switched(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = conv()

    def forward(self, images, rectified):
        return self.conv(images).relu() if rectified else self.conv(images)


class Twice(Pooled):
    """One part of the model, run in two ways: exported, the second is a submodule named body@1."""

    def __init__(self):
        super().__init__()
        self.body = Switched()

    def forward(self, images):
        return self.head((self.body(images, True) - self.body(images, False)).mean(dim=(2, 3)))


def test_exported_layer_that_ran_twice_is_refused_too(pictures, tmp_path):
    images = torch.from_numpy(pictures)
    torch.export.save(torch.export.export(Twice().eval(), (images,)), tmp_path / "net.pt2")
    loaded = classifier_from_export(tmp_path / "net.pt2", "net", "1")
    assert "body@1" in dict(loaded.module.named_modules())
    for classifier in (loaded, Classifier("net", "1", Twice())):
        with pytest.raises(UnsupportedModelError, match="layer 'body' ran 2 times"):
            target_layer(classifier.working_copy(pictures), images)


def test_head_that_is_a_convolution_is_no_place_of_evidence(pictures):
    """SqueezeNet's way: the class scores have places too, but nothing after them could be drawn anew."""
    net = nn.Sequential(conv(), nn.ReLU(), nn.Conv2d(8, 3, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    assert heads(Classifier("net", "1", net).working_copy(pictures)) == ["2"]
    assert found_in(net, pictures).name == "1"


class Wrapped(nn.Module):
    """What Lightning, serving code and others make of a network: the same, under names with a prefix."""

    def __init__(self, net, **others):
        super().__init__()
        self.model = net
        for name, other in others.items():
            setattr(self, name, other)

    def forward(self, images):
        return self.model(images)


def two_stages():
    torch.manual_seed(0)
    return Pooled(conv(), nn.ReLU(), conv(8, 8, 1))


@pytest.mark.parametrize(
    ("wrapper", "prefix"),
    [
        (Wrapped, "model."),
        (nn.DataParallel, "module."),
        (lambda net: nn.DataParallel(Wrapped(net)), "module.model."),
        (torch.compile, ""),
    ],
    ids=["wrapper", "DataParallel", "both", "torch.compile"],
)
@pytest.mark.parametrize("layer", ["body", "body.1"])
def test_a_layer_is_found_inside_a_wrapper_by_its_bare_name(wrapper, prefix, layer, pictures):
    plain = explain(two_stages(), pictures, TARGETS, layer=layer)
    wrapped = explain(wrapper(two_stages()), pictures, TARGETS, layer=layer)
    assert wrapped.parameters == plain.parameters
    assert wrapped.values.tobytes() == plain.values.tobytes()
    assert found_in(wrapper(two_stages()), pictures, layer).name == prefix + layer


def test_a_layer_with_a_wrappers_prefix_is_found_in_the_bare_network(pictures, tmp_path):
    inside = explain(Wrapped(two_stages()), pictures, TARGETS)
    assert inside.parameters["layer"] == "model.body"
    assert explain(two_stages(), pictures, TARGETS, layer="model.body").values.tobytes() == inside.values.tobytes()
    torch.export.save(torch.export.export(two_stages().eval(), (torch.from_numpy(pictures),)), tmp_path / "net.pt2")
    exported = classifier_from_export(tmp_path / "net.pt2", "net", "1").working_copy(pictures)
    assert target_layer(exported, torch.from_numpy(pictures), "model.body").name == "body"


def test_a_layer_of_two_wrapped_networks_is_the_one_that_counts(pictures):
    assert found_in(Wrapped(two_stages(), teacher=two_stages()), pictures, "body").name == "model.body"
    with pytest.raises(UnsupportedModelError, match=r"no layer 'body.1', nor one .* wrapper's prefix; .* 'model.body'"):
        found_in(Wrapped(two_stages(), teacher=two_stages()), pictures, "body.1")


class SplitAttention(nn.Module):
    """A class token reads the places through a query, keys and values that are layers of their own, as in EVA."""

    def __init__(self, width=64):
        super().__init__()
        self.embed, self.norm, self.head = conv(3, width), nn.LayerNorm(width), nn.Linear(width, 3)
        self.query, self.key, self.value = (nn.Linear(width, width) for _ in range(3))
        self.token, self.last = nn.Parameter(torch.randn(1, 1, width)), nn.LayerNorm(width)
        self.heads = nn.Identity()

    def forward(self, images):
        tokens = self.embed(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), 1, -1), tokens], dim=1)
        normed = self.norm(tokens)
        query, key, value = self.query(normed), self.key(normed), self.value(normed)
        attention = (query @ key.transpose(1, 2) / 8).softmax(dim=-1)
        return self.head(self.last(tokens + attention @ value)[:, 0])


def test_values_that_keys_bypass_are_not_taken(pictures):
    torch.manual_seed(0)
    found = found_in(SplitAttention(), pictures)
    assert (found.name, found.places.prefix, found.linear) == ("norm", 1, False)
    assert found_in(SplitAttention(), pictures, "value").name == "value", "a user may set it"


def test_tokens_of_heads_are_no_grid(pictures):
    """64 places and 64 numbers per head look like a grid of 64 times 64."""

    class Pooling(nn.Module):
        def __init__(self):
            super().__init__()
            self.embed, self.norm, self.head = conv(3, 128), nn.LayerNorm(128), nn.Linear(128, 3)
            self.keys = nn.LayerNorm(64)
            self.latent = nn.Parameter(torch.randn(2, 1, 64))

        def forward(self, images):
            tokens = self.norm(self.embed(images).flatten(2).transpose(1, 2))
            keys = self.keys(tokens.unflatten(2, (2, 64)).transpose(1, 2))
            found = (self.latent @ keys.transpose(2, 3)).softmax(dim=-1) @ keys
            return self.head(found.flatten(1))

    torch.manual_seed(0)
    model = Classifier("net", "1", Pooling()).working_copy(pictures)
    assert (2, 64, 64) in [each.shape for each in model.activations]
    assert target_layer(model, torch.from_numpy(pictures)).name == "norm"


def unfit(change):
    torch.manual_seed(0)
    net = Pooled(conv(), nn.ReLU())
    with torch.no_grad():
        change(net)
    return net


class Shuffled(nn.Module):
    """Places in an order of their own, as in Hiera's early stages: reading them as a raster would be wrong."""

    def __init__(self):
        super().__init__()
        self.embed, self.norm, self.head = conv(3, 8), nn.LayerNorm(8), nn.Linear(8, 3)
        self.order = torch.randperm(64, generator=torch.Generator().manual_seed(1))

    def forward(self, images):
        tokens = self.embed(images).flatten(2).transpose(1, 2)[:, self.order]
        return self.head(self.norm(tokens).mean(dim=1))


@pytest.mark.parametrize(
    ("net", "reason"),
    [
        (unfit(lambda net: net.head.weight.zero_()), "no gradient of a logit reaches its places"),
        (unfit(lambda net: net.body[0].weight.zero_()), "its map is the same at every place"),
        (unfit(lambda net: net.body[0].bias.fill_(float("inf"))), "not finite"),
        (Shuffled(), "a change of one part of the image does not change it most there"),
    ],
    ids=["dead head", "constant", "infinite", "shuffled"],
)
def test_unfit_layers_are_refused_by_name(net, reason, pictures):
    layer = "norm" if isinstance(net, Shuffled) else "body"
    with pytest.raises(UnsupportedModelError, match=rf"layer '{layer}'.*{reason}.*parameter layer"):
        found_in(net, pictures, layer)


def test_layers_without_a_fit_one_are_refused(pictures):
    net = unfit(lambda net: net.head.weight.zero_())
    with pytest.raises(UnsupportedModelError, match=r"layer 'body'.*no gradient of a logit reaches its places"):
        found_in(net, pictures)


def test_layer_before_the_unfit_one_is_taken(pictures):
    assert found_in(Shuffled(), pictures).name == "embed"


def test_model_that_cuts_the_graph_is_refused(pictures):
    class Cut(Pooled):
        def forward(self, images):
            return super().forward(images).detach()

    with pytest.raises(UnsupportedModelError, match="no gradient of a logit reaches its places"):
        explain(Cut(conv()), pictures, TARGETS)


class Unheeded(Pooled):
    """The classes are there from the start; the layer that looks like the head comes last and counts for nothing."""

    def __init__(self):
        super().__init__(conv(3, 3), nn.ReLU(), width=3)

    def forward(self, images):
        found = self.body(images).mean(dim=(2, 3))
        return found + 0 * self.head(found)


def test_map_that_does_not_depend_on_the_head_is_refused(pictures):
    with pytest.raises(UnsupportedModelError, match="its map does not change when the head is drawn anew"):
        found_in(Unheeded(), pictures)


def test_checks_leave_the_weights_and_hooks_as_they_were(small_net, pictures):
    net = small_net()
    model = Classifier("net", "1", net).working_copy(pictures)
    before = copy.deepcopy(model.module.state_dict())
    target_layer(model, torch.from_numpy(pictures))
    after = model.module.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module._forward_hooks for module in model.module.modules())
    assert torch.is_grad_enabled()


def test_layer_is_looked_for_once(small_net, pictures, monkeypatch):
    seen = []
    original = layers._found
    monkeypatch.setattr(layers, "_found", lambda *given: seen.append(given) or original(*given))
    model = Classifier("net", "1", small_net()).working_copy(pictures)
    first, second = (target_layer(model, torch.from_numpy(pictures)) for _ in range(2))
    assert first is second
    assert len(seen) == 1


def test_layer_does_not_depend_on_the_images(small_net, pictures):
    blank = np.zeros_like(pictures[:1])
    assert found_in(small_net(), blank) == found_in(small_net(), pictures)


def test_batches_smaller_than_the_probes_show_the_same(pictures):
    net = timm.create_model("test_vit", img_size=64, num_classes=3)
    whole = Classifier("net", "1", net).working_copy(pictures)
    short = Classifier("net", "1", net).working_copy(pictures)
    short.batch = 4
    images = torch.from_numpy(pictures)
    layer = target_layer(whole, images)
    assert target_layer(short, images) == layer
    first, second = (Probing.of(each, images, [layer.name]) for each in (whole, short))
    assert len(second.looks) == 3
    pairs = [(first.activations, second.activations), (first.gradients, second.gradients)]
    for one, other in pairs:
        torch.testing.assert_close(one(layer.name, layer.places), other(layer.name, layer.places))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("model", ["test_vit", "test_resnet"])
def test_layer_is_the_same_in_other_precisions(model, dtype, pictures):
    torch.manual_seed(0)
    options = {"img_size": 64} if model == "test_vit" else {}
    net = timm.create_model(model, num_classes=3, **options).eval()
    assert found_in(copy.deepcopy(net).to(dtype), pictures) == found_in(net, pictures)
    assert np.nanmax(explain(net.to(dtype), pictures, TARGETS).values) > 0


@pytest.mark.parametrize("model", ["test_vit", "vit_base_patch16_siglip_224"])
def test_wider_and_narrower_layers_of_attention_are_not_taken(model, pictures):
    """Queries, keys and values in one layer, or keys and values: all evidence passes them, but as a mixture."""
    torch.manual_seed(0)
    options = {} if model == "test_vit" else {"depth": 2, "embed_dim": 192, "num_heads": 3}
    net = timm.create_model(model, img_size=64, num_classes=3, **options)
    width = 64 if model == "test_vit" else 192
    wide = [
        each.layer for each in Classifier("net", "1", net).working_copy(pictures).activations if width * 3 in each.shape
    ]
    found = found_in(net, pictures)
    assert found.places.channels == width
    assert found.name == ("blocks.5.norm1" if model == "test_vit" else "norm")
    assert "blocks.1.attn.qkv" in wide
