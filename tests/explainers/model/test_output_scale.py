"""What a model returns is found once; every method sees its logits, the same as without its last function."""

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers.assessment.assessment import assess
from attrail_explainers.difference import explain_difference
from attrail_explainers.errors import ConfigError, UnsupportedModelError
from attrail_explainers.explainer import explainer_class, explainer_names, make_explainer
from attrail_explainers.explanation import explain, explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.model.log_odds import target_log_odds
from attrail_explainers.model.output_scale import Outputs
from attrail_explainers.slice import Slice

TARGETS = [0, 1, 2, 3, 4, 0]
FEW = {"segments": 6, "evaluations": 24, "steps": 4, "samples": 4, "window": 0.5, "stride": 0.5}


class Ended(nn.Module):
    """A network and what follows it."""

    def __init__(self, net, end):
        super().__init__()
        self.model, self.end = net, end

    def forward(self, images):
        return self.end(self.model(images))


def binary(seed=0):
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 1)
    )


def scale_of(net, images):
    return Classifier("net", "1", net).working_copy(images).scale


ENDS = {
    "softmax": (nn.Softmax(dim=1), Outputs.PROBABILITIES),
    "a call of softmax": (lambda logits: logits.softmax(-1), Outputs.PROBABILITIES),
    "softmax in double precision": (lambda logits: logits.double().softmax(1), Outputs.PROBABILITIES),
    "special softmax": (lambda logits: torch.special.softmax(logits, 1), Outputs.PROBABILITIES),
    "log softmax": (nn.LogSoftmax(dim=1), Outputs.LOG_PROBABILITIES),
    "log of softmax": (lambda logits: logits.softmax(1).log(), Outputs.LOG_PROBABILITIES),
    "exp of log softmax": (lambda logits: logits.log_softmax(1).exp(), Outputs.PROBABILITIES),
    "softmax over places": (lambda logits: logits[:, :, None, None].softmax(1).flatten(1), Outputs.PROBABILITIES),
}


