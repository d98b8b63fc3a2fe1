"""Detection: D-RISE's score against the paper's formula, whatever detectors return, decisions, boxes that are lost."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers import explain, make_task
from attrail_explainers.baselines import baseline_of
from attrail_explainers.errors import ConfigError, SliceError, UnsupportedModelError
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.proposals import MOST, ProposalForm
from attrail_explainers.model.task import Target
from attrail_explainers.slice import NONE
from attrail_explainers.superpixels.evaluations import Perturbation, Perturbed
from attrail_explainers.superpixels.segmentation import Segmentation
from attrail_explainers.tasks.detection import KEPT, LOST, Detection

WIDTH, HEIGHT, CLASSES = 64, 48, 3
FEW = {"evaluations": 40, "segments": 8}


class Grid(nn.Module):
    """Proposals (N,P,5+C) in pixels at each place of two convolutions; boxes differ with what is there."""

    def __init__(self, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, stride=4, padding=2), nn.ReLU(), nn.Conv2d(8, 4 + 1 + CLASSES, 3, padding=1)
        )
        self.calls = Counter()

    def forward(self, images):
        self.calls["images"] += len(images)
        found = 2 * self.body(images)
        rows, columns = (torch.arange(size) * 4.0 + 2 for size in found.shape[2:])
        places = torch.cartesian_prod(rows, columns).flip(1).to(found)
        found = found.flatten(2).transpose(1, 2)
        boxes = torch.cat([places + found[:, :, :2], 24 + 4 * found[:, :, 2:4].tanh()], dim=2)
        return torch.cat([boxes, found[:, :, 4:].sigmoid()], dim=2)


@pytest.fixture
def images(pictures):
    return np.ascontiguousarray(pictures[:4, :, :HEIGHT, :WIDTH])


def asked_of(outputs, box, label, task=None, scores=None):
    """The target of one box in pixels."""
    values = {"class": np.array([label]), "box": np.float32([box]) / np.float32([WIDTH, HEIGHT] * 2)}
    return Target(task or Detection(), values | ({} if scores is None else {"scores": np.float32([scores])}))


def drise(proposals, box, wanted):
    """The paper's score (M,) of proposals (M,P,5+C) in pixels, by its words: the largest product of three factors."""
    found = []
    for rows in proposals.astype(np.float64):
        scores = []
        for x, y, width, height, objectness, *classes in rows:
            x0, y0, x1, y1 = x - width / 2, y - height / 2, x + width / 2, y + height / 2
            wide, high = min(x1, box[2]) - max(x0, box[0]), min(y1, box[3]) - max(y0, box[1])
            shared = max(wide, 0) * max(high, 0)
            union = (x1 - x0) * (y1 - y0) + (box[2] - box[0]) * (box[3] - box[1]) - shared
            cosine = np.dot(classes, wanted) / np.linalg.norm(classes) / np.linalg.norm(wanted)
            scores.append(shared / union * cosine * objectness)
        found.append(max(scores))
    return np.array(found)


@pytest.mark.parametrize("own", [False, True])
def test_maps_at_equal_evaluations_are_those_of_the_papers_formula(images, own):
    """For a box that is given, and for one that the reference found, whose own class scores are compared."""
    net, image, box, label = Grid(), torch.from_numpy(images[0]), (10, 6, 40, 30), 1
    wanted = [0.2, 0.7, 0.4] if own else [0, 1, 0]
    model = Classifier("grid", "1", net, task=Detection()).working_copy(images)
    target = asked_of(None, box, label, scores=wanted if own else None)
    perturbed = Perturbed([model], image, target, "a", 0, Perturbation(Segmentation(8), "mean", 60))
    (found,) = perturbed.evaluations()
    baseline = baseline_of(image, "mean")
    kept = torch.from_numpy(perturbed.rows)[:, perturbed.segments]  # (M,H,W)
    with torch.inference_mode():
        proposals = net(torch.where(kept[:, None], image, baseline)).numpy()
    expected = drise(proposals, box, wanted)
    scores = np.array([found.full, found.empty, *found.log_odds])
    assert scores == pytest.approx(expected, abs=1e-6)
    masks = kept.numpy().astype(np.float64)
    maps = [np.tensordot(weights, masks, axes=1) for weights in (scores, expected)]
    assert maps[0] == pytest.approx(maps[1], rel=1e-6)
    assert expected.std() > 0.01, "the evaluations tell something"


