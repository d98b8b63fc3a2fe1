"""Regression: the number itself is explained, in its own unit."""

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers import explain, make_task
from attrail_explainers.errors import ConfigError, UnsupportedModelError
from attrail_explainers.slice import Slice
from attrail_explainers.tasks.regression import Regression


class Number(nn.Module):
    """Ten times one output of a network, squeezed: (N,)."""

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, images):
        return 10 * self.net(images)[:, 2]


def test_a_map_sums_to_the_change_of_the_number(small_net, pictures):
    net = Number(small_net().eval())
    found = explain(net, pictures, explainer="shap", task="regression", segments=12, evaluations=60, baseline="mean")
    with torch.no_grad():
        images = torch.from_numpy(pictures)
        change = net(images.clone()) - net(images.mean(dim=(2, 3), keepdim=True).expand_as(images).clone())
    assert found.values.sum(axis=(1, 2), dtype=np.float64) == pytest.approx(change.numpy(), abs=1e-3)


def test_the_gradient_is_that_of_the_number(small_net, pictures):
    net = Number(small_net().eval())
    images = torch.from_numpy(pictures).clone().requires_grad_()
    (gradient,) = torch.autograd.grad(net(images.clone()).sum(), images)
    found = explain(net, pictures, explainer="saliency", task="regression")
    assert found.values == pytest.approx(gradient.abs().amax(dim=1).numpy(), rel=1e-4, abs=1e-6)


def test_a_sigmoid_at_the_end_belongs_to_the_number(small_net, pictures):
    """A share, such as how much of a picture is cloud, is explained as a share."""
    net = nn.Sequential(Number(small_net().eval()), nn.Sigmoid())
    found = explain(net, pictures, explainer="partition_shap", task="regression", baseline="zero", evaluations=60)
    with torch.no_grad():
        change = net(torch.from_numpy(pictures)) - net(torch.zeros(1, *pictures.shape[1:]))
    assert found.values.sum(axis=(1, 2), dtype=np.float64) == pytest.approx(change.numpy(), abs=1e-5)


def test_one_of_several_numbers_is_chosen(small_net, pictures):
    third = explain(small_net(), pictures, explainer="saliency", task=Regression(column=2))
    tenth = explain(Number(small_net()), pictures, explainer="saliency", task="regression")
    assert tenth.values == pytest.approx(10 * third.values, rel=1e-4, abs=1e-6)
    with pytest.raises(UnsupportedModelError, match="returns 5 numbers for an image: say which one is meant"):
        explain(small_net(), pictures, explainer="saliency", task="regression")
    with pytest.raises(ConfigError, match="column 5 cannot be explained: model SmallNet has 5 columns, 0 and up"):
        explain(small_net(), pictures, explainer="saliency", task=Regression(column=5))


def test_numbers_need_no_targets(small_net, pictures):
    with pytest.raises(ConfigError, match="task regression explains the model's own number: leave targets out"):
        explain(Number(small_net()), pictures, [1.0] * 6, "saliency", task="regression")


@pytest.mark.parametrize("wrong", [{"column": -1}, {"column": True}, {"tolerance": 0}, {"tolerance": "1"}])
def test_parameters_are_what_they_must_be(wrong):
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))} must be"):
        make_task("regression", wrong)


def test_with_a_tolerance_numbers_are_decisions():
    values = np.array([1.0, 2.0, 3.0])
    slice_ = Slice("s", np.zeros((3, 1, 2, 2), np.float32), np.full(3, -1), ("a", "b", "c"), facts={"value": values})
    outputs = np.array([[1.05], [2.5], [3.0]], dtype=np.float32)
    target = Regression().asked(slice_)
    assert Regression().decided(slice_, outputs, target) is None
    found = Regression(tolerance=0.1).decided(slice_, outputs, target)
    assert found.predictions == pytest.approx([1.05, 2.5, 3.0])
    assert (found.truths == values).all()
    assert found.tolerance == 0.1
    assert Regression(tolerance=0.1).churn(outputs, outputs + np.float32([[0.05], [0.2], [0.3]])) == pytest.approx(
        2 / 3
    )