@pytest.mark.parametrize(("end", "outputs"), ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("exported", [False, True], ids=["eager", "exported"])
def test_logits_are_those_before_the_last_function(end, outputs, exported, small_net, pictures, tmp_path):
    net = small_net().eval()
    classifier = Classifier("net", "1", Ended(net, end))
    if exported:
        program = torch.export.export(Ended(net, end).eval(), (torch.from_numpy(pictures[:2]),))
        torch.export.save(program, tmp_path / "net.pt2")
        classifier = classifier_from_export(tmp_path / "net.pt2", "net", "1")
    ids = tuple(map(str, range(6)))
    found, expected = classifier.logits(pictures, ids), Classifier("net", "1", net).logits(pictures, ids)
    scale = classifier.working_copy(pictures).scale
    assert scale.outputs is outputs
    assert scale.function in str(scale)
    np.testing.assert_allclose(found, expected, atol=2e-5)


def by_parts(logits):
    """As decompositions and hand-written layers do."""
    shares = (logits - logits.amax(1, keepdim=True)).exp()
    return shares / shares.sum(1, keepdim=True)


def in_place(logits):
    shares = logits.sub_(logits.amax(1, keepdim=True)).exp_()
    return shares.div_(shares.sum(1, keepdim=True))


COMPOSED = {
    "softmax by parts": by_parts,
    "softmax in place": in_place,
    "softmax and a bound": lambda logits: logits.softmax(1).clamp(1e-7, 1 - 1e-7),
    "softmax and a small number": lambda logits: logits.softmax(1) + 1e-8,
    "softmax, written out again": lambda logits: torch.stack(logits.softmax(1).unbind(1), dim=1),
    "softmax in half precision": lambda logits: logits.softmax(1).half(),
    "log softmax by parts": lambda logits: logits - logits.logsumexp(1, keepdim=True),
    "log of softmax and a small number": lambda logits: (logits.softmax(1) + 1e-8).log(),
}


@pytest.mark.parametrize("end", COMPOSED.values(), ids=COMPOSED)
@pytest.mark.parametrize("exported", [False, True], ids=["eager", "exported"])
def test_maps_are_those_of_the_model_without_what_comes_to_softmax(end, exported, small_net, pictures, tmp_path):
    """By its parts or with more done to it: the gradients are those of the logits too."""
    net = small_net().eval()
    classifier = Classifier("net", "1", Ended(net, end))
    if exported:
        program = torch.export.export(Ended(net, end).eval(), (torch.from_numpy(pictures[:2]),))
        torch.export.save(program, tmp_path / "net.pt2")
        classifier = classifier_from_export(tmp_path / "net.pt2", "net", "1")
    slice_ = Slice("some", pictures, np.array(TARGETS), tuple(map(str, range(6))))
    asked = [make_explainer("gradcam", {}), make_explainer("saliency", {})]
    found = explain_slice(classifier, slice_, asked, slice_.labels, 0)
    expected = explain_slice(Classifier("net", "1", net), slice_, asked, slice_.labels, 0)
    for maps, plain in zip(found, expected, strict=True):
        np.testing.assert_allclose(maps.values, plain.values, atol=1e-5 * np.abs(plain.values).max())


@pytest.mark.parametrize(
    "end", [lambda logit: 1 / (1 + (-logit).exp()), lambda logit: logit.sigmoid().clamp(1e-6, 1 - 1e-6)]
)
def test_one_probability_by_parts_is_the_logit(end, pictures):
    net = binary().eval()
    plain, ended = (explain(each, pictures, [0, 1] * 3, "saliency").values for each in (net, Ended(net, end)))
    np.testing.assert_allclose(ended, plain, atol=1e-5 * np.abs(plain).max())


def test_several_sigmoids_by_parts_are_refused(small_net, pictures):
    with pytest.raises(UnsupportedModelError, match="ends in a sigmoid for each of 5 labels"):
        explain(Ended(small_net().eval(), lambda logits: 1 / (1 + (-logits).exp())), pictures, TARGETS, "saliency")


@pytest.mark.parametrize("name", explainer_names())
def test_maps_are_those_of_the_model_without_softmax(name, small_net, small_transformer, pictures):
    net = (small_transformer if name == "attention_rollout" else small_net)(0).eval()
    with torch.no_grad():
        net.head.bias -= net(torch.from_numpy(pictures)).mean(dim=0)  # decisions that perturbations can flip
        targets = net(torch.from_numpy(pictures)).argmax(dim=1)
    parameters = {key: value for key, value in FEW.items() if key in fields_of(name)}
    if name == "counterfactual":
        parameters = {"segments": 9}
    maps = [explain(each, pictures, targets, name, **parameters) for each in (net, Ended(net, nn.Softmax(dim=1)))]
    assert maps[0].values.tobytes() == maps[1].values.tobytes()


def fields_of(name):
    return {each.name for each in dataclasses.fields(explainer_class(name))}


def test_confident_models_keep_their_log_odds(small_net, pictures):
    """Float32 probabilities of these logits are exactly 0 and 1."""
    net = small_net().eval()
    with torch.no_grad():
        net.head.weight *= 5000
    ids = tuple(map(str, range(6)))
    plain, ended = (Classifier("net", "1", each).logits(pictures, ids) for each in (net, Ended(net, nn.Softmax(1))))
    assert (Ended(net, nn.Softmax(1))(torch.from_numpy(pictures)) == 0).any()
    assert plain.tobytes() == ended.tobytes()


def of_two(logits):
    """The mean of two models' probabilities: no softmax ends it."""
    return (logits.softmax(1) + (2 * logits).softmax(1)) / 2


MULTIPLIED = {
    "percent": lambda shares: 100 * shares,
    "a temperature too late": lambda shares: shares / 0.25,
    "in place": lambda shares: shares.mul_(3),
    "a parameter": lambda shares: torch.tensor(7.0) * shares,
    "a parameter of one row": lambda shares: torch.mul(shares, torch.full((1, 1), 0.5)),
    "twice, and in another shape": lambda shares: (shares.unsqueeze(2) * 10 / 4).flatten(1),
}


@pytest.mark.parametrize("end", MULTIPLIED.values(), ids=MULTIPLIED)
@pytest.mark.parametrize("exported", [False, True], ids=["eager", "exported"])
def test_probabilities_times_a_number_are_probabilities(end, exported, small_net, pictures, tmp_path):
    """They are no logits: the softmax of a softmax is nearly the same for all classes."""
    net = small_net().eval()
    ended = Ended(net, lambda logits: end(logits.softmax(1)))
    classifier = Classifier("net", "1", ended)
    if exported:
        program = torch.export.export(ended, (torch.from_numpy(pictures[:2]),))
        torch.export.save(program, tmp_path / "net.pt2")
        classifier = classifier_from_export(tmp_path / "net.pt2", "net", "1")
    ids = tuple(map(str, range(6)))
    found, expected = classifier.logits(pictures, ids), Classifier("net", "1", net).logits(pictures, ids)
    scale = classifier.working_copy(pictures).scale
    assert (scale.outputs, scale.function) == (Outputs.PROBABILITIES, "softmax")
    np.testing.assert_allclose(found, expected, atol=2e-5)


def test_one_probability_in_percent_is_the_logit(pictures):
    net = binary().eval()
    plain, ended = (
        explain(each, pictures, [0, 1] * 3, "saliency").values
        for each in (net, Ended(net, lambda logit: 100 * logit.sigmoid()))
    )
    np.testing.assert_allclose(ended, plain, atol=1e-5 * np.abs(plain).max())


def test_probabilities_times_a_number_that_cannot_be_traced_are_refused(small_net, pictures):
    for end in (lambda logits: 100 * by_parts(logits), lambda logits: 5 * of_two(logits)):
        with pytest.raises(
            UnsupportedModelError, match=r"sum to (100|5) for any image, as probabilities times a const"
        ):
            explain(Ended(small_net().eval(), end), pictures, TARGETS, "saliency")


def test_logits_of_at_least_0_are_logits(small_net, pictures):
    """Rectified ones, whose sums differ, and those of a linear head that hardly differ."""
    assert scale_of(Ended(small_net().eval(), nn.ReLU()), pictures).outputs is Outputs.LOGITS
    net = small_net().eval()
    with torch.no_grad():
        net.head.weight *= 1e-6
        net.head.bias.fill_(2)
    assert scale_of(net, pictures).outputs is Outputs.LOGITS


def test_probabilities_that_no_softmax_ends_give_their_log_odds(small_net, pictures):
    classifier = Classifier("net", "1", Ended(small_net().eval(), of_two))
    scale = classifier.working_copy(pictures).scale
    assert (scale.outputs, scale.function) == (Outputs.PROBABILITIES, None)
    assert str(scale) == "probabilities, their logarithms taken as logits"
    logits = torch.from_numpy(classifier.logits(pictures, tuple(map(str, range(6)))))
    with torch.no_grad():
        share = of_two(small_net().eval()(torch.from_numpy(pictures)))[:, 2].double()
    expected = torch.log(share) - torch.log(1 - share)
    torch.testing.assert_close(target_log_odds(logits, 2), expected, atol=1e-4, rtol=1e-4)


def test_probabilities_rounded_to_nothing_are_refused(small_net, pictures):
    net = Ended(small_net().eval(), lambda logits: of_two(logits * 1e4))
    with pytest.raises(UnsupportedModelError, match=r"rounded to 0, so that its logits are lost: log it without"):
        explain(net, pictures, TARGETS, "saliency")


def test_logits_that_look_like_probabilities_for_one_image_are_logits(pictures):
    """The first picture's outputs lie in 0..1 and sum to 1; those of others do not."""

    class Like(nn.Module):
        def __init__(self):
            super().__init__()
            self.mean = nn.Parameter(torch.from_numpy(pictures[0]).mean(dim=(1, 2)))

        def forward(self, images):
            return images.mean(dim=(2, 3)) - self.mean + torch.tensor([0.2, 0.3, 0.5])

    outputs = Like()(torch.from_numpy(pictures[:1]))
    torch.testing.assert_close(outputs.sum(), torch.tensor(1.0))
    assert scale_of(Like(), pictures).outputs is Outputs.LOGITS


def test_logits_between_0_and_1_of_a_linear_head_are_logits(small_net, pictures):
    net = small_net().eval()
    with torch.no_grad():
        net.head.weight *= 1e-6
        net.head.bias.fill_(0.5)
    assert scale_of(net, pictures).outputs is Outputs.LOGITS


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        (nn.Sigmoid(), r"ends in a sigmoid for each of 5 labels.*log it with the logits as its outputs"),
        (nn.LogSigmoid(), r"ends in a sigmoid for each of 5 labels"),
        (nn.Hardsigmoid(), r"cannot tell whether they are logits; log the model with its logits as outputs"),
    ],
    ids=["sigmoid", "log sigmoid", "hard sigmoid"],
)
def test_independent_labels_are_refused(end, reason, small_net, pictures):
    for call in (
        lambda net: explain(net, pictures, TARGETS, "shap"),
        lambda net: assess(net, pictures, TARGETS, "saliency", ["deletion"]),
        lambda net: explain_difference(small_net(), net, pictures, TARGETS),
    ):
        with pytest.raises(UnsupportedModelError, match=reason):
            call(Ended(small_net(), end))


