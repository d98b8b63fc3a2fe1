"""Exhibits against independent computations: torch's own gradients, NumPy's moments, distances known in closed form."""

import copy

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from attrail_explainers.exhibits.representation_difference import differences, groups_of, ranks_of
from attrail_explainers.exhibits.similarity import cka, gram
from attrail_explainers.inspection.exhibit import make_exhibit
from attrail_explainers.inspection.looking import look_inside, show, view_of
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.slice import Preprocessing, Slice
from attrail_explainers.tasks.single_label import SingleLabel

LABELS = [0, 1, 2, 3, 4, 0]


def test_activations_are_the_moments_of_what_a_layer_gives(small_net, pictures) -> None:
    net = small_net().eval()
    with torch.no_grad():
        net.features[3].weight[5], net.features[3].bias[5] = 0, 0
        net.features[4].running_mean[5], net.features[4].bias[5] = 0, -1
        values = net.features(net.squash(torch.from_numpy(pictures.copy()))).double().numpy()
    shown = look_inside(net, pictures, LABELS, "activations", layers=("features.5",))
    assert np.allclose(shown.arrays["version/features.5/mean"], values.mean(axis=(0, 2, 3)), atol=1e-6)
    assert np.allclose(shown.arrays["version/features.5/sd"], values.std(axis=(0, 2, 3)), atol=1e-5)
    assert (shown.arrays["version/features.5/dead"] == (values == 0).all(axis=(2, 3)).mean(axis=0)).all()
    assert shown.arrays["version/features.5/dead"][5] == 1
    assert shown.rows[0]["still"] == {"version": int((values.max(axis=(0, 2, 3)) == values.min(axis=(0, 2, 3))).sum())}
    assert "features.5 (" in shown.notes[0]


def test_gradients_are_those_of_the_mean_cross_entropy(small_net, pictures) -> None:
    net = copy.deepcopy(small_net()).eval().requires_grad_(True)
    cross_entropy(net(torch.from_numpy(pictures.copy())), torch.tensor(LABELS)).backward()
    shown = look_inside(small_net(), pictures, LABELS, "gradients")
    for row in shown.rows:
        weights = list(net.get_submodule(row["layer"]).parameters(recurse=False))
        norm = torch.cat([each.grad.flatten() for each in weights]).norm()
        assert row["gradient"]["version"] == pytest.approx(float(norm), rel=1e-4)
        count = sum(each.numel() for each in weights)
        assert shown.arrays[f"version/{row['layer']}/weights"].sum() == count
    assert [row["layer"] for row in shown.rows] == ["features.0", "features.1", "features.3", "features.4", "head"]


def test_cka_is_1_for_a_turned_space_and_0_for_independent_ones() -> None:
    random = np.random.default_rng(0)
    features = random.normal(size=(24, 400))
    turned = features @ np.linalg.qr(random.normal(size=(400, 400)))[0]
    assert cka(gram(features), gram(3 * turned + 1)) == pytest.approx(1)
    independent = [abs(cka(gram(features), gram(random.normal(size=(24, 400))))) for _ in range(8)]
    assert max(independent) < 0.2  # the plain estimator gives .94 for these
    assert cka(gram(features), gram(np.ones((24, 3)))) == 0


def test_images_that_one_version_alone_holds_alike_are_grouped() -> None:
    random = np.random.default_rng(1)
    first = random.normal(size=(24, 8))
    second = first.copy()
    second[[3, 8, 13, 21]] = first[3] + 0.01 * random.normal(size=(4, 8))
    ranks = [ranks_of(first), ranks_of(second)]
    (members, strength), *_ = groups_of(differences(ranks[1], ranks[0]), 3, 9, seed=0)
    assert set(members.tolist()) == {3, 8, 13, 21}
    assert strength > 0.5
    assert groups_of(differences(ranks[0], ranks[0]), 3, 9, seed=0) == []


class Straight(nn.Module):
    """Logits that are linear in the pixels: how far it is to the nearest other class is known."""

    def __init__(self, seed: int, scale: float) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.scale = scale
        self.whole = nn.Linear(3 * 8 * 8, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.scale * self.whole(images.flatten(1))


def test_what_flips_a_linear_model_is_its_distance_to_the_border() -> None:
    images = np.random.default_rng(3).uniform(0.3, 0.7, size=(5, 3, 8, 8)).astype(np.float32)
    pixels = Preprocessing(size=(8, 8), mean=(0.5,) * 3, std=(0.25,) * 3)
    slice_ = Slice("five", (images - 0.5) / 0.25, np.zeros(5, dtype=np.int64), tuple("abcde"), pixels)
    net = Straight(0, 1.0)
    view = view_of([Classifier("straight", "1", net)], slice_, SingleLabel.of(slice_.labels), 0)
    shown = show(view, {"adversarial": make_exhibit("adversarial")}, "adversarial")
    with torch.no_grad():
        logits = net(torch.from_numpy(slice_.images)).double()
        slope = (net.whole.weight[0] - net.whole.weight[1]).double() / 0.25  # in a pixel of 0..1
    margin = (logits[:, 0] - logits[:, 1]).abs()
    known = {"l2": margin / slope.norm(), "linf": margin / slope.abs().sum()}
    for norm, sizes in known.items():
        found = shown.arrays[f"version/{norm}"]
        assert (found >= sizes.numpy()).all()
        assert np.allclose(found, sizes.numpy(), rtol=0.05, atol=1e-4), norm
    assert "pixels of 0..1" in shown.notes[0]


def test_the_image_that_excites_a_channel_is_its_first_example(small_net, pictures) -> None:
    net = small_net().eval()
    images = pictures.copy()
    with torch.no_grad():
        values = net.features(net.squash(torch.from_numpy(images.copy()))).numpy()
    shown = look_inside(small_net(), images, LABELS, "examples", layer="features.5", channels=3, pictures=2)
    for row in shown.rows:
        best = np.argsort(-values[:, row["channel"]].max(axis=(1, 2)))[:2]
        assert row["liked"]["version"] == [str(each) for each in best]
    panel = shown.panels[0]
    assert panel.title == f"channel {shown.rows[0]['channel']}: largest activation"
    assert (panel.pictures[0].values == (255, 255, 0)).all(axis=2).any()


def pictured(small_net, pictures, **parameters):
    chosen = {"layer": "features.4", "channels": 2, "steps": 60} | parameters
    return look_inside(small_net(), pictures, LABELS, "feature_visualization", **chosen)


def test_pictures_excite_their_channel_and_have_the_spectrum_of_the_slice(small_net, pictures) -> None:
    shown, noise = (pictured(small_net, pictures, steps=steps) for steps in (60, 1))
    free = pictured(small_net, pictures, spectrum="free", steps=100)
    for row, start, wild in zip(shown.rows, noise.rows, free.rows, strict=True):
        assert start["picture"]["version"] < row["picture"]["version"] < wild["picture"]["version"]
        assert wild["picture"]["version"] > row["best_image"]["version"]
    found = np.abs(np.fft.rfft2(shown.arrays["version/features.4/pictures"][0].astype(np.float64)))
    wanted = np.mean([np.abs(np.fft.rfft2(each.astype(np.float64))) for each in pictures], axis=0)
    inner = (slice(None), slice(1, None), slice(1, -1))  # where a coefficient has no other that mirrors it
    assert np.allclose(found[inner], wanted[inner], rtol=1e-2, atol=1e-2)
    assert "Geirhos" in shown.notes[0]
