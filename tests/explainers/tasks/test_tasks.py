"""What every task promises, held for every file of ``tasks/``."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers import explain, explainer_names, make_task, task_names
from attrail_explainers.errors import ConfigError, UnknownNameError, UnsupportedModelError
from attrail_explainers.explanation import given_subjects
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.task import Target, tensors_of

FEW = {"evaluations": 40, "segments": 8}
CHEAP = {"shap": FEW, "lime": FEW, "partition_shap": FEW, "smoothgrad": {"samples": 3}, "gradient_shap": {"samples": 6}}


class OneLogit(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net(images)[:, :1]


class Vector(nn.Module):
    """The features before the head."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return self.net.pool(self.net.features(self.net.squash(images))).flatten(1)


class Grid(nn.Module):
    """A box of a fixed size at each place of the features, with objectness and class scores, (N,P,5+C) in pixels."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        found = self.net.features(self.net.squash(images))
        rows, columns = (torch.arange(size) * 4.0 + 2 for size in found.shape[2:])
        places = torch.cartesian_prod(rows, columns).flip(1).to(found)
        boxes = torch.cat([places, torch.full_like(places, 24)], dim=1).expand(len(found), -1, -1)
        return torch.cat([boxes, found[:, :6].flatten(2).transpose(1, 2).sigmoid()], dim=2)


class Places(nn.Module):
    """The head at each place of the features, brought to the images' size."""

    def __init__(self, net):
        super().__init__()
        self.net = net
        self.head = nn.Conv2d(16, 5, 1)
        self.head.weight.data = net.head.weight.data[:, :, None, None]

    def forward(self, images):
        found = self.head(self.net.features(self.net.squash(images)))
        return nn.functional.interpolate(found, images.shape[2:], mode="bilinear")


SINGLE, BINARY = [0, 1, 2, 3, 4, 0], [0, 1, 1, 0, 1, 0]
LABELS = [[0, 2], [1], [], [0, 1, 3], [4], [2]]
BOXES = [{"boxes": [[8, 8, 32, 32], [20, 30, 50, 60]], "labels": [0, 3]}, {"boxes": [], "labels": []}] + [
    {"boxes": [[4, 16, 30, 44]], "labels": [label]} for label in (1, 2, 4, 0)
]
QUESTIONS = {
    "single_label": (lambda net: net, SINGLE, {}),
    "binary": (OneLogit, BINARY, {}),
    "multi_label": (lambda net: net, LABELS, {}),
    "regression": (lambda net: net, None, {"column": 2}),
    "embedding": (Vector, None, {}),
    "detection": (Grid, BOXES, {"threshold": 0.2}),
    "segmentation": (Places, LABELS, {}),
}
every_task = pytest.mark.parametrize("name", task_names())


@pytest.fixture
def asked(small_net, pictures):
    """A task's name to the classifier, the slice, the target and the outputs of the small network."""

    def ask(name, images=pictures):
        wrap, targets, parameters = QUESTIONS[name]
        classifier = Classifier("net", "1", wrap(small_net()), task=make_task(name, parameters))
        ids = tuple(f"picture {row}" for row in range(len(images)))
        slice_, target = given_subjects(classifier, images, targets, ids)
        return classifier, slice_, target, torch.from_numpy(classifier.logits(slice_.images, slice_.sample_ids))

    return ask


@every_task
def test_a_score_is_one_finite_number_for_each_row_in_double_precision(name, asked):
    _, slice_, target, outputs = asked(name)
    scores = target.score(outputs)
    assert scores.shape == (len(slice_),) == (len(target),)
    assert scores.dtype == torch.float64
    assert scores.isfinite().all()


@every_task
def test_a_row_is_scored_by_itself(name, asked):
    _, _, target, outputs = asked(name)
    together = target.score(outputs)
    for row in range(len(target)):
        alone = target.row(row).score(outputs[row : row + 1])
        assert alone.numpy().tobytes() == together[row : row + 1].numpy().tobytes()
    assert target.row(0).score(outputs).shape == (len(outputs),), "one row stands for any number of outputs"


@every_task
def test_scores_and_slopes_have_gradients(name, asked):
    _, _, target, outputs = asked(name)
    for number in (target.score, target.slope):
        leaf = outputs.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(number(leaf).sum(), leaf)
        assert gradient.isfinite().all()
    assert gradient.flatten(1).any(dim=1).all(), "the slope of no row is flat"