def test_all_boxes_of_an_image_cost_as_many_evaluations_as_one(images):
    drawn = np.random.default_rng(0).uniform(0, 24, (10, 2))
    boxes = np.concatenate([drawn, drawn + 20], axis=1)
    spent = {}
    for count in (1, 10):
        net = Grid()
        classifier = Classifier("grid", "1", net, task=Detection())
        model = classifier.working_copy(images)
        _, target = classifier.asked.given([{"boxes": boxes[:count], "labels": [0] * count}], images[:1], ("a",))
        before = model.module.calls["images"]
        perturbed = Perturbed(
            [model], torch.from_numpy(images[0]), target, "a", 0, Perturbation(Segmentation(8), "mean", 60)
        )
        assert len({perturbed.evaluations(place)[0].full for place in range(count)}) == count
        spent[count] = model.module.calls["images"] - before
    assert spent[10] == spent[1]


@dataclass
class DetrObjectDetectionOutput:
    logits: torch.Tensor
    pred_boxes: torch.Tensor
    last_hidden_state: torch.Tensor


def one_box(*, labels=(2,), scores=(0.8,)):
    """A box (8, 6, 40, 30) of 64 x 48 pixels, once or several times."""
    count = len(labels)
    return torch.tensor([[8.0, 6, 40, 30]] * count), torch.tensor(scores), torch.tensor(labels)


LOGITS = torch.tensor([[[1.0, 3, 0, 2], [0, 0, 0, 9]]])  # two queries, three classes and none
CENTRED = torch.tensor([[[24 / 64, 18 / 48, 32 / 64, 24 / 48], [0.5, 0.5, 1, 1]]])
PIXELS = torch.tensor([24.0, 18, 32, 24])
SOFT = LOGITS.softmax(2)[0, 0]
BOX = [0.125, 0.125, 0.625, 0.625]
ROW = torch.cat([PIXELS, torch.tensor([0.9, 0.1, 0.6, 0.3])])
LONG = torch.stack([ROW] * 12)[None]
EIGHT = torch.cat([LONG[:, :, :4], LONG[:, :, 5:]], dim=2).transpose(1, 2)
RETURNED = {
    "torchvision": ([dict(zip(("boxes", "scores", "labels"), one_box(), strict=True))], {"classes": 3}, [0.8, 0, 0, 1]),
    "triple": (one_box(), {"classes": 3}, [0.8, 0, 0, 1]),
    "triple by name": (
        {"labels": one_box()[2][None], "boxes": one_box()[0][None], "scores": one_box()[1][None]},
        {"classes": 3},
        [0.8, 0, 0, 1],
    ),
    "end to end": (torch.tensor([[[8.0, 6, 40, 30, 0.8, 2]] * 7]), {"classes": 3}, [0.8, 0, 0, 1]),
    "detr": (
        DetrObjectDetectionOutput(LOGITS, CENTRED, torch.zeros(1, 2, 5)),
        {},
        [1 - SOFT[3], *LOGITS[0, 0, :3].softmax(0)],
    ),
    "tuple": ((LOGITS, CENTRED), {"scores": "softmax"}, [1 - SOFT[3], *LOGITS[0, 0, :3].softmax(0)]),
    "sigmoid": (
        {"pred_boxes": CENTRED, "logits": LOGITS[:, :, :3]},
        {"scores": "sigmoid"},
        [LOGITS[0, 0, 1].sigmoid(), *(LOGITS[0, 0, :3].sigmoid() / LOGITS[0, 0, 1].sigmoid())],
    ),
    "with objectness": (LONG, {}, [0.9, 0.1, 0.6, 0.3]),
    "without objectness": (EIGHT, {}, [0.6, 0.1 / 0.6, 1, 0.5]),
    "no factor for it": (EIGHT, {"confidence": False}, [1, 0.1, 0.6, 0.3]),
    "beside features": ((EIGHT, [torch.zeros(1, 3, 4, 4)]), {}, [0.6, 0.1 / 0.6, 1, 0.5]),
}


@pytest.mark.parametrize("kind", RETURNED)
def test_whatever_detectors_return_is_read_as_proposals(kind):
    returned, parameters, rest = RETURNED[kind]
    (found,) = ProposalForm(**parameters).read(returned, torch.zeros(1, 3, HEIGHT, WIDTH)).values()
    assert found.shape[0] == 1
    assert found.shape[2] == 5 + CLASSES
    assert found[0, 0].numpy() == pytest.approx(np.float32([*BOX, *rest]), abs=1e-6)


