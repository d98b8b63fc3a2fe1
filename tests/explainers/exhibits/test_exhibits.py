"""What every exhibit promises; every file of ``exhibits/`` is held to it without being asked."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers.digest import digest_of_arrays
from attrail_explainers.errors import ConfigError, UnknownNameError, UnsupportedModelError
from attrail_explainers.inspection.exhibit import EXHIBITS, chosen_exhibits, exhibit_names, make_exhibit
from attrail_explainers.inspection.looking import look_inside, show, view_of
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.model.task import make_task
from attrail_explainers.slice import Slice
from attrail_explainers.tasks.regression import Regression
from attrail_explainers.tasks.single_label import SingleLabel

SMALL = {"steps": 4, "most": 3, "channels": 2, "pictures": 2, "groups": 2}
COUNT = 8
PAIR_ONLY = {"representation_difference"}

every_exhibit = pytest.mark.parametrize("name", exhibit_names())


@pytest.fixture
def images(pictures):
    return np.ascontiguousarray(np.concatenate([pictures, pictures[:2, :, ::-1]]))


def cheap(name):
    fields = {each.name for each in dataclasses.fields(EXHIBITS.class_of(name))}
    return {key: value for key, value in SMALL.items() if key in fields}


def look(name, module, images, reference=None, **more):
    return look_inside(module, images, [0, 1, 2, 3, 4, 0, 1, 2], name, reference, **cheap(name), **more)


def told(shown):
    """Everything that was found, as bytes and strict JSON."""
    arrays = {name: each.tobytes() for name, each in shown.arrays.items()}
    pictures = [(panel.title, each.caption, each.values.tobytes()) for panel in shown.panels for each in panel.pictures]
    return json.dumps(shown.document(), allow_nan=False), arrays, pictures


def state_of(module):
    weights = {name: tensor.detach().clone().numpy() for name, tensor in module.state_dict().items()}
    parts = list(module.modules())
    hooks = [len(part._forward_hooks) + len(part._forward_pre_hooks) + len(part._backward_hooks) for part in parts]
    wanted = [each.requires_grad for each in module.parameters()]
    return digest_of_arrays(sorted(weights.items())), hooks, [part.training for part in parts], wanted


def exported(module, images, folder):
    module = module.eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(module, (torch.from_numpy(images),), dynamic_shapes=({0: batch},))
    torch.export.save(program, folder / "model.pt2")
    return classifier_from_export(folder / "model.pt2", "net", "1")


@every_exhibit
def test_two_versions_give_the_same_bytes_again_and_come_back_as_they_went_in(name, small_net, images) -> None:
    modules, before = [small_net(1), small_net(2)], images.copy()
    states = [state_of(each) for each in modules]
    first = look(name, modules[0], images, modules[1], seed=3)
    assert [state_of(each) for each in modules] == states
    assert (images == before).all()
    assert first.absent is None
    assert first.rows or first.notes
    assert told(look(name, small_net(1), images, small_net(2), seed=3)) == told(first)


@every_exhibit
def test_a_transformer_alone_is_shown_too(name, small_transformer, images) -> None:
    if name in PAIR_ONLY:
        with pytest.raises(UnsupportedModelError, match="compares two versions"):
            look(name, small_transformer(), images)
        return
    shown = look(name, small_transformer(), images)
    assert shown.rows
    assert json.dumps(shown.document(), allow_nan=False)


@every_exhibit
def test_an_exported_program_is_shown_as_its_module_is(name, small_net, images, tmp_path) -> None:
    classifiers = [exported(small_net(), images, tmp_path), Classifier("net", "2", small_net().eval())]
    slice_ = Slice("eight", images, np.zeros(COUNT, dtype=np.int64), tuple(map(str, range(COUNT))))
    view = view_of(classifiers, slice_, SingleLabel.of(slice_.labels), 0)
    shown = show(view, {name: make_exhibit(name, cheap(name))}, name)
    assert shown.absent is None
    for row in shown.rows:
        for cell in row.values():
            if isinstance(cell, dict) and all(isinstance(each, float) for each in cell.values()):
                assert np.allclose(*cell.values(), rtol=1e-3, atol=1e-5), row


def test_what_does_not_apply_is_said_in_one_sentence(small_net, images) -> None:
    slice_ = Slice("eight", images, np.zeros(COUNT, dtype=np.int64), tuple(map(str, range(COUNT))))

    class Called(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return torch.stack([images.detach().mean(dim=(1, 2, 3)), images.detach().std(dim=(1, 2, 3))], dim=1)

    view = view_of([Classifier("called", "1", Called())], slice_, SingleLabel.of(slice_.labels), 0)
    reasons = {name: show(view, {name: make_exhibit(name)}, name).absent for name in exhibit_names()}
    assert reasons.pop("structure") is None  # it has a graph, without weights
    assert "no weights that torch knows" in reasons["gradients"]
    assert "no gradient leads back" in reasons["adversarial"]
    assert "there is no layer" in reasons["activations"]
    assert all(reasons.values())
    task = Regression(column=0)
    view = view_of([Classifier("net", "1", small_net(), task=task)], slice_, task.asked(slice_), 0)
    assert (
        "no score whose sign is a decision"
        in show(view, {"adversarial": make_exhibit("adversarial")}, "adversarial").absent
    )


class Segmenter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.head = nn.Conv2d(16, 3, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images))


def test_whatever_is_asked_of_a_model_it_is_shown_or_said_why_not(small_net, images) -> None:
    masks = (images.mean(axis=1) > 0).astype(np.int64)
    asked = {
        "segmentation": (Segmenter(), masks),
        "regression": (small_net(), None),
        "multi_label": (small_net(), [[0, 2]] * 8),
    }
    for task, (net, targets) in asked.items():
        made = make_task(task, {"column": 0} if task == "regression" else {})
        for name in exhibit_names():
            if name in PAIR_ONLY:
                continue
            if name == "adversarial" and task != "multi_label":
                with pytest.raises(UnsupportedModelError, match="no score whose sign is a decision"):
                    look_inside(net, images, targets, name, task=made, **cheap(name))
                continue
            shown = look_inside(net, images, targets, name, task=made, **cheap(name))
            assert shown.rows, (task, name)
            assert all(np.isfinite(each).all() for each in shown.arrays.values()), (task, name)
            if name == "adversarial":
                assert len(shown.rows) == 16  # a row for each label of each image
            if name == "similarity":
                assert len(shown.arrays["cka"]) > 1


def test_versions_without_a_common_layer_are_compared_by_what_they_hold_alike(small_net, images) -> None:
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, 4), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    other = nn.Sequential(*body, nn.Linear(8, 5))
    shown = look("similarity", other, images, small_net())
    assert all(row["there"] < 1.001 and "cka" not in row for row in shown.rows)
    assert {row["most_like"] for row in shown.rows} <= set("0123456")
    assert look("representation_difference", other, images, small_net()).rows
    with pytest.raises(UnsupportedModelError, match="no layer of one name and shape in both"):
        look("activations", other, images, small_net())
    rows = look("structure", other, images, small_net()).rows
    assert {"added", "removed"} <= {row["status"] for row in rows}


def test_names_and_parameters_that_cannot_be_are_refused(small_net, images, impossible) -> None:
    assert chosen_exhibits()[0] == "structure"
    assert set(chosen_exhibits()) == set(exhibit_names())
    with pytest.raises(UnknownNameError, match="structure"):
        chosen_exhibits(["telepathy"])
    with pytest.raises(UnknownNameError, match=r"features\.3"):
        look("activations", small_net(), images, layers=("features.9",))
    for name in exhibit_names():
        for field in dataclasses.fields(EXHIBITS.class_of(name)):
            for value in impossible(field):
                with pytest.raises(ConfigError, match=field.name):
                    make_exhibit(name, {field.name: value})
