"""Binary: one output, explained with the sign of the label."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from torch import nn

from attrail_explainers import explain
from attrail_explainers.errors import ConfigError, UnsupportedModelError
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.tasks.binary import Binary


class OneLogit(nn.Module):
    def __init__(self, net, squeezed=False):
        super().__init__()
        self.net, self.squeezed = net, squeezed

    def forward(self, images):
        found = self.net(images)[:, 1:2]
        return found[:, 0] if self.squeezed else found


class Share(OneLogit):
    """A probability whose sigmoid nobody can see, nor a gradient."""

    def forward(self, images):
        return torch.from_numpy(expit(super().forward(images).detach().numpy()))


LABELS = [1, 0, 1, 0, 1, 1]


@pytest.mark.parametrize(
    ("explainer", "end"),
    [("saliency", "squeezed"), ("gradcam_plus_plus", "sigmoid"), ("shap", "sigmoid"), ("shap", "unseen sigmoid")],
)
def test_logit_and_probability_are_one_scale(small_net, pictures, explainer, end):
    net = small_net()
    other = {
        "squeezed": OneLogit(net, squeezed=True),
        "sigmoid": nn.Sequential(OneLogit(net), nn.Sigmoid()),
        "unseen sigmoid": Share(net),
    }[end]
    first, second = (
        explain(each, pictures, LABELS, explainer, task="binary").values for each in (OneLogit(net), other)
    )
    assert np.nanmax(np.abs(first - second)) <= 1e-3 * np.nanmax(np.abs(first))


def test_the_label_gives_the_sign(small_net, pictures):
    net = OneLogit(small_net().eval())
    found = explain(net, pictures, LABELS, "partition_shap", task="binary", baseline="zero", evaluations=60)
    with torch.no_grad():
        change = (net(torch.from_numpy(pictures)) - net(torch.zeros(1, *pictures.shape[1:])))[:, 0]
    sign = np.where(np.array(LABELS) == 1, 1, -1)
    assert found.values.sum(axis=(1, 2), dtype=np.float64) == pytest.approx(sign * change.numpy(), abs=1e-4)


def test_one_output_is_what_it_takes(small_net, pictures):
    with pytest.raises(UnsupportedModelError, match="returns 5 outputs, task binary is about one"):
        explain(small_net(), pictures, LABELS, "saliency", task="binary")
    with pytest.raises(ConfigError, match="class 2 cannot be explained: model OneLogit has 2 classes, 0 and up"):
        explain(OneLogit(small_net()), pictures, [2] * 6, "saliency", task="binary")


def test_probabilities_that_are_rounded_away_are_refused(small_net, pictures):
    class Certain(nn.Module):
        def forward(self, images):
            return (images.mean(dim=(1, 2, 3)) > 0).float()[:, None]

    with pytest.raises(UnsupportedModelError, match="some of them rounded to 0 or 1, so that logits are lost"):
        Classifier("net", "1", Certain(), task=Binary()).logits(pictures, tuple("abcdef"))
