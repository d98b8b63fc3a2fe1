"""What a model returns: a tensor, or one of a tuple, a dict or a dataclass; the part that answers is found once."""

from collections import namedtuple
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from attrail_explainers import explain, make_task
from attrail_explainers.errors import ConfigError, UnsupportedModelError
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.description import describe
from attrail_explainers.tasks.single_label import SingleLabel


@dataclass
class Output:
    logits: torch.Tensor
    hidden: torch.Tensor | None = None


Pair = namedtuple("Pair", "logits features")
FORMS = {
    "tuple": lambda logits, hidden: (logits, hidden),
    "list": lambda logits, hidden: [hidden, logits],
    "dict": lambda logits, hidden: {"hidden": hidden, "logits": logits, "loss": None},
    "dataclass": Output,
    "named tuple": Pair,
    "nested": lambda logits, hidden: {"heads": (hidden, {"species": logits})},
}
PLACES = {"tuple": "0", "list": "1", "nested": "heads.1.species"}


class Returning(nn.Module):
    """``hidden`` (N,16,h,w) beside the logits, or a vector (N,16) that could be logits as well."""

    def __init__(self, net, form, pooled=False, end=None):
        super().__init__()
        self.net, self.form, self.pooled, self.end = net, form, pooled, end or nn.Identity()

    def forward(self, images):
        hidden = self.net.features(self.net.squash(images))
        pooled = self.net.pool(hidden).flatten(1)
        return FORMS[self.form](self.end(self.net.head(pooled)), pooled if self.pooled else hidden)


every_form = pytest.mark.parametrize("form", FORMS)


@every_form
@pytest.mark.parametrize("explainer", ["gradcam", "saliency"])
def test_the_one_that_fits_is_found(small_net, pictures, form, explainer):
    plain = explain(small_net(), pictures, [0, 1, 2, 3, 4, 0], explainer)
    found = explain(Returning(small_net(), form), pictures, [0, 1, 2, 3, 4, 0], explainer)
    assert found.values.tobytes() == plain.values.tobytes()


@every_form
def test_where_several_fit_one_must_be_named(small_net, pictures, form):
    net, place = Returning(small_net(), form, pooled=True), PLACES.get(form, "logits")
    with pytest.raises(UnsupportedModelError, match="returns several things that could be meant"):
        explain(net, pictures, [0] * 6, "saliency")
    task = make_task("single_label", {"output": place})
    found = explain(net, pictures, [0] * 6, "saliency", task=task)
    assert found.values.tobytes() == explain(small_net(), pictures, [0] * 6, "saliency").values.tobytes()
    with pytest.raises(ConfigError, match="output 'probs' is nothing that model Returning returns: choose one of"):
        explain(net, pictures, [0] * 6, "saliency", task=make_task("single_label", {"output": "probs"}))


def test_a_lone_tensor_answers_whatever_name_the_reference_had(small_net, pictures):
    found = explain(small_net(), pictures, [0] * 6, "saliency", task=make_task("single_label", {"output": "logits"}))
    assert found.values.tobytes() == explain(small_net(), pictures, [0] * 6, "saliency").values.tobytes()


@pytest.mark.parametrize("form", ["dict", "tuple"])
@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_a_softmax_in_it_is_seen_through(small_net, pictures, form, end):
    net = Returning(small_net(), form, end=end)
    plain, found = (explain(each, pictures, [0, 1, 2, 3, 4, 0], "saliency") for each in (small_net(), net))
    assert found.values == pytest.approx(plain.values, rel=1e-4, abs=1e-6)
    said = describe(Classifier("net", "1", net), pictures, tuple("abcdef"))
    place = PLACES.get(form, "logits")
    assert said.outputs.endswith(f"as logits, in its output {place!r}")
    assert said.output == place


def test_embeddings_and_logits_of_one_model_are_two_questions(small_net, pictures):
    net = Returning(small_net(), "dict", pooled=True)
    task = make_task("embedding", {"output": "hidden"})
    assert len(explain(net, pictures, None, "shap", task=task, segments=12).values) == 6


class Nothing(nn.Module):
    def __init__(self, returned):
        super().__init__()
        self.returned = returned

    def forward(self, images):
        return self.returned(images)


@pytest.mark.parametrize(
    ("returned", "got"),
    [
        (lambda images: None, "got NoneType"),
        (lambda images: {"maps": images}, r"got 'maps' \(2, 3, 64, 64\)"),
        (lambda images: images, r"got \(2, 3, 64, 64\)"),
        (lambda images: (images[:, 0, 0].long(),), r"got '0' \(2, 64\) of int64"),
        (lambda images: images[:1].mean(dim=(2, 3)), r"got \(1, 3\)"),
    ],
)
def test_what_holds_no_logits_is_refused_by_what_it_is(pictures, returned, got):
    with pytest.raises(UnsupportedModelError, match=rf"expected logits \(N,classes\) for 2 images, {got}; log a model"):
        Classifier("net", "1", Nothing(returned), task=SingleLabel()).working_copy(pictures)
