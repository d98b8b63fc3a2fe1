"""What every explainer promises; every file of ``methods/`` is held to it without being asked."""

import dataclasses
import json
import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import get_args

import numpy as np
import pytest
import torch

from attrail_explainers.assessment.assessment import assess
from attrail_explainers.assessment.check import make_check
from attrail_explainers.attributions import load_attributions, save_attributions
from attrail_explainers.difference import explain_difference
from attrail_explainers.digest import digest_of_arrays
from attrail_explainers.errors import ConfigError, ExplanationError, SliceError, UnknownNameError, UnsupportedModelError
from attrail_explainers.explainer import Need, Trait, explainer_class, explainer_names, make_explainer
from attrail_explainers.explanation import explain, explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.working_copy import MOST
from attrail_explainers.slice import Slice
from attrail_explainers.superpixels.evaluations import Perturbation
from attrail_explainers.superpixels.segmentation import Segmentation

BATCH = MOST["cpu"]  # what the small pictures are called in

# 12 superpixels do not fit 40 evaluations: coalitions are drawn
SMALL = {"segments": 12, "evaluations": 40, "window": 0.25, "stride": 0.25, "steps": 6, "samples": 6}
TARGETS = [0, 1, 2, 3, 4, 0]
CHOSEN = {"counterfactual": [4, 0, 0, 1, 1, 4]}  # the classes that the small net chooses: others have no patch
OWN = {"counterfactual": {"baseline": "zero"}}  # blurred, the pictures do not change the small net's mind

every_explainer = pytest.mark.parametrize("name", explainer_names())
# What looks for other images gives another map, or none, when an image is alone; its signs are the layer's own.
explainers_of_one_image = pytest.mark.parametrize(
    "name", [name for name in explainer_names() if Need.EXAMPLES not in explainer_class(name).needs]
)


@pytest.fixture
def net_for(small_net, small_transformer):
    """Makes the net that an explainer is tried on: a small convolutional one unless it needs attention."""
    return lambda name: small_transformer() if Need.ATTENTION in explainer_class(name).needs else small_net()


@pytest.fixture
def run(net_for, pictures):
    """Runs an explainer cheaply on the pictures, or on what is given instead."""

    def run(name, images=None, targets=None, ids=None, seed=0, net=None):
        images = pictures if images is None else images
        targets = targets_of(name)[: len(images)] if targets is None else targets
        ids = [f"picture {row}" for row in range(len(images))] if ids is None else ids
        return explain(net or net_for(name), images, targets, name, seed=seed, sample_ids=ids, **cheap(name))

    return run


def cheap(name):
    fields = {field.name for field in dataclasses.fields(explainer_class(name))}
    return {key: value for key, value in SMALL.items() if key in fields} | OWN.get(name, {})


def targets_of(name):
    return CHOSEN.get(name, TARGETS)


def bytes_by_sample(attributions):
    rows = enumerate(attributions.sample_ids)
    maps = {sample: attributions.values[row].tobytes() for row, sample in rows}
    numbers = {
        (key, sample): array[row].tobytes()
        for key, array in attributions.diagnostics.items()
        if key != "neighbour"  # a row of the slice: it depends on the order
        for row, sample in enumerate(attributions.sample_ids)
    }
    return maps | numbers


def state_of(module):
    """Everything about a module that explaining must leave as it is."""
    weights = {name: tensor.detach().clone().numpy() for name, tensor in module.state_dict().items()}
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "weights": digest_of_arrays(sorted(weights.items())),
        "modes": {name: each.training for name, each in module.named_modules()},
        "hooks": {name: sum(len(getattr(each, kind)) for kind in hooks) for name, each in module.named_modules()},
        "requires_grad": {name: each.requires_grad for name, each in module.named_parameters()},
        "gradients": {name: each.grad is None for name, each in module.named_parameters()},
    }


@every_explainer
def test_same_seed_same_bytes(run, name):
    first, second = run(name), run(name)
    assert bytes_by_sample(first) == bytes_by_sample(second)
    assert first.digest == second.digest


@every_explainer
def test_order_of_images_does_not_matter(run, pictures, name):
    order = [4, 0, 5, 2, 1, 3]
    shuffled = run(name, pictures[order], [targets_of(name)[row] for row in order], [f"picture {row}" for row in order])
    assert bytes_by_sample(shuffled) == bytes_by_sample(run(name))


