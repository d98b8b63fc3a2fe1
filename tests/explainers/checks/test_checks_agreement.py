"""The checks against captum, against plain NumPy written from the papers, and against models whose answer is known."""

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from captum.metrics import sensitivity_max
from scipy.stats import spearmanr
from torch import nn

from attrail_explainers import explain
from attrail_explainers.assessment.assessment import assess_slice
from attrail_explainers.assessment.context import CheckContext, on_grid
from attrail_explainers.assessment.weight_randomisation import every_weight, head_weights, shuffled
from attrail_explainers.baselines import baseline_of
from attrail_explainers.checks.deletion import Deletion
from attrail_explainers.checks.infidelity import Infidelity, random_squares
from attrail_explainers.checks.insertion import Insertion
from attrail_explainers.checks.max_sensitivity import MaxSensitivity
from attrail_explainers.checks.random_head import RandomHead
from attrail_explainers.checks.random_weights import RandomWeights
from attrail_explainers.checks.seed_noise import SeedNoise
from attrail_explainers.digest import seed_of
from attrail_explainers.explainer import Maps, Need, make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.rank_agreement import spearman
from attrail_explainers.slice import Slice
from attrail_explainers.tasks.single_label import SingleLabel

SIDE = 16
TARGETS = np.array([0, 1, 2, 3, 4, 0])


class Additive(nn.Module):
    """Two classes whose log odds are the sum of weighted pixels: everything about it is known in closed form."""

    def __init__(self, weights):
        super().__init__()
        self.weights = nn.Parameter(torch.as_tensor(weights, dtype=torch.float32))

    def forward(self, images):
        total = (images * self.weights).sum(dim=(1, 2, 3))
        return torch.stack([total, torch.zeros_like(total)], dim=1)


@dataclass(frozen=True)
class Fixed:
    """An explainer whose maps are given by a function of the image and the subject."""

    values: Callable

    needs = frozenset({Need.FORWARD})
    traits = frozenset()

    def attribute(self, subject):
        values = [self.values(image.cpu().numpy(), subject) for image in subject.images]
        return Maps(np.stack(values).astype(np.float32))


@pytest.fixture
def weights():
    return np.random.default_rng(3).normal(0, 0.05, (1, SIDE, SIDE)).astype(np.float32)


@pytest.fixture
def additive_case(weights):
    def case(values, count=4):
        images = np.random.default_rng(5).uniform(0.5, 1.5, (count, 1, SIDE, SIDE)).astype(np.float32)
        slice_ = Slice("random", images, np.zeros(count, dtype=np.int64), tuple(f"image {n}" for n in range(count)))
        return case_of(Classifier("additive", "1", Additive(weights)), slice_, Fixed(values))

    return case


@pytest.fixture
def small_case(small_net, pictures):
    def case(name="gradcam", net=None, **parameters):
        slice_ = Slice("photographs", pictures, TARGETS, tuple(f"picture {row}" for row in range(len(pictures))))
        return case_of(Classifier("net", "1", net or small_net()), slice_, make_explainer(name, parameters))

    return case


def case_of(classifier, slice_, explainer):
    (maps,) = explain_slice(classifier, slice_, [explainer], slice_.labels, 0)
    return CheckContext(classifier, slice_, explainer, SingleLabel.of(slice_.labels), 0, maps)


def exact(image, subject):
    return (image * subject.model.module.weights.detach().numpy())[0]


def inverted(image, subject):
    return -exact(image, subject)


def unrelated(image, subject):
    return np.random.default_rng(11).normal(size=image.shape[1:])


# Deletion and insertion


def papers_curve(net, image, target, values, steps, baseline, insert):
    """Petsiuk et al., section 4.1, one pixel share after the other: no masks, no batches, no sorting tricks."""
    pixels = sorted(np.ndindex(values.shape), key=lambda place: (-values[place], place))
    canvas, other = (baseline.copy(), image) if insert else (image.copy(), baseline)
    curve, done = [], 0
    for step in range(steps + 1):
        wanted = round(step * len(pixels) / steps)
        for row, column in pixels[done:wanted]:
            canvas[:, row, column] = other[:, row, column]
        done = wanted
        with torch.inference_mode():
            curve.append(float(net(torch.from_numpy(canvas[None])).softmax(dim=1)[0, target]))
    return np.array(curve)


