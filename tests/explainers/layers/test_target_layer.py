"""The target layer: how places are read from shapes, which layer is taken, and what makes a layer unfit."""

import copy
import itertools

import numpy as np
import pytest
import timm
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, prune

from attrail_explainers.assessment.weight_randomisation import head_weights, shuffled
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain, explain_slice
from attrail_explainers.layers import target_layer as search
from attrail_explainers.layers.probing import Probing, agree, locality, probes, quarters, redrawn
from attrail_explainers.layers.target_layer import heads, target_layer, token_layer
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.model.places import Form, Places, arrangements, likeliest, token_arrangements
from attrail_explainers.slice import Slice

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
    ],
)
def test_places_are_read_from_the_shape(shape, size, expected):
    assert next(arrangements(shape, size)) == expected


@pytest.mark.parametrize(
    ("shape", "size", "expected"),
    [
        ((196, 192), (224, 224), Places(Form.TOKENS, 14, 14, 192, 0)),
        ((197, 192), (224, 224), Places(Form.TOKENS, 14, 14, 192, 1)),
        ((198, 192), (224, 224), Places(Form.TOKENS, 14, 14, 192, 2)),
        ((261, 384), (224, 224), Places(Form.TOKENS, 16, 16, 384, 5)),
        ((204, 384), (224, 224), Places(Form.TOKENS, 14, 14, 384, 8)),
        ((25, 192), (96, 64), Places(Form.TOKENS, 6, 4, 192, 1)),
        ((25, 192), (64, 96), Places(Form.TOKENS, 4, 6, 192, 1)),
        ((206, 384), (224, 224), Places(Form.TOKENS, 14, 14, 384, 10)),
        ((28, 192), (64, 96), Places(Form.TOKENS, 4, 6, 192, 4)),  # not 4 x 7
    ],
)
def test_places_are_read_from_the_number_of_tokens(shape, size, expected):
    assert read(shape, size) == [expected]


def read(shape, size, seen=(), counts=()):
    return likeliest(token_arrangements(shape, size, seen), size, counts)


def test_every_grid_of_whole_patches_is_read_from_the_number_of_tokens():
    """All grids up to 24 x 24 with 0 to 5 prefix tokens; of some small ones the number alone does not tell."""
    doubtful = set()
    for rows, columns, prefix, patch in itertools.product(range(2, 25), range(2, 25), range(6), (8, 14, 16)):
        shape, size = (rows * columns + prefix, 64), (rows * patch, columns * patch)
        expected = Places(Form.TOKENS, rows, columns, 64, prefix)
        if read(shape, size) != [expected]:
            assert expected in read(shape, size)
            doubtful.add((rows, columns, prefix))
        assert read(shape, size, {(rows, columns), (2 * rows, 2 * columns)}) == [expected]
    assert {grid[:2] for grid in doubtful} == {(3, 3), (5, 5), (3, 6), (6, 3)}  # beside 2 x 2, 4 x 4, 2 x 4, 4 x 2
    assert read((9, 64), (48, 48), counts={4, 9}) == [Places(Form.TOKENS, 2, 2, 64, 5)]


