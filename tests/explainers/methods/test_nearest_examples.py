"""Nearest examples against the cosine of pooled features, written anew."""

import numpy as np
import pytest
import timm
import torch
from torch import nn

from attrail_explainers.errors import ExplanationError, UnsupportedModelError
from attrail_explainers.explanation import explain
from attrail_explainers.methods.nearest_examples import nearest, shares


class Signed(nn.Module):
    """conv -> mean over places -> linear, in double precision; activations of both signs."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 8, stride=8).double()
        self.head = nn.Linear(6, 3).double()

    def forward(self, images):
        return self.head(self.conv(images.double()).mean(dim=(2, 3)))


@pytest.fixture
def many(pictures):
    """Forty different pictures: more than one batch."""
    flipped = np.concatenate([pictures, pictures[..., ::-1], pictures[:, ::-1], pictures[:, :, ::-1]])
    return np.ascontiguousarray(np.concatenate([flipped, -flipped])[:40])


def activations_of(net, images):
    with torch.no_grad():
        return net.conv(torch.from_numpy(images).double()).numpy()


def found_on(images, order=None, net=None):
    order = list(range(len(images)) if order is None else order)
    ids = [f"picture {row:02}" for row in order]
    return explain(net or Signed(), images[order], [0] * len(order), "nearest_examples", sample_ids=ids)


def test_neighbour_is_the_nearest_by_cosine(many):
    features = activations_of(Signed(), many).mean(axis=(2, 3))
    lengths = np.sqrt((features**2).sum(axis=1))
    cosines = features @ features.T / np.outer(lengths, lengths) - 2 * np.eye(len(many))
    found = found_on(many)
    assert found.diagnostics["neighbour"].tolist() == cosines.argmax(axis=1).tolist()
    assert found.diagnostics["similarity"] == pytest.approx(cosines.max(axis=1), abs=1e-6)
    assert len(set(cosines.argmax(axis=1))) > 5


@pytest.mark.parametrize("function", [nn.ReLU, nn.Hardtanh])
def test_an_in_place_activation_after_the_layer_is_not_taken_for_it(many, function):
    class Followed(Signed):
        def __init__(self, inplace):
            super().__init__()
            self.function = function(inplace=inplace)

        def forward(self, images):
            return self.head(self.function(self.conv(images)).mean(dim=(2, 3)))

    def exported(inplace):  # its operations write in place as the module's did
        size = {0: torch.export.Dim.AUTO}
        program = torch.export.export(
            Followed(inplace).float().eval(), (torch.zeros(2, *many.shape[1:]),), dynamic_shapes=(size,)
        )
        return torch.export.unflatten(program)

    found, expected = (
        explain(exported(inplace), many, [0] * len(many), "nearest_examples", layer="conv") for inplace in (True, False)
    )
    assert found.values.min() < 0
    assert np.array_equal(found.values, expected.values)


def test_places_share_the_similarity(many):
    """The map's mean is the similarity; each place's share is its activation's part of the dot product."""
    found, activations = found_on(many), activations_of(Signed(), many)
    features = activations.mean(axis=(2, 3))
    assert found.values.shape == (40, 8, 8)
    assert found.values.min() < 0 < found.values.max()
    assert found.values.mean(axis=(1, 2)) == pytest.approx(found.diagnostics["similarity"], abs=1e-6)
    for row in (0, 17, 39):
        other = features[int(found.diagnostics["neighbour"][row])]
        dots = np.tensordot(other, activations[row], axes=1)
        expected = dots / np.sqrt((other**2).sum() * (features[row] ** 2).sum())
        assert found.values[row] == pytest.approx(expected, abs=1e-6)