@pytest.mark.parametrize(("check", "insert"), [(Deletion(7, "mean"), False), (Insertion(7, "blur"), True)])
def test_curves_are_the_papers(small_case, small_net, pictures, check, insert):
    case = small_case("shap", segments=12, evaluations=40)
    found, net = check.examine(case), small_net().eval()
    for row in range(len(pictures)):
        baseline = baseline_of(torch.from_numpy(pictures[row]), check.baseline).numpy().copy()
        expected = papers_curve(net, pictures[row].copy(), TARGETS[row], case.maps.values[row], 7, baseline, insert)
        np.testing.assert_allclose(found.details["curve"][row], expected, atol=1e-5)
        middle = (expected[1:] + expected[:-1]) / 2
        assert found.values[row] == pytest.approx(middle.mean(), abs=1e-5)


def test_curves_of_an_additive_model_in_closed_form(additive_case, weights):
    """What is left of the log odds is the sum of what is left of the attributions."""
    case = additive_case(exact)
    deleted, inserted = Deletion(SIDE * SIDE).examine(case), Insertion(SIDE * SIDE, "zero").examine(case)
    for row, image in enumerate(case.slice_.images):
        parts = np.sort((image * weights).astype(np.float64).ravel())
        left = np.append(np.cumsum(parts)[::-1], 0)
        brought = np.append(0, np.cumsum(parts[::-1]))
        np.testing.assert_allclose(deleted.details["curve"][row], 1 / (1 + np.exp(-left)), atol=1e-5)
        np.testing.assert_allclose(inserted.details["curve"][row], 1 / (1 + np.exp(-brought)), atol=1e-5)


def test_the_exact_map_beats_an_unrelated_one_and_that_an_inverted_one(additive_case):
    def values(check):
        return [check.examine(additive_case(each)).values for each in (exact, unrelated, inverted)]

    for best, middle, worst in (values(Deletion()), values(Infidelity(baseline="zero"))):
        assert (best < middle - 0.02).all()
        assert (middle < worst + 1e-9).all()
    best, middle, worst = values(Insertion(baseline="zero"))
    assert (best > middle + 0.02).all()
    assert (middle > worst + 0.02).all()


def test_chance_lies_between_the_exact_map_and_its_inverse(additive_case):
    good, bad = (Deletion().examine(additive_case(each)) for each in (exact, inverted))
    assert (good.values < good.details["chance"]).all()
    assert (bad.values > good.details["chance"]).all()
    np.testing.assert_array_equal(good.details["chance"], bad.details["chance"])


def test_maps_are_enlarged_bilinearly_between_cell_centres():
    enlarged = on_grid(np.array([[0.0, 4.0]], dtype=np.float32), (2, 4))
    np.testing.assert_allclose(enlarged, [[0, 1, 3, 4]] * 2)


def test_equal_values_go_in_reading_order(additive_case):
    flat = additive_case(lambda image, subject: np.zeros(image.shape[1:]))
    falling = additive_case(lambda image, subject: -np.arange(SIDE * SIDE).reshape(SIDE, SIDE))
    np.testing.assert_array_equal(Deletion().examine(flat).values, Deletion().examine(falling).values)


# Infidelity


@pytest.mark.parametrize("name", ["gradcam", "lime"])
@pytest.mark.parametrize("normalize", [True, False])
def test_infidelity_agrees_with_captum(small_case, small_net, name, normalize):
    case = small_case(name)
    found, net = Infidelity(perturbations=12).examine(case), small_net().eval()

    for row, example in case.examples():
        squares = torch.from_numpy(random_squares(example, 12, case.seed)).unsqueeze(1).expand(-1, 3, -1, -1)
        blurred = torch.where(squares, baseline_of(example.image, "blur"), example.image)
        # captum wants attributions of the input's shape; a third in each channel is the same sum over a square.
        expected = captum_infidelity(
            lambda images, target=example.target: target.score(net(images)),
            lambda _, squares=squares, blurred=blurred: (squares.float(), blurred),
            example.image[None],
            torch.from_numpy(example.values).float().expand(1, 3, -1, -1) / 3,
            n_perturb_samples=12,
            normalize=normalize,
        ).item()
        scaled = found.details["scaled_infidelity"][row]
        if not normalize:
            assert found.details["infidelity"][row] == pytest.approx(expected, rel=1e-3)
        elif found.values[row] < 1:
            assert scaled == pytest.approx(expected, rel=1e-3, abs=1e-3)
        else:  # captum lets the factor be negative
            assert scaled >= expected - 1e-6
    assert (found.values < 1).sum() >= 2


def test_infidelity_of_the_exact_map_is_zero_and_of_an_empty_one_is_one(additive_case):
    perfect = Infidelity(baseline="zero").examine(additive_case(exact))
    assert np.abs(perfect.values).max() < 1e-6
    assert perfect.details["infidelity"].max() < 1e-6
    empty = Infidelity(baseline="zero").examine(additive_case(lambda image, subject: np.zeros(image.shape[1:])))
    np.testing.assert_array_equal(empty.values, 1)


