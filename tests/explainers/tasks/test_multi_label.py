"""Multi-label: a map for each label, all labels of an image from the same evaluations."""

from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

from attrail_explainers import assess, explain, make_task
from attrail_explainers.errors import ConfigError, UnsupportedModelError
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.output_scale import Outputs, label_scale_of
from attrail_explainers.tasks.multi_label import MultiLabel

SETTINGS = {"segments": 12, "evaluations": 40}
LABELS = [[0, 2], [1], [], [0, 1, 3], [4], [2]]


class Counting(nn.Module):
    """Counts the images it was shown, in the class's own list: models are run as copies."""

    shown: ClassVar[list[int]] = []

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        self.shown.append(len(images))
        return self.net(images)


def images_shown(net, pictures, labels, explainer, **parameters):
    """Images that a model is shown, beside those that it is looked at with first."""
    Counting.shown.clear()
    Classifier("net", "1", Counting(net), task=MultiLabel()).working_copy(pictures)
    first = sum(Counting.shown)
    Counting.shown.clear()
    explain(Counting(net), pictures, labels, explainer, task="multi_label", **parameters)
    return sum(Counting.shown) - first


@pytest.mark.parametrize("tolerance", [None, 0.9])
def test_all_labels_of_an_image_cost_as_much_as_one(small_net, pictures, tolerance):
    evaluations = {"segments": 30, "evaluations": 200, "tolerance": tolerance}
    one, all_ = (
        images_shown(small_net(), pictures[:2], labels, "shap", **evaluations)
        for labels in ([[0], [0]], [[0, 1, 2, 3, 4]] * 2)
    )
    assert all_ == one if tolerance is None else one <= all_ <= 2 * (200 + 31)


def test_labels_share_evaluations_where_they_do_not_fit_one_batch(small_net, pictures):
    """17 pictures with five labels each are 85 rows of batches of 32."""
    many = np.concatenate([pictures] * 3)[:17, :, ::2, ::2]
    one = images_shown(small_net(), many, [[0]] * 17, "lime", **SETTINGS)
    assert images_shown(small_net(), many, [[0, 1, 2, 3, 4]] * 17, "lime", **SETTINGS) == one


@pytest.mark.parametrize("explainer", ["shap", "lime", "gradcam", "saliency", "occlusion", "smoothgrad"])
def test_a_label_alone_has_the_same_map_as_among_others(small_net, pictures, explainer):
    together = explain(small_net(), pictures, LABELS, explainer, task="multi_label")
    row = together.sample_ids.index("3 [1]")
    alone = explain(small_net(), pictures[3:4], [[1]], explainer, task="multi_label", sample_ids=["3"])
    assert np.abs(alone.values[0] - together.values[row]).max() <= 1e-6 * np.abs(together.values[row]).max()
    assert together.targets.tolist() == [0, 2, 1, 0, 1, 3, 4, 2]


def test_a_map_sums_to_the_change_of_the_labels_own_logit(small_net, pictures):
    """Not of its log odds against the other labels, which softmax would give."""
    net = small_net().eval()
    found = explain(net, pictures, LABELS, "partition_shap", task="multi_label", baseline="zero", **SETTINGS)
    with torch.no_grad():
        change = net(torch.from_numpy(pictures)) - net(torch.zeros(1, *pictures.shape[1:]))
    expected = [float(change[row, label]) for row, labels in enumerate(LABELS) for label in labels]
    assert found.values.sum(axis=(1, 2), dtype=np.float64) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("explainer", ["saliency", "gradcam", "shap"])
def test_a_sigmoid_changes_nothing(small_net, pictures, explainer):
    plain, ended = small_net(), nn.Sequential(small_net(), nn.Sigmoid())
    first, second = (explain(net, pictures, LABELS, explainer, task="multi_label").values for net in (plain, ended))
    assert np.nanmax(np.abs(first - second)) <= 1e-5 * np.nanmax(np.abs(first))
    scale = Classifier("net", "1", ended, task=MultiLabel()).working_copy(pictures).scale
    assert str(scale) == "probabilities of labels, taken before sigmoid, as logits"


class Odds(nn.Module):
    """A sigmoid that nobody can see, as behind a framework's border."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return torch.from_numpy(expit(self.net(images).detach().numpy()))


def test_numbers_that_are_shares_for_any_image_are_probabilities(small_net, pictures):
    model = Classifier("net", "1", Odds(small_net()), task=MultiLabel()).working_copy(pictures)
    assert model.scale.outputs is Outputs.LABEL_PROBABILITIES
    plain = Classifier("net", "1", small_net(), task=MultiLabel()).working_copy(pictures)
    images = torch.from_numpy(pictures)
    with torch.no_grad():
        torch.testing.assert_close(model.call(images), plain.call(images), atol=1e-5, rtol=1e-4)


def test_a_sigmoid_that_left_no_trace_is_known_by_its_numbers():
    shares, logits = torch.tensor([[0.2, 0.9, 0.4]]), torch.tensor([[0.2, 0.9, -0.4]])
    found = label_scale_of("m", shares, None, lambda: shares, 1e-7)
    assert str(found) == "probabilities of labels, their log odds taken as logits"
    torch.testing.assert_close(found.logits(shares, "m"), torch.logit(shares))
    assert str(label_scale_of("m", shares, None, lambda: logits, 1e-7)) == "logits of labels"


@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_one_class_of_several_is_another_task(small_net, pictures, end):
    with pytest.raises(UnsupportedModelError, match="sum to 1, so that a label that comes takes from the others"):
        explain(nn.Sequential(small_net(), end), pictures, LABELS, "saliency", task="multi_label")


def test_targets_may_be_an_array_of_zeros_and_ones(small_net, pictures):
    table = np.zeros((6, 5), dtype=np.int64)
    for row, labels in enumerate(LABELS):
        table[row, labels] = 1
    lists = explain(small_net(), pictures, LABELS, "saliency", task="multi_label")
    for given in (table, table.astype(bool), torch.from_numpy(table)):
        assert explain(small_net(), pictures, given, "saliency", task="multi_label").digest == lists.digest


@pytest.mark.parametrize(
    ("targets", "wrong"),
    [
        ([0, 1, 2, 3, 4, 0], "must be a list of labels for each image, or an array"),
        (None, "must be a list of labels for each image, or an array"),
        ([[0], [1]], "must be labels of 6 images, got those of 2"),
        ([[]] * 6, "no image has a label: there is nothing to explain"),
        ([[0.5]] * 6, "must be class indices, which are whole numbers, not np.float64"),
        (np.full((6, 5), 2), "must hold 1 where an image has a label and 0 where it has not"),
        ([[5]] * 6, "label 5 cannot be explained: model SmallNet has 5 labels, 0 and up"),
        ([[-1]] * 6, "label -1 cannot be explained: model SmallNet has 5 labels, 0 and up"),
    ],
)
def test_what_are_no_labels_is_refused(small_net, pictures, targets, wrong):
    with pytest.raises(ConfigError, match=wrong):
        explain(small_net(), pictures, targets, "saliency", task="multi_label")


@pytest.mark.parametrize("threshold", [0, 1, "0.5", float("nan")])
def test_a_threshold_is_a_share(threshold):
    with pytest.raises(ConfigError, match="threshold must lie between 0 and 1"):
        make_task("multi_label", {"threshold": threshold})


def test_checks_ask_for_each_label(small_net, pictures):
    found = assess(small_net(), pictures, LABELS, "saliency", ["deletion", "seed_noise"], task="multi_label")
    assert len(found.outcomes["deletion"].values) == 8
    assert (found.outcomes["seed_noise"].values == 0).all()