@explainers_of_one_image
def test_one_image_alone_equals_the_same_image_among_others(run, pictures, name):
    among = run(name)
    for row in np.flatnonzero(among.defined):
        alone = run(name, pictures[row : row + 1], [targets_of(name)[row]], [f"picture {row}"])
        assert bytes_by_sample(alone).items() <= bytes_by_sample(among).items()


@explainers_of_one_image
def test_more_images_than_one_batch(run, pictures, name):
    """The last copy of each picture falls into a second, shorter batch."""
    many = np.concatenate([pictures] * 6)
    ids = [f"picture {row}" for row in range(len(many))]
    together = run(name, many, targets_of(name) * 6, ids)
    last = run(name, many[-1:], targets_of(name)[-1:], ids[-1:])
    assert together.values[-1].tobytes() == last.values[0].tobytes()
    assert together.sample_ids == tuple(ids)


@every_explainer
def test_batch_size_changes_the_rounding_only(run, name, monkeypatch):
    """Same draws; values within 1e-6 of the largest, for kernels choose their order of summation by the batch."""
    expected = run(name)
    monkeypatch.setitem(MOST, "cpu", 4)
    found = run(name)
    assert dict(found.undefined) == dict(expected.undefined)
    largest = float(np.nanmax(np.abs(expected.values)))
    assert found.values == pytest.approx(expected.values, abs=1e-6 * largest, rel=0, nan_ok=True)


@every_explainer
def test_seed_changes_perturbations_only(run, name):
    first, other = run(name, seed=0), run(name, seed=1)
    drawn = Trait.RANDOM in explainer_class(name).traits
    assert (first.values.tobytes() != other.values.tobytes()) is drawn
    assert first.comparability != other.comparability


@explainers_of_one_image
def test_draws_depend_on_the_sample_id(run, pictures, name):
    first, renamed = run(name, pictures[:1], ids=["a"]), run(name, pictures[:1], ids=["b"])
    drawn = Trait.RANDOM in explainer_class(name).traits
    assert (first.values.tobytes() != renamed.values.tobytes()) is drawn


@every_explainer
def test_model_and_images_untouched(run, net_for, pictures, name):
    """A full batch is not padded, so that it alone could reach the model's in-place first operation."""
    net, images = net_for(name), np.concatenate([pictures] * 6)[:BATCH]
    assert Classifier("net", "1", net_for(name)).working_copy(images).batch == BATCH
    before, pixels = state_of(net), images.copy()
    first = run(name, images, (targets_of(name) * 6)[:BATCH], net=net)
    assert state_of(net) == before
    assert images.tobytes() == pixels.tobytes()
    second = run(name, images, (targets_of(name) * 6)[:BATCH], net=net)
    assert bytes_by_sample(first) == bytes_by_sample(second)


@every_explainer
def test_model_untouched_when_it_fails(run, net_for, pictures, name):
    net = net_for(name)
    before = state_of(net)
    with pytest.raises(Exception, match="cannot take images"):
        run(name, pictures[:, :2], net=net)
    assert state_of(net) == before


@every_explainer
def test_maps_are_finite_or_declared_undefined(run, pictures, name):
    blank = np.zeros_like(pictures[:1])
    found = run(name, np.concatenate([pictures, blank]), [*targets_of(name), 1])
    finite = np.isfinite(found.values).all(axis=(1, 2))
    assert finite.tolist() == found.defined.tolist()
    assert finite.sum() >= 3, "the pictures show too little to hold the method to anything"
    assert all(reason.strip() for reason in found.undefined.values())


@explainers_of_one_image
def test_maps_are_signed_unless_rectified(run, name):
    values = run(name).values
    assert bool(np.nanmin(values) >= 0) is (Trait.UNSIGNED in explainer_class(name).traits)
    assert np.nanmax(values) > 0


@pytest.mark.parametrize("name", [name for name in explainer_names() if name not in CHOSEN])
def test_target_matters(run, pictures, name):
    """Those that have maps only of the class that the model chooses have a test of their own."""
    values = [run(name, pictures[:3], [target] * 3).values for target in range(5)]
    assert len({each.tobytes() for each in values}) == (1 if Trait.UNTARGETED in explainer_class(name).traits else 5)


@every_explainer
@pytest.mark.parametrize("target", [-1, 5])
def test_unknown_class_is_refused(run, pictures, name, target):
    with pytest.raises(ConfigError, match=rf"class {target}\b.*5 classes"):
        run(name, pictures[:2], [0, target])


