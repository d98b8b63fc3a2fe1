"""Counterfactual patches against every subset of superpixels, and on models whose decision is known."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers.baselines import baseline_of
from attrail_explainers.errors import ExplanationError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain, explain_slice
from attrail_explainers.methods.counterfactual import Patch, flip
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.slice import Slice
from attrail_explainers.superpixels.games import Answers
from attrail_explainers.superpixels.segmentation import Segmentation

PLAYERS = 9


def asked(strategy, evidence):
    """The search's result on a model that chooses class 0 while its evidence is positive; rows asked about."""
    rows, count = next(strategy), 0
    while True:
        count += len(rows)
        worth = np.array([evidence(set(np.flatnonzero(row).tolist())) for row in rows], dtype=float)
        try:
            rows = strategy.send(Answers(worth, np.where(worth > 0, 0, 7)))
        except StopIteration as end:
            return end.value, count


def by_trying_all(evidence):
    """The size of the smallest set without which the evidence is gone, over all subsets; None when there is none."""
    everyone = set(range(PLAYERS))
    for size in range(1, PLAYERS + 1):
        if any(evidence(everyone - set(removed)) <= 0 for removed in itertools.combinations(range(PLAYERS), size)):
            return size
    return None


def drawn(seed):
    """A model of weights with pairs that act together, which the greedy search alone does not always solve."""
    generator = np.random.default_rng(seed)
    weights, pairs = generator.normal(0.4, 1, PLAYERS), generator.normal(0, 0.7, (PLAYERS, PLAYERS))

    def evidence(present):
        row = np.isin(np.arange(PLAYERS), list(present))
        return weights @ row + row @ pairs @ row + 0.3

    return evidence


def flips_without(evidence, members):
    return evidence(set(range(PLAYERS)) - set(members)) <= 0


def test_patches_flip_and_small_ones_are_smallest():
    """On 300 drawn models: the patch flips, no member of it can be put back, and what is said to be smallest is."""
    sizes = []
    for seed in range(300):
        evidence = drawn(seed)
        found, _ = asked(flip(PLAYERS, 0, 10**4), evidence)
        if evidence(set(range(PLAYERS))) <= 0:
            assert found == "the model does not choose the target"
            continue
        smallest = by_trying_all(evidence)
        if isinstance(found, str):
            assert found == "no set of superpixels was found whose removal flips the decision"
            assert smallest is None or smallest > 2 or not flips_without(evidence, range(PLAYERS))
            continue
        members = set(np.flatnonzero(found.members))
        assert flips_without(evidence, members)
        assert not any(flips_without(evidence, members - {member}) for member in members)
        assert found.smallest is (len(members) <= 3)
        if found.smallest:
            assert len(members) == smallest
        assert found.flips_to == 7
        sizes.append(len(members))
    assert {1, 2, 3, 4} <= set(sizes)


def test_pairs_are_found_that_the_greedy_search_misses():
    """Superpixel 2 has the largest drop, but only 0 and 1 flip the decision together."""

    def evidence(present):
        return 0.0 if not present & {0, 1} else 1 + len(present & {3, 4, 5}) - 0.5 * (2 not in present)

    patch, _ = asked(flip(PLAYERS, 0, 10**4), evidence)
    assert np.flatnonzero(patch.members).tolist() == [0, 1]
    assert patch.smallest


def test_promising_pairs_come_first():
    """Only 7 and 8 alone, or 0, 1 and 2, flip the decision; 48 evaluations find the three, 32 more the pair."""

    def evidence(present):
        gone = set(range(PLAYERS)) - present
        return 0.0 if gone == {7, 8} or gone >= {0, 1, 2} else 9 - 2 * (0 in gone) - len(gone & {7, 8})

    patch, _ = asked(flip(PLAYERS, 0, 48 + 32), evidence)
    assert np.flatnonzero(patch.members).tolist() == [7, 8]
    patch, count = asked(flip(PLAYERS, 0, 48 + 31), evidence)
    assert (np.flatnonzero(patch.members).tolist(), patch.smallest, count) == ([0, 1, 2], False, 48)


def test_the_largest_drops_are_removed_first():
    """Weights 1 to 9, of which more than 26 must go: 9, 8, 7 and 6, found with no evaluation to spare."""
    weights = np.arange(1, PLAYERS + 1)
    needed = 1 + PLAYERS + 8 + 7 + 6 + 4
    patch, _ = asked(flip(PLAYERS, 0, needed), lambda present: weights[list(present)].sum() - 18.5)
    assert np.flatnonzero(patch.members).tolist() == [5, 6, 7, 8]
    assert isinstance(asked(flip(PLAYERS, 0, needed - 1), lambda present: weights[list(present)].sum() - 18.5)[0], str)


def test_progress_is_told_image_by_image(small_net, pictures):
    steps, labels = [], np.array([4, 0, 0, 1, 1, 4])
    slice_ = Slice("s", pictures, labels, tuple("abcdef"))
    method = make_explainer("counterfactual", {"segments": 12, "evaluations": 40, "baseline": "zero"})
    explain_slice(Classifier("net", "1", small_net()), slice_, [method], labels, 0, steps.append)
    assert steps == [1] * 6 + [0]