def test_softmax_over_one_output_is_refused(pictures):
    with pytest.raises(UnsupportedModelError, match="has one output and ends in softmax"):
        explain(nn.Sequential(binary(), nn.Softmax(dim=1)), pictures, TARGETS)


def test_model_that_ends_otherwise_now_and_then_is_refused(small_net, pictures):
    class Sometimes(Ended):
        def forward(self, images):
            return self.model(images) if images.mean() > 1 else super().forward(images)

    classifier = Classifier("net", "1", Sometimes(small_net(), nn.Softmax(1)))
    classifier.working_copy(pictures)
    with pytest.raises(UnsupportedModelError, match="ends in softmax for some images and not for others"):
        classifier.logits(pictures + 5, tuple(map(str, range(6))))


SINGLE = {
    "one logit": (nn.Identity(), Outputs.LOGIT),
    "one number": (lambda logit: logit[:, 0], Outputs.LOGIT),
    "sigmoid": (nn.Sigmoid(), Outputs.PROBABILITY),
    "sigmoid of one number": (lambda logit: torch.special.expit(logit).squeeze(1), Outputs.PROBABILITY),
    "in place": (lambda logit: logit.sigmoid_(), Outputs.PROBABILITY),
    "log sigmoid": (nn.LogSigmoid(), Outputs.LOG_PROBABILITY),
}