@every_explainer
def test_parameters_are_recorded(run, name):
    found = run(name, seed=7)
    fields = {field.name for field in dataclasses.fields(explainer_class(name))}
    assert set(found.parameters) == fields | {"seed"}
    assert found.parameters["seed"] == 7
    assert found.parameters.items() >= cheap(name).items()


@every_explainer
def test_unknown_parameter_is_named(name):
    fields = ", ".join(field.name for field in dataclasses.fields(explainer_class(name)))
    with pytest.raises(ConfigError, match=rf"{name}.*'sharpness'.*takes {fields}"):
        make_explainer(name, {"sharpness": 1})


@every_explainer
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_model_that_returns_no_number_is_named_itself(name, number, net_for, pictures):
    """And no layer of it, nor the explainer: weights that training spoilt, or a division by zero at the end."""
    net = net_for(name)
    with torch.no_grad():
        net.head.bias.fill_(number)
    calls = [lambda: explain(net, pictures, TARGETS, name)]
    if name == "saliency":
        calls += [
            lambda: assess(net, pictures, TARGETS, "gradcam", ["random_head"]),
            lambda: explain_difference(net_for(name), net, pictures, TARGETS),
        ]
    for call in calls:
        with pytest.raises(
            ExplanationError, match=r"^model \w+ returns only NaN or infinite outputs: check its weights"
        ):
            call()


@pytest.mark.parametrize("name", ["gradcam", "gradcam_plus_plus", "layercam", "cam"])
def test_an_image_without_numbers_has_no_map_and_the_others_have_theirs(name, small_net, pictures):
    class Spoilt(torch.nn.Module):
        """Gives NaN for the image whose first pixel says so, and as its activations."""

        def __init__(self):
            super().__init__()
            self.net = small_net()

        def forward(self, images):
            spoilt = torch.where(images[:, :1, :1, :1] > 99, torch.nan, 0.0)
            return self.net(images + spoilt)

    pictures = np.array(pictures)
    pictures[:, 0, 0, 0] = [0.2, 0.5, 100, -0.5, 0, 0.3]
    found = explain(Spoilt(), pictures, TARGETS, name)
    expected = explain(small_net(), pictures, TARGETS, name)
    assert found.undefined["2"] == "its activations or gradients are not finite"
    others = [0, 1, 3, 4, 5]
    assert np.nan_to_num(found.values[others]) == pytest.approx(np.nan_to_num(expected.values[others]), abs=1e-5)


@every_explainer
def test_impossible_parameters_are_refused_before_any_model_is_called(name, impossible):
    """Whatever a parameter takes, it is no other type, NaN or infinite, and the message names the parameter."""
    for field in dataclasses.fields(explainer_class(name)):
        for value in impossible(field):
            with pytest.raises(ConfigError, match=rf"{field.name} must .*, not {re.escape(repr(value))}"):
                make_explainer(name, {field.name: value})


@every_explainer
def test_numbers_that_are_taken_give_maps(name, net_for, pictures):
    """0 and -1 are what one forgets: a parameter refuses them, naming itself, or they mean something."""
    for field in dataclasses.fields(explainer_class(name)):
        for value in (0, -1) if {int, float} & {field.type, *get_args(field.type)} else ():
            told = refusal(make_explainer, name, {field.name: value})
            if told is not None:
                assert re.search(rf"^{field.name} must .*, not {value}$", told)
                continue
            parameters = cheap(name) | {field.name: value}
            found = explain(net_for(name), pictures, targets_of(name), name, **parameters)
            assert found.defined.any(), f"{field.name} = {value} is taken, and gives no map of any picture"


def refusal(make, *arguments):
    try:
        make(*arguments)
    except ConfigError as error:
        return str(error)
    return None


@pytest.mark.parametrize("seed", [True, 1.0, -1, "0", None])
def test_seeds_are_whole_numbers(seed, small_net, pictures):
    for call in (explain, assess):
        with pytest.raises(ConfigError, match="seed must be a whole number of at least 0"):
            call(small_net(), pictures, TARGETS, "saliency", seed=seed)
    with pytest.raises(ConfigError, match="seed must be a whole number of at least 0"):
        explain_difference(small_net(), small_net(), pictures, TARGETS, seed=seed)