def test_squares_have_their_centres_everywhere_and_are_cut_at_the_edge(small_case):
    _, example = next(small_case().examples())
    squares = random_squares(example, 400, 0)
    heights, widths = squares.any(axis=2).sum(axis=1), squares.any(axis=1).sum(axis=1)
    assert (squares.sum(axis=(1, 2)) == heights * widths).all()
    inside = ~(squares[:, [0, -1]].any(axis=(1, 2)) | squares[:, :, [0, -1]].any(axis=(1, 2)))
    assert (heights[inside] == widths[inside]).all()
    assert (heights[inside].min(), heights.max(), widths.max()) == (8, 32, 32)
    assert squares.any(axis=0).all()


# Max-sensitivity


def test_max_sensitivity_agrees_with_captum(small_case, small_net, pictures):
    case, check = small_case(), MaxSensitivity(radius=0.05, draws=4)
    found = check.examine(case).values

    def expected(row):
        copies = np.stack([check.noisy(case, draw)[row] for draw in range(4)])

        def maps(images, **_):
            chunk = images[0] if isinstance(images, tuple) else images
            return (torch.from_numpy(explain(small_net(), chunk, [TARGETS[row]] * len(chunk)).values),)

        return sensitivity_max(
            maps, torch.from_numpy(pictures[row : row + 1]), lambda *_: torch.from_numpy(copies), n_perturb_samples=4
        ).item()

    rows = [row for row in range(len(pictures)) if np.isfinite(found[row])]
    assert len(rows) >= 4
    assert found[rows] == pytest.approx([expected(row) for row in rows], rel=1e-3)


def test_noise_stays_within_the_radius(small_case, pictures):
    noise = MaxSensitivity(radius=0.1).noisy(small_case(), 0) - pictures
    reach = 0.1 * np.ptp(pictures, axis=(1, 2, 3))
    assert (np.abs(noise).max(axis=(1, 2, 3)) <= reach * 1.001).all()
    assert (np.abs(noise).max(axis=(1, 2, 3)) > reach * 0.99).all()


# Random weights


def test_a_map_that_ignores_the_weights_fails_and_a_faithful_one_passes(additive_case):
    ignorant = additive_case(lambda image, subject: image[0])
    faithful = additive_case(exact)
    np.testing.assert_array_equal(RandomWeights().examine(ignorant).values, 1)
    assert np.abs(RandomWeights().examine(faithful).values).max() < 0.25


def test_agreement_with_the_random_model_is_spearmans(small_case, small_net, pictures):
    case = small_case()
    found = RandomWeights(draws=1).examine(case).values
    other = shuffled(case.classifier, case.model, every_weight, seed_of("weights", 0, 0))
    maps = explain(other.module, pictures, TARGETS)
    for row, (mine, theirs) in enumerate(zip(case.maps.values, maps.values, strict=True)):
        assert found[row] == pytest.approx(spearmanr(mine.ravel(), theirs.ravel()).statistic, nan_ok=True)


def test_shuffling_keeps_each_tensors_values_and_nothing_else(small_case, small_net):
    case, net = small_case(), small_net()
    before = {name: weight.detach().clone() for name, weight in case.model.module.named_parameters()}
    random = shuffled(case.classifier, case.model, every_weight, 1).module
    for name, weight in random.named_parameters():
        assert torch.equal(weight.flatten().sort().values, before[name].flatten().sort().values)
        assert weight.numel() < 9 or not torch.equal(weight, before[name]) or len(weight.unique()) == 1
    for name, weight in case.model.module.named_parameters():
        assert torch.equal(weight, before[name])
    assert torch.equal(net.head.weight, before["head.weight"])
    other = shuffled(case.classifier, case.model, every_weight, 2).module
    assert not torch.equal(other.head.weight, random.head.weight)


def test_random_head_touches_the_head_alone(small_case):
    case = small_case()
    head = head_weights(case.model, case.model.module)
    assert set(head) == {"head.weight", "head.bias"}
    random = dict(shuffled(case.classifier, case.model, head_weights, 0).module.named_parameters())
    changed = {name for name, each in case.model.module.named_parameters() if not torch.equal(each, random[name])}
    assert changed == {"head.weight", "head.bias"}


def test_a_map_of_the_features_alone_fails_the_random_head(small_case, small_net, pictures):
    """Grad-CAM depends on the head; the mean activation, which never sees it, does not."""

    class Features(Fixed):
        def attribute(self, subject):
            found = []
            with torch.inference_mode(), subject.model.hooks({"features": lambda m, a, output: found.append(output)}):
                subject.model.call(subject.images, hooked=True)
            return Maps(found[0][: len(subject)].mean(dim=1).numpy())

    slice_ = Slice("photographs", pictures, TARGETS, tuple("abcdef"))
    features = case_of(Classifier("net", "1", small_net()), slice_, Features(None))
    np.testing.assert_array_equal(RandomHead().examine(features).values, 1)
    assert RandomWeights().examine(features).values.mean() < 0.9
    assert np.nanmean(RandomHead().examine(small_case()).values) < 0.9