class Patches(nn.Module):
    """A transformer whose patches a linear layer takes, with ``prefix`` tokens before them, read by their mean.

    ``late`` normalises after attention, as torch's own layer does by default: no layer shows all tokens unmixed. Of the
    other tokens ``after`` stand behind the patches and ``amid`` behind the first half of them, where nothing else in
    the network tells: it knows no positions. ``convolved`` patches are a convolution's.
    """

    def __init__(self, prefix, patch=(8, 8), late=False, turned=False, after=0, amid=0, convolved=False):
        super().__init__()
        self.patch, self.turned, self.after, self.amid, self.convolved = patch, turned, after, amid, convolved
        self.embed = nn.Linear(3 * patch[0] * patch[1], 16)
        if convolved:
            self.embed = nn.Conv2d(3, 16, patch, patch)
        self.prefix = nn.Parameter(torch.randn(1, prefix, 16))
        self.block = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=not late)
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 3)

    def patches(self, images):
        if self.convolved:
            return self.embed(images).flatten(2).transpose(1, 2)
        found = nn.functional.unfold(images, self.patch, stride=self.patch)
        if self.turned:
            found = found.unflatten(2, [a // b for a, b in zip(images.shape[2:], self.patch, strict=True)])
            found = found.transpose(2, 3).flatten(2)
        return self.embed(found.transpose(1, 2))

    def forward(self, images):
        patches, others = self.patches(images), self.prefix.expand(len(images), -1, -1)
        before, amid, after = others.split([others.shape[1] - self.amid - self.after, self.amid, self.after], dim=1)
        half = patches.shape[1] // 2
        tokens = self.norm(self.block(torch.cat([before, patches[:, :half], amid, patches[:, half:], after], dim=1)))
        left, right = before.shape[1], before.shape[1] + half + self.amid
        read = [tokens[:, left : left + half], tokens[:, right : right + patches.shape[1] - half]]
        return self.head(torch.cat(read, dim=1).mean(dim=1))


def grids_of(net, size):
    """What every door reads: the target layer and the layer of attention rollout, as (prefix, rows, columns)."""
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    model = Classifier("net", "1", net).working_copy(images)
    tokens = next(each.shape[0] for each in reversed(model.activations) if len(each.shape) == 2)
    found = target_layer(model, images).places, token_layer(model, images, tokens).places
    return {(each.prefix, each.rows, each.columns) for each in found}


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize(
    ("prefix", "size", "grid"),
    [
        (4, (32, 48), (4, 6)),
        (4, (48, 32), (6, 4)),
        (4, (39, 55), (4, 6)),  # cut off at the right and below
        (0, (32, 56), (4, 7)),
        (5, (16, 16), (2, 2)),  # not 3 x 3
        (0, (24, 24), (3, 3)),
        (7, (24, 24), (3, 3)),  # not 4 x 4
        (10, (16, 32), (2, 4)),  # not 3 x 6
    ],
)
def test_tokens_of_linear_patches_are_read_from_what_changes_them(prefix, size, grid, late):
    torch.manual_seed(0)
    assert grids_of(Patches(prefix, late=late), size) == {(prefix, *grid)}


@pytest.mark.parametrize("convolved", [False, True], ids=["linear", "convolved"])
@pytest.mark.parametrize("late", [False, True], ids=["early", "late"])
@pytest.mark.parametrize(("others", "after"), [(1, 1), (2, 1), (4, 4), (5, 4), (5, 2), (8, 8), (5, 0)])
@pytest.mark.parametrize("size", [(64, 64), (32, 48)], ids=str)
def test_tokens_after_the_patches_are_no_places(others, after, size, late, convolved):
    """Registers behind the patches: the grid is not shifted by them."""
    torch.manual_seed(0)
    net = Patches(others, late=late, after=after, convolved=convolved).eval()
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(0))
    model = Classifier("net", "1", net).working_copy(images)
    rows, columns = size[0] // 8, size[1] // 8
    expected = Places(Form.TOKENS, rows, columns, 16, others - after, after)
    assert target_layer(model, images).places == expected
    assert token_layer(model, images, others + rows * columns).places == expected


@pytest.mark.parametrize("exported", [False, True], ids=["eager", "exported"])
@pytest.mark.parametrize("name", ["gradcam", "attention_rollout", "nearest_examples"])
def test_maps_are_the_same_wherever_registers_stand(name, exported, pictures, tmp_path):
    """A network without positions computes the same with its registers before and after the patches."""
    maps = []
    for after in (0, 4):
        torch.manual_seed(0)
        net = Patches(5, late=True, after=after, convolved=True).eval()
        classifier = Classifier("net", "1", net)
        if exported:
            program = torch.export.export(net, (torch.from_numpy(pictures),))
            torch.export.save(program, tmp_path / f"{after}.pt2")
            classifier = classifier_from_export(tmp_path / f"{after}.pt2", "net", "1")
        labels = np.array(TARGETS)
        slice_ = Slice("images", pictures, labels, tuple("abcdef"))
        maps += explain_slice(classifier, slice_, [make_explainer(name)], labels, 0)
    before, behind = (np.nan_to_num(each.values) for each in maps)
    assert before.shape == (6, 8, 8)
    np.testing.assert_allclose(behind, before, atol=1e-5 * np.abs(before).max())
    assert np.ptp(before[0]) > 0


@pytest.mark.parametrize("convolved", [False, True], ids=["linear", "convolved"])
def test_tokens_amid_the_patches_are_refused(convolved):
    """As the class token of Vision Mamba: no grid is left that is one piece."""
    torch.manual_seed(0)
    net = Patches(1, amid=1, convolved=convolved).eval()
    with pytest.raises(UnsupportedModelError, match="no layer that gives the 65 tokens of its attention as a grid"):
        explain(net, torch.rand(2, 3, 64, 64), [0, 1], "attention_rollout")


@pytest.mark.parametrize("options", [{"patch": (8, 16)}, {"turned": True}], ids=["oblong patches", "column by column"])
def test_tokens_in_another_order_are_refused(options):
    torch.manual_seed(0)
    with pytest.raises(UnsupportedModelError, match="no layer with activations on a grid of places"):
        grids_of(Patches(4, **options), (64, 96))


def test_tokens_that_nothing_shows_are_refused_by_every_explainer():
    """The patches are taken without a layer, and attention mixes tokens before the first layer with all of them."""

    class Hidden(Patches):
        def __init__(self):
            super().__init__(4, late=True)
            self.weight = nn.Parameter(self.embed.weight.detach().clone())
            del self.embed

        def forward(self, images):
            found = nn.functional.unfold(images, self.patch, stride=self.patch).transpose(1, 2) @ self.weight.T
            tokens = torch.cat([self.prefix.expand(len(images), -1, -1), found], dim=1)
            return self.head(self.norm(self.block(tokens))[:, self.prefix.shape[1] :].mean(dim=1))

    torch.manual_seed(0)
    net, images = Hidden(), torch.rand(2, 3, 39, 55)
    for name in ("gradcam", "attention_rollout", "nearest_examples"):
        with pytest.raises(
            UnsupportedModelError, match=r"28 tokens may be 4 x 7 after 0 others or .*4 x 6 after 4 others"
        ):
            explain(net, images, [0, 1], name)


@pytest.fixture(scope="module", params=["eager", "pt2"])
def naflex(request, tmp_path_factory):
    """timm's NaFlex transformer for pictures of 64 x 96: 4 x 6 patches after four register tokens, not 4 x 7."""
    torch.manual_seed(0)
    options = {"embed_dim": 64, "depth": 2, "num_heads": 2, "num_classes": 3}
    net = timm.create_model("naflexvit_base_patch16_gap", **options).eval()
    if request.param == "eager":
        return Classifier("naflex", "1", net)
    path = tmp_path_factory.mktemp("naflex") / "model.pt2"
    torch.export.save(torch.export.export(net, (torch.zeros(2, 3, 64, 96),)), path)
    return classifier_from_export(path, "naflex", "1")


@pytest.mark.parametrize("name", ["gradcam", "attention_rollout", "nearest_examples"])
def test_naflex_is_read_as_it_is_on_pictures_that_are_not_square(name, naflex):
    images = np.random.default_rng(0).random((3, 3, 64, 96), dtype=np.float32)
    labels = np.array([0, 1, 2])
    pictures = Slice("images", images, labels, ("a", "b", "c"))
    (found,) = explain_slice(naflex, pictures, [make_explainer(name)], labels, 0)
    assert found.values.shape == (3, 4, 6)


def test_what_nothing_tells_apart_stays_open():
    """Patches cut off at the right and below, and no layer that shows their number."""
    found = read((28, 64), (70, 100))
    assert [(each.rows, each.columns, each.prefix) for each in found] == [
        (4, 7, 0),
        (5, 5, 3),
        (4, 6, 4),
        (4, 5, 8),
        (3, 6, 10),
    ]
    assert [(each.rows, each.columns) for each in read((28, 64), (70, 100), counts={24, 28})] == [(4, 6)]


def test_strides_of_a_convolution_may_differ():
    assert read((34, 64), (64, 64), {(4, 8)}) == [Places(Form.TOKENS, 4, 8, 64, 2)]


def test_tokens_must_change_where_the_image_does():
    """Quarters of 2 x 5 places after one other token: the middle column belongs to none."""
    change = torch.zeros(4, 11)
    for row, tokens in enumerate([(1, 2, 3), (3, 4, 5), (6, 7, 8), (8, 9, 10)]):
        change[row, list(tokens)] = 1.0
    assert agree(change, Places(Form.TOKENS, 2, 5, 8, 1))
    assert not agree(change, Places(Form.TOKENS, 5, 2, 8, 1))
    assert not agree(change, Places(Form.TOKENS, 3, 3, 8, 2))
    assert not agree(torch.cat([change, change[:, :1]], dim=1), Places(Form.TOKENS, 3, 4, 8, 0))
    assert not agree(torch.zeros(4, 11), Places(Form.TOKENS, 2, 5, 8, 1))
    assert agree(torch.ones(4, 11), Places(Form.TOKENS, 5, 2, 8, 1))  # mixed by attention


@pytest.mark.parametrize(
    ("shape", "size"),
    [
        ((512, 1, 1), (224, 224)),  # pooled
        ((3, 197, 64), (224, 224)),  # heads, tokens, numbers
        ((512, 4, 7), (224, 224)),  # square images have square grids
        ((512, 7, 4), (112, 224)),  # lying images have lying grids
        ((1000,), (224, 224)),
    ],
)
def test_shapes_without_places(shape, size):
    assert list(arrangements(shape, size)) == []


def test_tokens_without_places():
    assert read((1, 192), (224, 224)) == []  # a class token alone
    assert read((207, 192), (224, 224)) == []  # eleven tokens before the places


def test_a_grid_seen_elsewhere_is_that_of_the_tokens():
    assert read((9, 64), (32, 32), {(2, 2)}) == [Places(Form.TOKENS, 2, 2, 64, 5)]


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
    original = search._found
    monkeypatch.setattr(search, "_found", lambda *given: seen.append(given) or original(*given))
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


class Symmetric(nn.Module):
    def forward(self, weight):
        return (weight + weight.flip(1)) / 2


HEADS = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "of one's own": lambda head: parametrize.register_parametrization(head, "weight", Symmetric()),
    "old weight norm": nn.utils.weight_norm,
    "old spectral norm": nn.utils.spectral_norm,
    "pruned": lambda head: prune.l1_unstructured(head, "weight", 0.3),
    "without a bias": lambda head: parametrizations.weight_norm(head).register_parameter("bias", None),
}


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
@pytest.mark.parametrize("exported", [False, True], ids=["eager", "pt2"])
@pytest.mark.parametrize("made", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("classes", [2, 3])
def test_heads_whose_weights_are_made_are_drawn_anew(made, exported, classes, pictures, tmp_path):
    """Two classes are as many as the images in a batch: what makes weights gives no activations of images."""
    torch.manual_seed(0)
    net = Pooled(conv(), nn.ReLU())
    net.head = nn.Linear(8, classes)
    made(net.head)
    classifier = Classifier("net", "1", net.eval())
    if exported:
        torch.export.save(torch.export.export(net, (torch.from_numpy(pictures[:2]),)), tmp_path / "net.pt2")
        classifier = classifier_from_export(tmp_path / "net.pt2", "net", "1")
    model, images = classifier.working_copy(pictures), torch.from_numpy(pictures)
    assert heads(model) == ["head"]
    assert target_layer(model, images).name.startswith("body")
    before = evidence(model, images)
    with redrawn(model, ["head"]):
        during = evidence(model, images)
    assert (during - before).abs().max() > 0.1 * before.abs().max()
    assert torch.equal(evidence(model, images), before)
    random = shuffled(classifier, model, head_weights, seed=0).working_copy(pictures)
    assert (evidence(random, images) - before).abs().max() > 0.1 * before.abs().max()
    assert torch.equal(evidence(model, images), before)


def evidence(model, images):
    """How the logits differ from image to image: the bias drops out."""
    with torch.no_grad():
        logits = model.call(images, hooked=True)
    return logits - logits[:1]