def test_lists_of_boxes_are_filled_up_and_the_surest_are_kept():
    many = torch.linspace(0.1, 0.9, MOST + 50)
    few, lots = one_box(), (torch.ones(len(many), 4), many, torch.zeros(len(many), dtype=torch.long))
    rows = [dict(zip(("boxes", "scores", "labels"), each, strict=True)) for each in (few, lots)]
    found = ProposalForm(classes=3).read(rows, torch.zeros(2, 3, HEIGHT, WIDTH))[""]
    assert found.shape == (2, MOST, 8)
    assert not found[0, 1:].any()
    assert found[1, 0, 4] == many[50]
    none = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.long)}
    assert not ProposalForm(classes=3).read([none], torch.zeros(1, 3, HEIGHT, WIDTH))[""].any()


@pytest.mark.parametrize(
    ("returned", "parameters", "reason"),
    [
        (one_box(), {}, "labels without scores of all classes: set the task's classes"),
        (one_box(labels=(7,)), {"classes": 3}, "gives the label 7, the task says that it knows 3 classes"),
        (
            [torch.zeros(1, places, 10) for places in (80, 20, 6)],
            {},
            "gives 3 grids of numbers, as detectors do whose boxes are not decoded yet",
        ),
        ((LOGITS, CENTRED), {}, "does not say what its logits are: set the task's scores"),
    ],
)
def test_what_a_model_does_not_say_is_asked_for(returned, parameters, reason):
    with pytest.raises(UnsupportedModelError, match=reason):
        ProposalForm(**parameters).read(returned, torch.zeros(1, 3, HEIGHT, WIDTH))


class Fixed(nn.Module):
    """The same proposals for every image."""

    def __init__(self, returned):
        super().__init__()
        self.register_buffer("returned", returned)

    def forward(self, images):
        return self.returned.expand(len(images), -1, -1) + 0 * images.sum()


def test_a_model_that_returns_no_boxes_is_refused(images, small_net):
    boxes = [{"boxes": [[8, 6, 40, 30]], "labels": [1]}] * 4
    for model, reason in (
        (small_net(), r"expected boxes, scores and labels for each image, .* got \(2, 5\)"),
        (Fixed(LONG * 5), "returns 0.5 to 4.5 where objectness and class scores between 0 and 1 were expected"),
        (Fixed(LONG / torch.tensor([64.0] * 4 + [1] * 4)), "boxes that all lie in the image's first corner"),
    ):
        with pytest.raises(UnsupportedModelError, match=reason):
            explain(model, images, boxes, "shap", task="detection", **FEW)


def outputs_of(*rows):
    """Outputs (1,P,8) of boxes in pixels with objectness and class scores."""
    found = np.float32([rows])
    found[:, :, :4] /= np.float32([WIDTH, HEIGHT] * 2)
    return torch.from_numpy(found)


ASKED = (8, 6, 40, 30)
SAME, FAR = (9, 6, 40, 31), (40, 6, 64, 30)


@pytest.mark.parametrize(
    ("proposals", "decided", "sure"),
    [
        ([(*SAME, 0.9, 0, 1, 0), (*FAR, 1, 1, 0, 0)], 1, 0.9),
        ([(*SAME, 0.9, 1, 0, 0), (*FAR, 1, 0, 1, 0)], 0, 0.9),
        ([(*SAME, 0.9, 1, 0.8, 0)], 1, 0.72),
        ([(*FAR, 1, 0, 1, 0)], NONE, 1.0),
        ([(*SAME, 0.3, 0, 1, 0)], NONE, 0.7),
    ],
    ids=["found", "another class", "the class that is asked", "elsewhere", "unsure"],
)
def test_a_box_is_decided_by_what_overlaps_it(images, proposals, decided, sure):
    task, outputs = Detection(), outputs_of(*proposals)
    slice_, target = task.given([{"boxes": [ASKED], "labels": [1]}], images[:1], ("a",))
    found = task.decided(slice_, outputs.numpy(), target)
    assert (found.predictions.tolist(), found.truths.tolist()) == ([decided], [1])
    assert found.confidences == pytest.approx([sure])
    assert target.unanswered(outputs) == ({0: LOST} if decided == NONE else {})
    assert target.chosen(outputs).tolist() == [decided]