@every_task
def test_the_target_is_the_same_for_every_version(name, asked, small_net):
    classifier, slice_, target, _ = asked(name)
    other = Classifier("net", "2", QUESTIONS[name][0](small_net(7)), task=classifier.task)
    other.require(target, slice_.images)
    outputs = torch.from_numpy(other.logits(slice_.images, slice_.sample_ids))
    assert target.score(outputs).shape == (len(target),)
    assert (target.digest is None) is (name == "single_label")


@every_task
def test_the_digest_tells_targets_apart(name, asked):
    _, _, target, _ = asked(name)
    if name != "single_label":
        assert target.digest == target.rows(slice(0, len(target))).digest
        assert target.digest != target.rows(slice(0, len(target) - 1)).digest


@every_task
def test_decisions_are_one_for_each_row(name, asked):
    _, slice_, target, outputs = asked(name)
    decided = target.task.decided(slice_, outputs.numpy(), target)
    if decided is None:
        assert name == "regression", "without a tolerance nothing is decided"
        return
    assert decided.predictions.shape == (len(slice_),)
    if decided.confidences is not None:
        assert ((decided.confidences >= 0) & (decided.confidences <= 1)).all()


@every_task
def test_versions_diverge_as_far_as_noise_moves_them(name, asked):
    _, _, target, outputs = asked(name)
    plain, task = outputs.numpy(), target.task
    noise = np.random.default_rng(0).normal(size=plain.shape).astype(np.float32) * plain.std()
    near, far = (task.divergence(plain, plain + share * noise) for share in (0.01, 1.0))
    assert task.divergence(plain, plain) == pytest.approx(0, abs=1e-9)
    assert 0 < near < far
    assert task.churn(plain, plain) == 0 <= task.churn(plain, plain + noise) <= 1


@every_task
def test_outputs_are_found_in_whatever_a_model_returns(name, asked):
    classifier, slice_, target, _ = asked(name)
    images = torch.from_numpy(slice_.images)
    with torch.inference_mode():
        plain = classifier.module.eval()(images.clone())
    expected = target.task.parts(plain, images)[""]
    for returned in ((plain,), {"answer": plain, "loss": None}, [plain]):
        (found,) = target.task.parts(returned, images).values()
        assert torch.equal(found, expected)


NOT_FOR = {"embedding": {"cam", "counterfactual"}, "segmentation": {"cam"}}


@pytest.mark.parametrize("name", ["multi_label", "embedding", "segmentation"])  # the least like a single label
@pytest.mark.parametrize("explainer", [each for each in explainer_names() if each != "attention_rollout"])
def test_every_explainer_explains_it_or_says_why_not(name, explainer, small_net, pictures):
    wrap, targets, parameters = QUESTIONS[name]
    net, task = wrap(small_net()), make_task(name, parameters)
    given = (pictures[:4, :, ::2, ::2], targets and targets[:4], explainer)
    if explainer in NOT_FOR.get(name, ()):
        with pytest.raises(UnsupportedModelError, match=explainer):
            explain(net, *given, task=task)
        return
    found = explain(net, *given, task=task, **CHEAP.get(explainer, {}))
    assert len(found.values) == (4 if targets is None else sum(map(len, targets[:4])))
    assert found.defined.any()
    assert found.target is not None


@every_task
def test_no_task_that_can_be_chosen_is_missing_in_the_table(name):
    table = (Path(__file__).parents[3] / "explainers" / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"^\| `{name}` \|", table, flags=re.MULTILINE)


@every_task
def test_every_file_is_tried_here(name):
    assert name in QUESTIONS


@every_task
def test_a_name_of_an_output_is_text(name):
    with pytest.raises(ConfigError, match="output must be the name of a part of what the model returns, not 3"):
        make_task(name, {"output": 3})


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(UnknownNameError, match="unknown task 'multilabel': known are binary, detection, embedding, "):
        make_task("multilabel")
    with pytest.raises(ConfigError, match="task 'binary' has no parameter 'treshold'"):
        make_task("binary", {"treshold": 0.4})


def test_tensors_are_named_by_where_they_are():
    one = torch.zeros(1)
    assert list(tensors_of({"a": one, "b": [one, {"c": one}], "d": None, "e": "text"})) == ["a", "b.0", "b.1.c"]
    assert list(tensors_of(one)) == [""]


def test_a_target_knows_which_class_its_rows_are_about():
    plain = Target(make_task("regression"), {"column": np.zeros(2, dtype=np.int64)})
    assert plain.classes.tolist() == [-1, -1]