def test_of_several_superpixels_the_one_with_the_largest_drop():
    patch, count = asked(flip(PLAYERS, 0, 10**4), lambda present: 1 - 2 * (3 not in present) - 3 * (5 not in present))
    assert np.flatnonzero(patch.members).tolist() == [5]
    assert count == 1 + PLAYERS


def test_needless_members_are_put_back():
    """The two largest drops lead astray: 0 and 1 are removed first and needed no more once 2, 3 and 4 are gone."""

    def evidence(present):
        gone = {0, 1, 2, 3, 4} - present
        return -1 if {2, 3, 4} <= gone else 20 - 5 * len(gone & {0, 1}) - len(gone & {2, 3, 4})

    patch, _ = asked(flip(PLAYERS, 0, 10**4), evidence)
    assert np.flatnonzero(patch.members).tolist() == [2, 3, 4]
    assert patch.smallest


@pytest.mark.parametrize("budget", range(1, 60))
def test_budget_is_kept(budget):
    """Too small a one is told; one for all but the pairs gives a patch that is not proven to be smallest."""
    found, count = asked(flip(PLAYERS, 0, budget), lambda present: len(present) - 5.5)
    assert count <= budget
    if budget < 1 + 9 + 8 + 7 + 6 + 4:
        assert found == f"{budget} evaluations ran out before a set of superpixels that flips the decision was settled"
    else:
        assert isinstance(found, Patch)
        assert found.size == 4
        assert not found.smallest


class Reddest(nn.Module):
    """Class 1 while the image is more red than its sum of green and blue, else class 2 if that is green, else 0."""

    def forward(self, images):
        red, green, blue = images.mean(dim=(2, 3)).unbind(dim=1)
        return torch.stack([blue, red - 0.01, green], dim=1) * 100


@pytest.fixture
def red_square():
    """Black but for one red square and a little green in the corner."""
    image = torch.zeros(1, 3, 64, 64)
    image[0, 0, 32:48, 16:32] = 1
    image[0, 1, :8, :8] = 1
    return image


def test_patch_is_the_evidence(red_square):
    """Without the red square the model chooses the green class."""
    found = explain(Reddest(), red_square, [1], "counterfactual", segments=16, baseline="zero")
    assert set(np.unique(found.values)) == {0, 1}
    patch = found.values[0].astype(bool)
    assert patch[32:48, 16:32].mean() > 0.7
    assert found.diagnostics["patch_share"][0] == patch.mean() < 0.3
    assert found.diagnostics["patch_superpixels"][0] == len(
        np.unique(Segmentation(16).segment(red_square[0].numpy())[patch])
    )
    assert found.diagnostics["flips_to"].tolist() == [2]


def test_removing_the_patch_flips_the_model(small_net, pictures):
    net, images = small_net().eval(), torch.from_numpy(pictures)
    with torch.no_grad():
        chosen = net(images.clone()).argmax(dim=1)
    found = explain(net, images, chosen, "counterfactual", segments=12, baseline="zero")
    assert found.defined.sum() >= 5
    for row in np.flatnonzero(found.defined):
        patch = torch.from_numpy(found.values[row] == 1)
        without = torch.where(patch, baseline_of(images[row], "zero"), images[row])
        with torch.no_grad():
            logits = net(without[None].clone())[0]
        assert logits.argmax() == found.diagnostics["flips_to"][row] != chosen[row]


def test_reasons_for_having_no_patch(red_square):
    """Not chosen, never flipped, too few evaluations, no parts."""
    images = torch.cat([red_square, red_square * torch.tensor([1.0, 0, 0]).reshape(3, 1, 1)])
    found = explain(
        Reddest(), torch.cat([images, images[:1]]), [1, 1, 0], "counterfactual", segments=16, baseline="zero"
    )
    assert found.undefined["2"] == "the model does not choose the target"
    assert np.isnan(found.diagnostics["flips_to"]).tolist() == (~found.defined).tolist()
    with pytest.raises(ExplanationError, match="no set of superpixels was found"):
        explain(Steady(), images, [0, 0], "counterfactual", segments=16)
    with pytest.raises(ExplanationError, match="5 evaluations ran out"):
        explain(Steady(), images, [0, 0], "counterfactual", segments=16, evaluations=5)
    with pytest.raises(ExplanationError, match="fewer than two superpixels"):
        explain(Steady(), images, [0, 0], "counterfactual", segments=1)


class Steady(nn.Module):
    """Chooses class 0, whatever it is shown."""

    def forward(self, images):
        return images.mean(dim=(2, 3)) * 0 + torch.tensor([2.0, -1, 0])


def test_target_matters(small_net, pictures):
    """Each picture has a patch for the class that the model chooses, and for no other."""
    net = small_net().eval()
    with torch.no_grad():
        chosen = net(torch.from_numpy(pictures.copy())).argmax(dim=1).numpy()
    for target in set(chosen.tolist()):
        found = explain(net, pictures, [target] * 6, "counterfactual", segments=12, baseline="zero")
        told = [found.undefined.get(str(row)) == "the model does not choose the target" for row in range(6)]
        assert told == (chosen != target).tolist()
