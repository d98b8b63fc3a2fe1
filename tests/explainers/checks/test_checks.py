"""What every check promises; every file of ``checks/`` is held to it without being asked."""

import dataclasses
import json
import re
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import get_args

import numpy as np
import pytest
import torch

from attrail_explainers import assess, explain
from attrail_explainers.assessment.check import check_class, check_names, make_check
from attrail_explainers.digest import digest_of_arrays
from attrail_explainers.errors import ConfigError, ExplanationError, UnknownNameError
from attrail_explainers.model.classifier import Classifier

TARGETS = [0, 1, 2, 3, 4, 0]
SMALL = {"steps": 6, "perturbations": 6, "draws": 2, "seeds": 2}
CHEAP = {"segments": 12, "evaluations": 40}  # of the explainer; more superpixels than can be enumerated: draws

every_check = pytest.mark.parametrize("name", check_names())


def cheap(name, **parameters):
    fields = {field.name for field in dataclasses.fields(check_class(name))}
    return make_check(name, {key: value for key, value in SMALL.items() if key in fields} | parameters)


@pytest.fixture
def run(small_net, pictures):
    """Runs one check of SHAP's maps cheaply on the pictures, or on what is given instead."""

    def run(name, images=None, targets=None, ids=None, seed=0, net=None):
        images = pictures if images is None else images
        targets = TARGETS[: len(images)] if targets is None else targets
        ids = [f"picture {row}" for row in range(len(images))] if ids is None else ids
        found = assess(net or small_net(), images, targets, "shap", [cheap(name)], seed, ids, **CHEAP)
        return found.maps.sample_ids, found.outcomes[name].finding

    return run


def bytes_by_sample(found):
    samples, finding = found
    arrays = {"values": finding.values, **finding.details}
    return {(key, sample): array[row].tobytes() for key, array in arrays.items() for row, sample in enumerate(samples)}


def numbers(found):
    return [array.tolist() for array in (found[1].values, *found[1].details.values())]


def state_of(module):
    weights = {name: tensor.detach().clone().numpy() for name, tensor in module.state_dict().items()}
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks")
    return {
        "weights": digest_of_arrays(sorted(weights.items())),
        "modes": {name: each.training for name, each in module.named_modules()},
        "hooks": {name: sum(len(getattr(each, kind)) for kind in hooks) for name, each in module.named_modules()},
        "requires_grad": {name: each.requires_grad for name, each in module.named_parameters()},
    }


@every_check
def test_same_seed_same_bytes_in_any_order_and_alone(run, pictures, name):
    together = bytes_by_sample(run(name))
    order = [4, 0, 5, 2, 1, 3]
    ids = [f"picture {row}" for row in order]
    assert bytes_by_sample(run(name, pictures[order], [TARGETS[row] for row in order], ids)) == together
    for row in (0, 5):
        alone = run(name, pictures[row : row + 1], [TARGETS[row]], [f"picture {row}"])
        assert bytes_by_sample(alone).items() <= together.items()


@every_check
def test_draws_depend_on_the_seed_and_on_the_sample_id(run, name):
    first, other, renamed = (run(name, **each) for each in ({}, {"seed": 1}, {"ids": [*"abcdef"]}))
    assert all(numbers(first) != numbers(each) for each in (other, renamed))


@pytest.mark.parametrize("name", ["deletion", "insertion", "infidelity", "max_sensitivity"])
def test_a_checks_own_draws_depend_on_the_seed_and_on_the_sample_id(small_net, pictures, name):
    """Grad-CAM draws nothing, so that whatever changes is the check's; two ids of one picture draw apart as well."""
    images = np.concatenate([pictures[:1], pictures[:1]])

    def found(seed, ids):
        finding = assess(small_net(), images, [0, 0], checks=[cheap(name)], seed=seed, sample_ids=ids).outcomes[name]
        details = finding.finding.details
        return details.get("chance", details.get("infidelity", finding.values))

    first = found(0, ["a", "b"])
    assert first[0] != first[1]
    assert first[0] not in found(1, ["a", "b"])
    assert found(0, ["b", "a"]).tolist() == first[::-1].tolist()


@every_check
def test_values_are_finite_and_differ_between_images(run, name):
    _, finding = run(name)
    assert finding.values.shape == (6,)
    assert np.isfinite(finding.values).all()
    assert len(set(finding.values.tolist())) > 1
    assert all(len(array) == 6 and np.isfinite(array).all() for array in finding.details.values())


@every_check
def test_model_and_images_untouched(run, small_net, pictures, name):
    net, images = small_net(), pictures.copy()
    before = state_of(net)
    run(name, images, net=net)
    assert state_of(net) == before
    assert images.tobytes() == pictures.tobytes()