def test_boxes_that_the_reference_found_are_asked_of_every_version(images):
    """One for each object, the surest first, with its own class scores."""
    task = Detection()
    plain, target = task.given(None, images[:2], ("a", "b"))
    assert target is None
    assert task.leaves_open(plain)
    first = outputs_of((*ASKED, 0.8, 0, 1, 0), (*SAME, 0.9, 0, 1, 0.1), (*FAR, 0.7, 0, 1, 0), (*FAR, 0.3, 0, 0, 1))
    both = torch.cat([first, 0 * first])
    slice_ = plain.asking(task.found(plain, both.numpy(), ("cat", "dog", "cow")))
    assert slice_.sample_ids == ("a [dog]", "a [dog 2]")
    target = task.answered(slice_, first.numpy())
    assert target.classes.tolist() == [1, 1]
    assert target.values["box"].tolist() == first[0, 1:3, :4].tolist()
    assert target.values["scores"].tolist() == first[0, 1:3, 5:].tolist()
    rows = first.expand(2, -1, -1)
    assert target.unanswered(rows) == {}
    assert target.unanswered(outputs_of((*SAME, 0.9, 0, 1, 0)).expand(2, -1, -1)) == {1: LOST}
    with pytest.raises(
        ConfigError, match="a box of class 1 cannot be explained: model grid/1 has 1 classes of objects"
    ):
        target.require(1, "grid/1")
    decided = task.decided(slice_, rows.numpy(), target)
    assert decided.truths is None
    assert decided.predictions.tolist() == [1, 1]
    with pytest.raises(SliceError, match="slice 'images': nothing is asked of any of its 2 images"):
        plain.asking(task.found(plain, 0 * both.numpy()))


def test_the_surest_proposals_are_kept_for_decisions(images):
    outputs = torch.rand(2, KEPT + 50, 8, generator=torch.Generator().manual_seed(0))
    kept = Detection().kept(outputs)
    sure = (outputs[:, :, 4:5] * outputs[:, :, 5:]).amax(dim=2)
    for row, found in enumerate(kept):
        least = sure[row].sort(descending=True).values[KEPT - 1]
        assert torch.equal(found, outputs[row][sure[row] >= least])
    assert Detection().kept(kept) is kept


def test_a_box_that_is_lost_has_no_map_and_the_reason(images):
    with torch.inference_mode():
        x, y, width, height, objectness, *classes = Grid()(torch.from_numpy(images[:1]))[0, 90].tolist()
    there = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    boxes = {"boxes": [there, (1, 1, 2, 2)], "labels": [int(np.argmax(classes))] * 2}
    task = Detection(threshold=0.9 * objectness * max(classes))
    found = explain(Grid(), images[:1], [boxes], "shap", task=task, **FEW)
    assert found.undefined == {f"0 [{boxes['labels'][0]} 2]": LOST}
    assert np.isnan(found.values[1]).all()


def test_versions_that_lose_boxes_churn():
    task = Detection()
    both = outputs_of((*ASKED, 0.8, 0, 1, 0), (*FAR, 0.7, 1, 0, 0)).numpy()
    one = outputs_of((*ASKED, 0.8, 0, 1, 0), (*FAR, 0.2, 1, 0, 0)).numpy()
    turned = outputs_of((*ASKED, 0.8, 1, 0, 0), (*FAR, 0.2, 1, 0, 0)).numpy()
    assert task.churn(both, one) == pytest.approx(1 / 3)
    assert task.churn(one, turned) == 1
    assert task.churn(one[:0], one[:0]) == 0
    assert task.divergence(both, one) == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("targets", "reason"),
    [
        ([1, 2], "targets must be a dict for each image"),
        ([{"boxes": [ASKED], "labels": [1]}], "targets must be boxes of 2 images, got those of 1"),
        ([{"boxes": [], "labels": []}] * 2, "no image has a box"),
        ([{"boxes": [(40, 6, 8, 30)], "labels": [1]}] * 2, "targets of image 0 must be a box"),
        ([{"boxes": [ASKED], "labels": [1.5]}] * 2, "labels must be class indices"),
        ([{"boxes": [ASKED], "labels": [1, 2]}] * 2, r"for each of 2 labels, got boxes of shape \(1, 4\)"),
        ([{"boxes": [(1, 2, 3)], "labels": [1]}] * 2, "targets of image 0 must be a box"),
    ],
)
def test_wrong_boxes_are_refused(images, targets, reason):
    with pytest.raises(ConfigError, match=reason):
        Detection().given(targets, images[:2], ("a", "b"))


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"threshold": 1}, "threshold must lie between 0 and 1"),
        ({"iou": 0}, "iou must lie between 0 and 1"),
        ({"format": "yxyx"}, "format must be xyxy or xywh, not 'yxyx'"),
        ({"scores": "logits"}, "scores must be softmax or sigmoid, not 'logits'"),
        ({"classes": True}, "classes must be a whole number"),
        ({"confidence": 1}, "confidence must be true or false, not 1"),
    ],
)
def test_wrong_parameters_are_refused(wrong, reason):
    with pytest.raises(ConfigError, match=reason):
        make_task("detection", wrong)
