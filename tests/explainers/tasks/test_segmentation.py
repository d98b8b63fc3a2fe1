"""Segmentation: the mean of a class over a zone is explained, the same zone for every version."""

import numpy as np
import pytest
import torch
from torch import nn

from attrail_explainers import assess, explain, make_task
from attrail_explainers.errors import ConfigError, ExplanationError, SliceError, UnsupportedModelError
from attrail_explainers.layers.target_layer import heads
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.log_odds import target_log_odds
from attrail_explainers.model.task import Target
from attrail_explainers.slice import Slice
from attrail_explainers.tasks.segmentation import KEPT, Segmentation, weights_of

SIDE, CLASSES = 32, 4
FEW = {"segments": 10, "evaluations": 60}
IMAGES = np.random.default_rng(0).normal(size=(3, 3, SIDE, SIDE)).astype(np.float32)
MASKS = np.zeros((3, SIDE, SIDE), dtype=np.int64)
MASKS[:, 8:20, 4:20] = 2
MASKS[1, :6] = 255
MASKS[2, 30:, 30:] = 3  # less than a share of 0.05


class Segmenter(nn.Module):
    """A quarter of the resolution unless it is enlarged, as SegFormer answers; ``end`` is done to the logits."""

    def __init__(self, classes=CLASSES, end=None, larger=1, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(), nn.Conv2d(8, 16, 3, 2, 1), nn.ReLU())
        self.head, self.end, self.larger = nn.Conv2d(16, classes, 1), end, larger

    def forward(self, images):
        found = self.head(self.body(images))
        if self.larger > 1:
            found = nn.functional.interpolate(found, scale_factor=self.larger, mode="bilinear")
        return found if self.end is None else self.end(found)


def test_masks_ask_about_each_class_that_takes_up_its_share():
    found = explain(Segmenter(), IMAGES, MASKS, "saliency", task="segmentation")
    assert found.sample_ids == ("0 [0]", "0 [2]", "1 [0]", "1 [2]", "2 [0]", "2 [2]")
    less = explain(Segmenter(), IMAGES, MASKS, "saliency", task=Segmentation(share=0.001))
    assert less.sample_ids[-1] == "2 [3]"