@pytest.mark.parametrize(("end", "outputs"), SINGLE.values(), ids=SINGLE)
def test_one_output_stands_for_two_classes(end, outputs, pictures):
    net = binary().eval()
    classifier = Classifier("net", "1", Ended(net, end))
    found = torch.from_numpy(classifier.logits(pictures, tuple(map(str, range(6)))))
    with torch.no_grad():
        logit = net(torch.from_numpy(pictures))[:, 0]
    assert classifier.working_copy(pictures).scale.outputs is outputs
    assert found.shape == (6, 2)
    torch.testing.assert_close(target_log_odds(found, 1), logit.double(), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(target_log_odds(found, 0), -logit.double(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", ["input_x_gradient", "shap", "cam", "integrated_gradients", "gradcam"])
def test_the_class_gives_the_sign(name, pictures):
    parameters = {key: value for key, value in FEW.items() if key in fields_of(name)}
    net = nn.Sequential(binary(), nn.Sigmoid())
    ones, zeros = (explain(net, pictures, [label] * 6, name, **parameters).values for label in (1, 0))
    assert np.isfinite(ones).any()
    if name == "gradcam":  # positive evidence alone: what speaks for one class does not for the other
        both = np.isfinite(ones) & np.isfinite(zeros)
        assert not (ones[both] * zeros[both]).any()
        assert np.isfinite(zeros).any()
    else:
        np.testing.assert_allclose(zeros, -ones, rtol=1e-3, atol=1e-3 * np.abs(ones).max())


def test_labels_of_one_output_are_0_and_1(pictures):
    with pytest.raises(ConfigError, match="class 2 cannot be explained: model Sequential has 2 classes"):
        explain(binary(), pictures, [0, 1, 2, 0, 1, 0])


def test_checks_take_one_output(pictures):
    found = assess(binary(), pictures, [1, 0, 1, 0, 1, 0], "saliency", ["deletion", "random_head"])
    assert np.isfinite(found.outcomes["deletion"].values).all()
    assert found.outcomes["random_head"].mean < 0.999


def test_head_of_one_output_must_count(pictures):
    """The check that a map depends on the head is made for one output too."""

    class Unheeded(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 1, 8, stride=8), nn.Linear(1, 1)

        def forward(self, images):
            found = self.conv(images).relu().mean(dim=(2, 3))
            return found + 0 * self.head(found)

    with pytest.raises(UnsupportedModelError, match="its map does not change when the head is drawn anew"):
        explain(Unheeded(), pictures, [1, 0, 1, 0, 1, 0])