@every_check
def test_works_on_several_threads_at_once_and_under_inference_mode(run, small_net, name):
    net, expected = small_net(), bytes_by_sample(run(name))
    before, start = state_of(net), Barrier(3)

    def checked(_):
        start.wait()
        with torch.inference_mode():
            return bytes_by_sample(run(name, net=net))

    with ThreadPoolExecutor(3, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        assert list(pool.map(checked, range(3))) == [expected] * 3
    assert state_of(net) == before


@every_check
def test_images_without_a_map_have_no_value(small_net, pictures, name):
    """Grad-CAM of a black picture has no positive evidence for some class; the others' values stay the same."""
    images = np.concatenate([pictures[:2], np.full_like(pictures[:1], -1)])
    target = next(each for each in range(5) if undefined_for(small_net(), images[2:], each))
    found = assess(small_net(), images, [0, 1, target], "gradcam", [cheap(name)], sample_ids=["a", "b", "black"])
    outcome = found.outcomes[name]
    alone = assess(small_net(), images[:2], [0, 1], "gradcam", [cheap(name)], sample_ids=["a", "b"])
    assert np.isnan(outcome.values).tolist() == [False, False, True]
    assert outcome.values[:2].tobytes() == alone.outcomes[name].values.tobytes()
    assert outcome.undefined == 1
    assert outcome.mean == pytest.approx(outcome.values[:2].mean())
    assert outcome.facts()["values"][2] is None
    assert found.document()["undefined"] == {"black": "no positive evidence for the target"}


def undefined_for(net, image, target):
    try:
        explain(net, image, [target])
    except ExplanationError:
        return True
    return False


@every_check
def test_unknown_and_impossible_parameters_are_named(name, impossible):
    fields = dataclasses.fields(check_class(name))
    with pytest.raises(ConfigError, match=rf"{name}.*'sharpness'.*takes {', '.join(field.name for field in fields)}"):
        make_check(name, {"sharpness": 1})
    for field in fields:
        for value in impossible(field):
            with pytest.raises(ConfigError, match=rf"{field.name} must .*, not {re.escape(repr(value))}"):
                make_check(name, {field.name: value})


@every_check
def test_numbers_that_are_taken_give_values(small_net, pictures, name):
    """0 and -1 are what one forgets: a parameter refuses them, naming itself, or they mean something."""
    for field in dataclasses.fields(check_class(name)):
        for value in (0, -1) if {int, float} & {field.type, *get_args(field.type)} else ():
            told = refusal(make_check, name, {field.name: value})
            if told is not None:
                assert re.search(rf"^{field.name} must .*, not {value}$", told)
                continue
            found = assess(small_net(), pictures, TARGETS, "gradcam", [cheap(name, **{field.name: value})])
            assert np.isfinite(found.outcomes[name].values).any(), f"{field.name} = {value} is taken, and gives nothing"


def refusal(make, *arguments):
    try:
        make(*arguments)
    except ConfigError as error:
        return str(error)
    return None


@every_check
def test_says_what_good_looks_like(name):
    kind = check_class(name)
    assert len(kind.good) > 20
    assert "better" in kind.better.value
    assert (kind.__doc__ or "").splitlines()[0].endswith((".", "0..1.", "-1..1.", "0..2.", "0 and up."))


def test_unknown_name_lists_the_names():
    with pytest.raises(UnknownNameError) as error:
        make_check("astrology")
    assert all(name in str(error.value) for name in check_names())


def test_a_check_is_run_once(small_net, pictures):
    with pytest.raises(ConfigError, match="'deletion'"):
        assess(small_net(), pictures, TARGETS, checks=["deletion", cheap("deletion")])


def test_document_is_strict_json_and_holds_everything(small_net, pictures):
    checks = [cheap(name) for name in check_names()]
    found = assess(small_net(), pictures[:2], [0, 1], "gradcam", checks, sample_ids=["a", "b"])
    document = json.loads(json.dumps(found.document(), allow_nan=False))
    assert set(document["checks"]) == set(check_names())
    assert document["parameters"] == dict(found.maps.parameters)
    assert document["weights_digest"] == Classifier("net", "", small_net()).weights_digest
    deletion = document["checks"]["deletion"]
    assert deletion["parameters"] == {"steps": 6, "baseline": "zero"}
    assert len(deletion["details"]["curve"][1]) == 7
    assert deletion["interval"][0] < deletion["mean"] < deletion["interval"][1]


def test_one_image_has_no_interval(small_net, pictures):
    found = assess(small_net(), pictures[:1], [0], checks=[cheap("insertion")])
    assert found.document()["checks"]["insertion"]["interval"] == [None, None]


def test_interval_is_students(small_net, pictures):
    from scipy.stats import ttest_1samp

    found = assess(small_net(), pictures, TARGETS, checks=[cheap("insertion")]).outcomes["insertion"]
    expected = ttest_1samp(found.values, 0).confidence_interval(0.95)
    assert found.interval == pytest.approx((expected.low, expected.high))