def test_order_and_batches_do_not_matter(many):
    """The same bytes and the same neighbours, whichever batch an image and its neighbour fall into."""
    order = np.random.default_rng(0).permutation(len(many)).tolist()
    first, shuffled = found_on(many), found_on(many, order)
    for place, row in enumerate(order):
        assert shuffled.values[place].tobytes() == first.values[row].tobytes()
        assert (
            shuffled.sample_ids[int(shuffled.diagnostics["neighbour"][place])]
            == (first.sample_ids[int(first.diagnostics["neighbour"][row])])
        )
        assert shuffled.diagnostics["similarity"][place] == first.diagnostics["similarity"][row]


def test_equally_near_neighbours_are_told_apart_by_name():
    units = np.array([[1.0, 0], [0.6, 0.8], [0.6, 0.8], [0, 1]])
    assert nearest(units, ("a", "b", "c", "d"), "a") == 1
    assert nearest(units, ("a", "y", "c", "d"), "a") == 2
    assert nearest(units, ("a", "b", "c", "d"), "b") == 2


def test_images_without_features_are_nobodys_neighbour():
    units = np.array([[1.0, 0], [np.nan, np.nan], [0, 1]])
    assert nearest(units, ("a", "b", "c"), "a") == 2
    assert nearest(units, ("a", "b", "c"), "b") is None
    assert nearest(units[:1], ("a",), "a") is None
    assert nearest(units[:2], ("a", "b"), "a") is None


def test_the_same_image_twice_is_as_similar_as_can_be(many):
    found = found_on(np.concatenate([many[:3], many[:1]]))
    assert found.diagnostics["neighbour"][[0, 3]].tolist() == [3, 0]
    assert found.diagnostics["similarity"][[0, 3]] == pytest.approx(1, abs=1e-9)


def test_scale_of_the_features_does_not_matter():
    generator = np.random.default_rng(0)
    activations, unit = generator.normal(size=(5, 3, 4)), np.eye(5)[2]
    assert shares(7 * activations, unit) == pytest.approx(shares(activations, unit))


def test_single_image_has_no_neighbour(many):
    with pytest.raises(ExplanationError, match="the slice has no other image"):
        found_on(many[:1])


def test_image_without_activation_is_undefined(many):
    """A rectified layer that a dark image leaves at zero."""
    net = Signed()
    net.conv = nn.Sequential(net.conv, nn.ReLU())
    with torch.no_grad():
        net.conv[0].weight.abs_()
        net.conv[0].bias.zero_()
    images = np.abs(many[:4])
    images[2] = -1
    found = found_on(images, net=net)
    assert list(found.undefined) == ["picture 02"]
    assert np.isnan(found.diagnostics["similarity"][2])
    assert np.isnan(found.diagnostics["neighbour"][2])
    assert 2 not in found.diagnostics["neighbour"]


def test_whole_slice_is_called_once_for_its_features(many):
    """Each image is run twice, for its features and for its map: two batches each, beside what finds the layer."""
    calls = []

    class Counting(Signed):
        def forward(self, images):
            calls.append(len(images))
            return super().forward(images)

    found_on(many[:3], net=Counting())
    few = len(calls)
    found_on(many, net=Counting())
    assert len(calls) - few == few + 2


@pytest.mark.parametrize("make", ["test_vit", "test_convnext", "test_efficientnet"])
def test_any_layer_with_places(pictures, make):
    """Tokens and grids with the channels last are places too; the map's mean is the similarity on each of them."""
    torch.manual_seed(0)
    net = timm.create_model(make, num_classes=5, **({"img_size": 64} if make == "test_vit" else {}))
    found = explain(net, pictures, [0] * 6, "nearest_examples")
    assert min(found.values.shape[1:]) > 1
    assert found.values.mean(axis=(1, 2)) == pytest.approx(found.diagnostics["similarity"], abs=1e-6)
    assert (found.diagnostics["similarity"] > -1).all()


def test_layer_without_places_is_named(many):
    with pytest.raises(UnsupportedModelError, match="layer 'head'"):
        explain(Signed(), many[:3], [0, 0, 0], "nearest_examples", layer="head")