@pytest.mark.parametrize("check", [RandomWeights(draws=2), RandomHead(draws=2), Deletion(6)])
def test_an_exported_program_gives_what_its_module_gives(tmp_path, small_case, small_net, pictures, check):
    """Registered models come as programs: no layer types, fake tensors inside, one batch size or any."""
    net = small_net().eval()
    case = small_case(net=net)
    program = torch.export.export(net, (torch.from_numpy(pictures[:2]),), dynamic_shapes=({0: torch.export.Dim.AUTO},))
    torch.export.save(program, tmp_path / "net.pt2")
    exported = case_of(classifier_from_export(tmp_path / "net.pt2", "net", "1"), case.slice_, case.explainer)
    before = {name: weight.clone() for name, weight in exported.model.module.named_parameters()}
    first, second = (check.examine(exported).values for _ in range(2))
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(first, check.examine(case).values, atol=0.05)
    assert all(torch.equal(weight, before[name]) for name, weight in exported.model.module.named_parameters())


def test_a_random_model_without_usable_outputs_costs_its_own_image_only(small_case):
    """Explaining again may fail for one image; each of the others gets what it would get without it."""
    case = small_case("lime", segments=6, evaluations=16)
    images = case.slice_.images.copy()
    images[2] = np.nan
    maps = case.again(images=images)
    expected = case.again()
    assert np.isnan(maps[2]).all()
    np.testing.assert_array_equal(np.delete(maps, 2, axis=0), np.delete(expected, 2, axis=0))


# Seed noise


def test_seed_noise_is_the_mean_over_pairs_and_zero_without_draws(small_case, small_net, pictures):
    case = small_case("shap", segments=12, evaluations=40)
    found = SeedNoise(seeds=3).examine(case).values
    ids = case.slice_.sample_ids
    seeds = (0, seed_of("repeat", 0, 1), seed_of("repeat", 0, 2))
    maps = [explain(small_net(), pictures, TARGETS, "shap", each, ids, segments=12, evaluations=40) for each in seeds]
    for row in range(len(pictures)):
        first, second, third = (each.values[row].ravel() for each in maps)
        pairs = ((first, second), (first, third), (second, third))
        expected = np.mean([1 - spearmanr(left, right).statistic for left, right in pairs])
        assert found[row] == pytest.approx(expected, abs=1e-9)
    assert found.max() > 0
    assert set(SeedNoise().examine(small_case("gradcam")).values.tolist()) == {0.0}


def test_more_evaluations_mean_less_seed_noise(small_case):
    few, many = (SeedNoise(2).examine(small_case("lime", evaluations=each)).values.mean() for each in (40, 300))
    assert many < few / 2


def test_rank_agreement_of_constant_and_undefined_maps():
    ramp = np.arange(4.0).reshape(1, 2, 2)
    flat, none = np.ones_like(ramp), np.full_like(ramp, np.nan)
    assert spearman(ramp, ramp * 3).tolist() == [1.0]
    assert spearman(ramp, -ramp).tolist() == [-1.0]
    assert spearman(flat, flat * 2).tolist() == [1.0]
    assert spearman(flat, ramp).tolist() == [0.0]
    assert np.isnan(spearman(none, ramp)).all()


# The assessment


def test_assess_slice_reports_progress_for_every_image_of_every_check(small_case):
    case, steps = small_case(), []
    found = assess_slice(
        case.classifier, case.slice_, case.explainer, [Deletion(3), SeedNoise()], case.target, 0, steps.append
    )
    assert sum(steps) == 6 * 3
    assert list(found.outcomes) == ["deletion", "seed_noise"]
    assert found.outcomes["deletion"].chance == pytest.approx(
        found.outcomes["deletion"].finding.details["chance"].mean()
    )
    assert json.dumps(found.document(), allow_nan=False)


def test_out_of_memory_is_met_with_smaller_batches(small_case, monkeypatch):
    case = small_case()
    model, whole = case.model, case.model.batch
    call = model.call

    def scarce(images, **how):
        if model.batch > whole // 4:
            raise torch.OutOfMemoryError("no memory left")
        return call(images, **how)

    monkeypatch.setattr(model, "call", scarce)
    found = assess_slice(case.classifier, case.slice_, Fixed(lambda image, _: image[0]), [Deletion(3)], TARGETS, 0)
    assert np.isfinite(found.outcomes["deletion"].values).all()
    assert model.batch == whole // 4