@pytest.mark.parametrize("larger", [1, 4])
def test_a_map_sums_to_the_change_of_the_mean_log_odds_over_the_zone(larger):
    """By hand: the zone in the outputs' resolution, each place by how much of it is inside."""
    net = Segmenter(larger=larger).eval()
    zones = np.zeros((3, SIDE, SIDE), dtype=np.bool_)
    zones[:, 8:20, 4:18] = True
    targets = {"zone": zones, "class": [1, 2, 3]}
    found = explain(net, IMAGES, targets, "partition_shap", task="segmentation", baseline="zero", **FEW)
    with torch.no_grad():
        outputs = [net(each) for each in (torch.from_numpy(IMAGES), torch.zeros(3, 3, SIDE, SIDE))]
    cell = SIDE // outputs[0].shape[2]
    weights = zones.reshape(3, SIDE // cell, cell, SIDE // cell, cell).mean(axis=(2, 4))
    means = []
    for each in outputs:
        odds = np.stack([torch.logit(each.double().softmax(dim=1))[row, row + 1].numpy() for row in range(3)])
        means.append((odds * weights).sum(axis=(1, 2)) / weights.sum(axis=(1, 2)))
    assert found.values.sum(axis=(1, 2), dtype=np.float64) == pytest.approx(means[0] - means[1], abs=1e-4)


def test_grad_cam_is_seg_grad_cam():
    """Vinogradova et al.: weights are the mean gradients of the class's logits summed over the zone, ReLU after."""
    net = Segmenter(larger=4).eval()
    zone = np.zeros((1, SIDE, SIDE), dtype=np.bool_)
    zone[0, 10:21, 3:22] = True
    found = explain(net, IMAGES[:1], {"zone": zone, "class": [2]}, "gradcam", task="segmentation")
    features = net.body(torch.from_numpy(IMAGES[:1])).detach().requires_grad_()
    logits = nn.functional.interpolate(net.head(features), scale_factor=4, mode="bilinear")[0, 2]
    (gradient,) = torch.autograd.grad(logits[torch.from_numpy(zone[0])].sum(), features)
    expected = (gradient.mean(dim=(2, 3), keepdim=True) * features).sum(dim=1).relu()[0].detach().numpy() / zone.sum()
    assert found.values[0] == pytest.approx(expected, abs=1e-5 * np.abs(expected).max())


def test_gradients_are_those_of_the_mean_logit():
    net = Segmenter().eval()
    zone = np.kron(np.arange(64).reshape(1, 8, 8) % 3 == 0, np.ones((1, 4, 4), bool))
    found = explain(net, IMAGES[:1], {"zone": zone, "class": [1]}, "saliency", task="segmentation")
    images = torch.from_numpy(IMAGES[:1]).clone().requires_grad_()
    inside = torch.from_numpy(zone[0, ::4, ::4])
    (gradient,) = torch.autograd.grad(net(images)[0, 1][inside].mean(), images)
    assert found.values == pytest.approx(gradient.abs().amax(dim=1).numpy(), rel=1e-4, abs=1e-7)


@pytest.mark.parametrize("explainer", ["gradcam", "shap"])
@pytest.mark.parametrize("end", [nn.Softmax(1), nn.LogSoftmax(1)])
def test_what_stands_behind_the_logits_changes_nothing(explainer, end):
    first, second = (
        explain(net, IMAGES, MASKS, explainer, task="segmentation").values
        for net in (Segmenter(larger=4), Segmenter(end=end, larger=4))
    )
    assert np.abs(first - second).max() <= 1e-5 * np.abs(first).max()


def unseen(outputs):
    return torch.from_numpy(outputs.detach().numpy())


@pytest.mark.parametrize(
    ("classes", "end", "overlapping", "scale"),
    [
        (CLASSES, None, False, "logits"),
        (CLASSES, nn.Softmax(1), False, "probabilities, taken before softmax, as logits"),
        (CLASSES, lambda found: unseen(found.softmax(1)), False, "probabilities, their logarithms taken as logits"),
        (CLASSES, nn.Sigmoid(), True, "probabilities of labels, taken before sigmoid, as logits"),
        (1, None, False, "one logit, of class 1 against class 0"),
        (1, nn.Sigmoid(), False, "one probability, taken before sigmoid, as logits"),
        (
            1,
            lambda found: unseen(found.sigmoid()),
            False,
            "one probability of class 1, its log odds taken as the logit",
        ),
    ],
)
def test_what_outputs_are_is_found_once(classes, end, overlapping, scale):
    task = Segmentation(overlapping=overlapping)
    models = [Classifier("net", "1", Segmenter(classes, each), task=task).working_copy(IMAGES) for each in (None, end)]
    assert str(models[1].scale) == scale
    assert models[1].classes == max(2, classes)
    plain, ended = (model.call(torch.from_numpy(IMAGES)).detach() for model in models)
    odds = [each if overlapping else each.log_softmax(dim=1) for each in (plain, ended)]
    torch.testing.assert_close(*odds, atol=1e-5, rtol=1e-4)


def test_an_end_is_looked_for_at_every_call_and_earlier_ones_are_let_go():
    class Gated(Segmenter):
        def forward(self, images):
            found = self.body(images)
            return self.head(found * found.sigmoid()).softmax(dim=1)

    model = Classifier("net", "1", Gated(), task=Segmentation()).working_copy(IMAGES)
    found = model.call(torch.from_numpy(IMAGES)).detach()
    torch.testing.assert_close(found.softmax(dim=1), model.module(torch.from_numpy(IMAGES)).detach())
    assert (found < 0).any(), "logits, and no probabilities"


@pytest.mark.parametrize(
    ("end", "overlapping", "wrong"),
    [(nn.Sigmoid(), False, "overlapping = true"), (nn.Softmax(1), True, "overlapping = false")],
)
def test_classes_that_overlap_are_said_to(end, overlapping, wrong):
    with pytest.raises(UnsupportedModelError, match=f"over 4 classes at each place: .* set the task's {wrong}"):
        explain(Segmenter(end=end), IMAGES, MASKS, "saliency", task=Segmentation(overlapping=overlapping))


def test_overlapping_classes_are_explained_each_by_its_own_logit():
    net, task = Segmenter(), Segmentation(overlapping=True)
    target = task.given(MASKS, IMAGES, ("a", "b", "c"))[1]
    outputs = net(torch.from_numpy(IMAGES[[0, 0, 1, 1, 2, 2]])).detach()
    torch.testing.assert_close(target.score(outputs), target.slope(outputs).double(), rtol=1e-5, atol=1e-6)


class Several(Segmenter):
    """What torchvision's segmenters return."""

    def forward(self, images):
        found = super().forward(images)
        return {"out": found, "aux": -found}


def test_an_auxiliary_head_is_only_meant_where_it_is_named():
    plain = explain(Segmenter(), IMAGES, MASKS, "saliency", task="segmentation")
    found = explain(Several(), IMAGES, MASKS, "saliency", task="segmentation")
    assert found.values.tobytes() == plain.values.tobytes()
    other = make_task("segmentation", {"output": "aux"})
    model = Classifier("net", "1", Several(), task=other).working_copy(IMAGES)
    assert model.returned.place == "aux"
    with pytest.raises(ConfigError, match="output 'logits' is nothing that model Several returns: choose one of 'out'"):
        explain(Several(), IMAGES, MASKS, "saliency", task=make_task("segmentation", {"output": "logits"}))


def test_without_masks_the_model_says_what_is_there():
    net = Segmenter(larger=4).eval()
    with torch.no_grad():
        chosen = net(torch.from_numpy(IMAGES)).argmax(dim=1).numpy()
    shares = [np.bincount(each.ravel(), minlength=CLASSES) / each.size for each in chosen]
    expected = tuple(f"{row} [{each}]" for row, share in enumerate(shares) for each in np.flatnonzero(share >= 0.05))
    found = explain(net, IMAGES, None, "shap", task="segmentation", **FEW)
    assert found.sample_ids == expected
    lists = [np.flatnonzero(share >= 0.05).tolist() for share in shares]
    named = explain(net, IMAGES, lists, "shap", task="segmentation", **FEW)
    assert named.values.tobytes() == found.values.tobytes()


def test_the_zone_stays_the_references():
    first, second = (Classifier("net", str(seed), Segmenter(seed=seed), task=Segmentation()) for seed in (0, 5))
    slice_, _ = first.asked.given([[1], [2], [0]], IMAGES, ("a", "b", "c"))
    target = first.asked.answered(slice_, first.logits(slice_.images, slice_.sample_ids))
    chosen = first.logits(IMAGES, ("a", "b", "c")).argmax(axis=1)
    assert (target.values["zone"] == (chosen == np.array([1, 2, 0])[:, None, None])).all()
    second.require(target, IMAGES)


def test_an_empty_zone_has_no_map():
    zones = np.zeros((3, SIDE, SIDE), dtype=np.bool_)
    zones[1:, 4:9] = True
    for explainer in ("saliency", "shap"):
        found = explain(Segmenter(), IMAGES, {"zone": zones, "class": [3, 1, 1]}, explainer, task="segmentation")
        assert found.undefined == {"0": "its zone is empty: class 3 is nowhere in the image"}
    with pytest.raises(ExplanationError, match="its zone is empty: class 3 is nowhere in the image"):
        explain(Segmenter(), IMAGES, {"zone": ~zones[:1].repeat(3, 0) & False, "class": [3] * 3}, task="segmentation")


def test_a_zone_in_any_resolution_is_weighed_at_the_outputs_places():
    zone = torch.zeros(1, 8, 8, dtype=torch.bool)
    zone[0, :3, :2] = True
    weights = weights_of(zone, torch.zeros(1, 2, 4, 4))
    assert weights[0, :2, 0].tolist() == [1, 0.5]
    assert weights.sum() == 1.5
    assert (weights_of(zone, torch.zeros(1, 2, 16, 16)).sum() == 24).all()


class Counting(Segmenter):
    shown: list[int] = []  # noqa: RUF012 - models are run as copies

    def forward(self, images):
        self.shown.append(len(images))
        return super().forward(images)


def test_all_zones_of_an_image_share_its_evaluations():
    def shown(classes):
        Counting.shown.clear()
        explain(Counting(), IMAGES[:1], [classes], "shap", task="segmentation", segments=20, evaluations=150)
        return sum(Counting.shown)

    looked = shown([0])
    assert shown([0, 1, 2, 3]) - looked <= 3 * 32, "what finds the zones and looks for empty ones, a batch each"


def outputs_of(masks, classes=CLASSES):
    return 4 * np.stack([masks == each for each in range(classes)], axis=1).astype(np.float32)


def test_a_zone_is_found_where_masks_overlap_by_half():
    zones = np.zeros((3, 8, 8), dtype=np.bool_)
    zones[:, :, :4] = True
    facts = {"zone": zones, "given": np.ones(3, bool)}
    slice_ = Slice("s", np.zeros((3, 1, 8, 8), np.float32), np.ones(3, np.int64), ("a", "b", "c"), facts=facts)
    target = Segmentation().asked(slice_)
    masks = zones.astype(np.int64)
    masks[1, :, 2:] = 0  # half of it
    masks[2, :, 1:] = 0  # a quarter
    found = Segmentation().decided(slice_, outputs_of(masks), target)
    assert found.predictions.tolist() == [1, 1, -1]
    assert found.truths.tolist() == [1, 1, 1]
    assert found.confidences is None
    masks[2] = 0
    coarse = outputs_of(masks[:, ::2, ::2])
    assert Segmentation().decided(slice_, coarse, target).predictions.tolist() == [1, 1, -1]
    masks[2, :, :1] = 1
    assert Segmentation(iou=0.2).decided(slice_, outputs_of(masks), target).predictions.tolist() == [1, 1, 1]


def test_where_the_reference_said_what_is_there_nobody_knows_what_is_right():
    zones = np.ones((1, 8, 8), dtype=np.bool_)
    slice_ = Slice("s", np.zeros((1, 1, 8, 8), np.float32), np.ones(1, np.int64), ("a",), facts={"zone": zones})
    assert Segmentation().decided(slice_, outputs_of(zones.astype(int)), Segmentation().asked(slice_)).truths is None


def test_nothing_found_where_nothing_is_is_right():
    zones = np.zeros((2, 8, 8), dtype=np.bool_)
    facts = {"zone": zones, "given": np.ones(2, bool)}
    slice_ = Slice("s", np.zeros((2, 1, 8, 8), np.float32), np.ones(2, np.int64), ("a", "b"), facts=facts)
    masks = np.zeros((2, 8, 8), int)
    found = Segmentation().decided(slice_, outputs_of(masks), Segmentation().asked(slice_))
    assert (found.truths == found.predictions).all()


def test_divergence_and_churn_are_per_place_whatever_the_resolutions():
    first = np.random.default_rng(0).normal(size=(2, CLASSES, 8, 8)).astype(np.float32)
    second = first.copy()
    second[:, :, 0, :4] = -4 * first[:, :, 0, :4]
    changed = first.argmax(axis=1) != second.argmax(axis=1)
    assert Segmentation().churn(first, second) == pytest.approx(changed.mean())
    log = [torch.from_numpy(each).double().log_softmax(dim=1) for each in (first, second)]
    expected = float((log[0].exp() * (log[0] - log[1])).sum(dim=1).mean())
    assert Segmentation().divergence(first, second) == pytest.approx(expected)
    finer = second.repeat(2, axis=2).repeat(2, axis=3)
    assert Segmentation().churn(first, finer) == pytest.approx(changed.mean(), abs=0.1)
    assert Segmentation(overlapping=True).churn(first, -first) == 1


def test_large_outputs_are_kept_as_means_of_cells():
    task, large = Segmentation(), torch.randn(2, 8, 256, 256)
    kept = task.kept(large)
    assert KEPT / 2 < kept[0].numel() <= KEPT
    assert kept.mean() == pytest.approx(float(large.mean()), abs=1e-3)
    small = torch.randn(2, 8, 64, 64)
    assert task.kept(small) is small


def test_log_odds_do_not_hang_on_what_classes_have_in_common():
    outputs = torch.randn(1, CLASSES, 8, 8)
    target = Target(Segmentation(), {"class": np.array([2]), "zone": np.ones((1, 8, 8), bool)})
    shifted = outputs + torch.randn(1, 1, 8, 8)
    assert target.score(shifted) == pytest.approx(target.score(outputs), abs=1e-5)
    expected = target_log_odds(outputs[0].flatten(1).T, 2).mean()
    assert target.score(outputs)[0] == pytest.approx(float(expected))


@pytest.mark.parametrize(
    ("targets", "wrong"),
    [
        (MASKS[:2], r"must be masks of class indices \(N,H,W\) of images"),
        (MASKS.astype(np.float32), "must be masks of class indices"),
        (np.full_like(MASKS, 255), "no class takes up 5% of any mask: there is nothing to explain"),
        (np.full_like(MASKS, 7), "class 7 cannot be explained: model Segmenter has 4 classes, 0 and up"),
        ({"zone": MASKS > 0}, "must have a zone and a class of each image, got zone"),
        ({"zone": MASKS, "class": [0, 1, 2]}, "must be 3 zones .* of True and False with a class each, got int64"),
        ([[1], [2]], "must be labels of 3 images, got those of 2"),
        ([[9], [1], [2]], r"image '0 \[9\]' is asked about class 9, the model has 4 classes, 0 and up"),
        ([[0], [-1], [2]], r"image '1 \[-1\]' is asked about class -1"),
    ],
)
def test_what_are_no_zones_is_refused(targets, wrong):
    with pytest.raises((ConfigError, SliceError), match=wrong):
        explain(Segmenter(), IMAGES, targets, "saliency", task="segmentation")


@pytest.mark.parametrize("wrong", [{"share": 0}, {"iou": 1}, {"ask": "cat"}, {"overlapping": 1}])
def test_parameters_are_what_they_must_be(wrong):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        make_task("segmentation", wrong)


def test_one_row_of_numbers_is_no_mask():
    with pytest.raises(UnsupportedModelError, match=r"expected logits \(N,classes,h,w\) for 2 images, got \(2, 4\)"):
        explain(nn.Sequential(Segmenter(), nn.AdaptiveAvgPool2d(1), nn.Flatten()), IMAGES, MASKS, task="segmentation")


def test_a_model_that_finds_nothing_large_enough_says_so():
    with pytest.raises(SliceError, match="slice 'images': nothing is asked of any of its 3 images"):
        explain(Segmenter(seed=3), IMAGES, None, "saliency", task=Segmentation(share=0.999999))


def test_checks_ask_about_zones():
    found = assess(Segmenter(), IMAGES, MASKS, "saliency", ["deletion", "random_head"], task="segmentation")
    assert len(found.outcomes["deletion"].values) == 6
    assert np.isfinite(found.outcomes["random_head"].values).any()


def test_outputs_lie_in_memory_as_they_are_read():
    """safetensors writes an array in the order of its memory, whatever its shape."""
    assert Classifier("net", "1", Segmenter(), task=Segmentation()).logits(IMAGES, ("a", "b", "c")).flags.c_contiguous


class TwoHeads(nn.Module):
    """The main head on finer features than the auxiliary one, which runs last, each in a module of its own."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.body, self.deeper = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU()), nn.Conv2d(8, 8, 3, 2, 1)
        self.main = nn.Sequential(nn.Conv2d(8, 16, 3, 1, 1), nn.ReLU(), nn.Conv2d(16, CLASSES, 1))
        self.aux = nn.Sequential(nn.Conv2d(8, 6, 3, 1, 1), nn.ReLU(), nn.Conv2d(6, CLASSES, 1))

    def forward(self, images):
        found = self.body(images)
        return {"out": self.main(found), "aux": self.aux(self.deeper(found))}


def test_the_layer_is_the_last_before_the_main_head():
    found = explain(TwoHeads(), IMAGES, MASKS, "gradcam", task="segmentation")
    assert found.parameters["layer"] == "main.1"
    assert heads(Classifier("net", "1", TwoHeads(), task=Segmentation()).working_copy(IMAGES)) == ["main.2", "aux.2"]