@pytest.mark.parametrize("name", ["lime", "smoothgrad", "partition_shap"])
def test_numbers_of_numpy_give_the_bytes_that_pythons_give(name, small_net, pictures, tmp_path):
    """Given to the explainer by name or by itself; the file that is kept says the same of both."""
    whole = {"samples": 3} if name == "smoothgrad" else {"segments": 9, "evaluations": 24}
    counted = {key: np.int64(value) for key, value in whole.items()}
    expected = explain(small_net(), pictures, TARGETS, name, seed=7, **whole)
    found = explain(small_net(), pictures, TARGETS, name, seed=np.uint16(7), **counted)
    slice_ = Slice("images", pictures, np.array(TARGETS), tuple(map(str, range(6))))
    classifier, method = Classifier("SmallNet", "", small_net()), explainer_class(name)(**counted)
    (alone,) = explain_slice(classifier, slice_, [method], slice_.labels, np.int64(7))
    assert found.digest == alone.digest == expected.digest
    save_attributions(alone, tmp_path / "maps.safetensors")
    assert load_attributions(tmp_path / "maps.safetensors").parameters == expected.parameters


def test_checks_and_differences_take_numbers_of_numpy(small_net, pictures):
    checks = [make_check("max_sensitivity", {"draws": np.int64(2)})]
    found, expected = (
        assess(small_net(), pictures, TARGETS, "saliency", chosen, seed=seed)
        for chosen, seed in ((checks, np.int64(3)), ([make_check("max_sensitivity", {"draws": 2})], 3))
    )
    assert json.dumps(found.document()) == json.dumps(expected.document())
    perturbation = Perturbation(Segmentation(np.int64(6)), "blur", np.int64(16))
    differences = [
        explain_difference(small_net(), small_net(1), pictures, TARGETS, seed=seed, perturbation=each)
        for seed, each in ((np.int64(3), perturbation), (3, Perturbation(Segmentation(6), "blur", 16)))
    ]
    assert differences[0].values.tobytes() == differences[1].values.tobytes()


@pytest.mark.parametrize("targets", [[0.0, 1.7, 2, 0, 1, 2], [True, False] * 3, ["cat"] * 6])
def test_targets_are_whole_numbers(targets, small_net, pictures):
    for call in (explain, assess):
        with pytest.raises(ConfigError, match="targets must be class indices, which are whole numbers, not"):
            call(small_net(), pictures, targets, "saliency")
    with pytest.raises(ConfigError, match="targets must be class indices, which are whole numbers, not"):
        explain_difference(small_net(), small_net(), pictures, targets)


def test_targets_are_one_for_each_image(small_net, pictures):
    one_hot = np.eye(6, 5, dtype=np.int64)
    with pytest.raises(ConfigError, match=r"one class index for each image, got an array of shape \(6, 5\)"):
        explain(small_net(), pictures, one_hot, "saliency")


def test_images_that_are_no_numbers_are_named(small_net, pictures):
    pictures = pictures.copy()
    pictures[3, 0, 5, 5] = np.inf
    for call in (explain, assess):
        with pytest.raises(SliceError, match="image 3 holds NaN or infinite values"):
            call(small_net(), pictures, TARGETS, "gradcam")


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (None, "expected a torch.nn.Module, got NoneType"),
        (torch.relu, "expected a torch.nn.Module, got builtin_function_or_method"),
        (torch.nn.Sequential(torch.nn.LazyConv2d(4, 3)), "0.weight has no values yet"),
        (torch.nn.Conv2d(3, 4, 3, device="meta"), "weight has no values yet"),
    ],
)
def test_what_is_no_module_with_weights_is_refused(module, reason, pictures):
    with pytest.raises(UnsupportedModelError, match=reason):
        explain(module, pictures, TARGETS, "shap")


def test_unknown_name_lists_the_names():
    with pytest.raises(UnknownNameError) as error:
        make_explainer("telepathy")
    assert "telepathy" in str(error.value)
    assert all(name in str(error.value) for name in explainer_names())


@every_explainer
def test_four_threads_at_once(run, net_for, name):
    """The same module in four threads: hooks and modes of one run must not leak into another."""
    net, expected = net_for(name), bytes_by_sample(run(name))
    before, start = state_of(net), Barrier(4)

    def explained(_):
        start.wait()
        return [bytes_by_sample(run(name, net=net)) for _ in range(3)]

    with ThreadPoolExecutor(4, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        for found in pool.map(explained, range(4)):
            assert found == [expected] * 3
    assert state_of(net) == before


def test_weights_digest_is_the_models_own(run, small_net):
    found = run("gradcam", net=small_net(3))
    assert found.weights_digest == Classifier("same", "weights", small_net(3)).weights_digest
    assert found.weights_digest != Classifier("other", "weights", small_net(4)).weights_digest
