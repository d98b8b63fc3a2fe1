"""Where a slice is cut says nothing about its maps, and a key is made of content alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ExplanationError, IncomparableError
from attrail_explainers.explainer import Explainer, Maps, Need, Trait, make_explainer, name_of
from attrail_explainers.explanation import explain_part, explain_slice, require_some_map, with_layer_found
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.description import ModelDescription
from attrail_explainers.slice import Slice
from attrail_explainers.subject import Subject
from attrail_explainers.tasks.single_label import SingleLabel
from attrail_flows.engine.joined_maps import JoinedMaps
from attrail_flows.engine.shards import LOGITS, Shard, cut, keys
from attrail_flows.inputs import large_arrays

EXPLAINERS = [
    make_explainer("gradcam"),
    make_explainer("shap", {"evaluations": 32}),
    make_explainer("lime", {"evaluations": 32}),
    make_explainer("integrated_gradients", {"steps": 8}),
    make_explainer("smoothgrad", {"samples": 4}),
]
MODEL = ModelDescription("sha256:0", 5, 10_000, "cpu", "torch.float32")


@pytest.fixture
def slice_(pictures: np.ndarray) -> Slice:
    return Slice("validation", pictures, np.arange(len(pictures)) % 5, tuple("abcdef"))


@pytest.fixture
def classifier(small_net: Callable[[int], nn.Module]) -> Classifier:
    return Classifier("net", "1", small_net(3))


def blank(images: int) -> Slice:
    names = tuple(str(number) for number in range(images))
    return Slice("blank", np.zeros((images, 1, 2, 2), np.float32), np.zeros(images, np.int64), names)


def sharded(slice_: Slice, explainer: Explainer, classifier: Classifier, size: int) -> Attributions:
    joined = JoinedMaps(slice_)
    starts = list(range(0, len(slice_), size))
    for start in reversed(starts):
        shard = Shard(slice_, start, min(start + size, len(slice_)), (explainer,))
        (part,) = explain_part(classifier, shard.part, [explainer], slice_.labels[shard.rows], 7)
        joined.add(shard, part, f"run {start % 2}")
    assert sum(joined.made_in.values()) == len(starts)
    return joined.whole(classifier.label, classifier.weights_digest, SingleLabel.of(slice_.labels))


@pytest.mark.parametrize("explainer", EXPLAINERS, ids=name_of)
@pytest.mark.parametrize("size", [1, 4])
def test_shards_of_any_size_in_any_order_make_the_same_maps(
    slice_: Slice, classifier: Classifier, explainer: Explainer, size: int
) -> None:
    (whole,) = explain_slice(classifier, slice_, [explainer], slice_.labels, 7)
    assert sharded(slice_, explainer, classifier, size).digest == whole.digest


def test_explainers_alone_make_the_maps_that_they_make_together(slice_: Slice, classifier: Classifier) -> None:
    together = explain_slice(classifier, slice_, EXPLAINERS, slice_.labels, 7)
    alone = [explain_slice(classifier, slice_, [each], slice_.labels, 7)[0] for each in EXPLAINERS]
    assert [each.digest for each in together] == [each.digest for each in alone]


def test_a_settled_explainer_names_its_layer_and_makes_the_same_maps(slice_: Slice, classifier: Classifier) -> None:
    found = with_layer_found(EXPLAINERS[0], classifier, slice_.images)
    assert found.layer
    (by_itself,) = explain_slice(classifier, slice_, [EXPLAINERS[0]], slice_.labels, 7)
    (told,) = explain_slice(classifier, slice_, [found], slice_.labels, 7)
    assert told.digest == by_itself.digest
    assert with_layer_found(EXPLAINERS[1], classifier, slice_.images) == EXPLAINERS[1]


def test_maps_too_large_for_memory_lie_in_a_file(
    slice_: Slice, classifier: Classifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = sharded(slice_, EXPLAINERS[0], classifier, 4)
    monkeypatch.setattr(large_arrays, "IN_MEMORY", 0)
    found = sharded(slice_, EXPLAINERS[0], classifier, 4)
    assert isinstance(found.values, np.memmap)
    assert found.digest == expected.digest


@dataclass(frozen=True)
class Contrast:
    """An explainer that has nothing to say about an image of one colour."""

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FORWARD})
    traits: ClassVar[frozenset[Trait]] = frozenset()

    def attribute(self, subject: Subject) -> Maps:
        values = subject.images.mean(dim=1).cpu().numpy()
        flat = [row for row, image in enumerate(values) if np.ptp(image) == 0]
        values[flat] = np.nan
        return Maps(values, dict.fromkeys(flat, "one colour"), {"spread": np.ptp(values, axis=(1, 2)).astype(float)})


def test_a_shard_without_any_map_is_no_error_but_a_slice_without_any_is(slice_: Slice, classifier: Classifier) -> None:
    flat = replace(slice_, images=slice_.images.copy())
    flat.images[:4] = 0
    (lost,) = explain_part(classifier, Shard(flat, 0, 4).part, [Contrast()], flat.labels[:4], 7)
    assert len(lost.undefined) == 4
    whole = sharded(flat, Contrast(), classifier, 4)
    assert list(whole.undefined) == list("abcd")
    assert whole.digest == explain_slice(classifier, flat, [Contrast()], flat.labels, 7)[0].digest
    with pytest.raises(ExplanationError, match="gives no map for any image of slice 'validation' on model net/1"):
        require_some_map(lost)
    with pytest.raises(ExplanationError, match="gives no map for any image"):
        explain_slice(classifier, Shard(flat, 0, 4).part, [Contrast()], flat.labels[:4], 7)


def test_shards_made_with_other_settings_are_not_joined(slice_: Slice, classifier: Classifier) -> None:
    joined = JoinedMaps(slice_)
    for start, evaluations in ((0, 32), (3, 34)):
        shard = Shard(slice_, start, start + 3, (make_explainer("shap", {"evaluations": evaluations}),))
        (part,) = explain_part(classifier, shard.part, shard.explainers, slice_.labels[shard.rows], 7)
        if start == 0:
            joined.add(shard, part, "run")
        else:
            with pytest.raises(IncomparableError, match=r"'evaluations': 32.*'evaluations': 34"):
                joined.add(shard, part, "run")


@given(images=st.integers(1, 5000), activations=st.integers(1, 10**9))
def test_a_cut_covers_every_image_once_by_every_explainer(images: int, activations: int) -> None:
    shards = list(cut(blank(images), EXPLAINERS, replace(MODEL, activations=activations)))
    for wanted in [(), *((each,) for each in EXPLAINERS)]:
        mine = [
            each for each in shards if set(wanted) <= set(each.explainers) and bool(wanted) == bool(each.explainers)
        ]
        assert [row for each in mine for row in range(each.start, each.stop)] == list(range(images))
        sizes = {len(each) for each in mine[:-1]}
        assert len(sizes) <= 1
        assert all(size & (size - 1) == 0 for size in sizes), "a power of two"


def test_what_costs_more_is_cut_smaller_and_like_costs_go_together() -> None:
    shards = list(cut(blank(4096), EXPLAINERS, replace(MODEL, activations=10**6)))
    sizes = {name_of(explainer): len(each) for each in reversed(shards) for explainer in each.explainers}
    assert sizes["gradcam"] > sizes["integrated_gradients"] > sizes["shap"] == sizes["lime"]
    assert all(len(each.explainers) == 2 for each in shards if len(each) == sizes["shap"])


def test_an_explainer_that_looks_for_like_images_is_given_all_of_them() -> None:
    (shard,) = [each for each in cut(blank(5000), [make_explainer("nearest_examples")], MODEL) if each.explainers]
    assert len(shard) == 5000


def test_a_key_is_made_of_content_alone(slice_: Slice) -> None:
    shard, targets = Shard(slice_, 1, 3, tuple(EXPLAINERS)), SingleLabel.of(slice_.labels[1:3])
    key = keys(shard, MODEL, targets, 0)
    renamed = replace(slice_, name="other", labels=slice_.labels + 1)
    assert keys(Shard(renamed, 1, 3, tuple(EXPLAINERS)), MODEL, targets, 0) == key
    moved = replace(slice_, images=slice_.images[1:], labels=slice_.labels[1:], sample_ids=slice_.sample_ids[1:])
    assert keys(Shard(moved, 0, 2, tuple(reversed(EXPLAINERS))), MODEL, targets, 0) == key
    assert set(key) == {name_of(each) for each in EXPLAINERS}
    assert len(set(key.values())) == len(key)
    assert set(keys(Shard(slice_, 1, 3), MODEL, targets, 0)) == {LOGITS}


def test_a_key_changes_with_everything_that_a_map_depends_on(slice_: Slice, monkeypatch: pytest.MonkeyPatch) -> None:
    gradcam = make_explainer("gradcam", {"layer": "features.3"})
    targets = SingleLabel.of(slice_.labels[1:3])

    def key(
        where: Slice = slice_,
        explainer: Explainer = gradcam,
        model: ModelDescription = MODEL,
        seed: int = 0,
        by=targets,
    ):
        return keys(Shard(where, 1, 3, (explainer,)), model, by, seed)["gradcam"]

    pixels = slice_.images.copy()
    pixels[2, 0, 0, 0] += 1e-6
    found = [
        key(),
        key(replace(slice_, images=pixels)),
        key(replace(slice_, sample_ids=tuple("abxdef"))),
        key(explainer=make_explainer("gradcam", {"layer": "features.0"})),
        key(model=replace(MODEL, weights_digest="sha256:1")),
        key(model=replace(MODEL, program_digest="sha256:1")),
        key(model=replace(MODEL, machine="x86_64, AVX2")),
        key(model=replace(MODEL, device="cuda")),
        key(model=replace(MODEL, dtype="torch.bfloat16")),
        key(seed=1),
        key(by=SingleLabel.of(slice_.labels[1:3] + 1)),
        key(by=None),
    ]
    monkeypatch.setattr("attrail_flows.engine.shards.packages", lambda: {"torch": "0"})
    found.append(key())
    monkeypatch.undo()
    monkeypatch.setattr("attrail_flows.engine.shards.code_digest", lambda: "sha256:2")
    found.append(key())
    assert len(set(found)) == len(found)


@pytest.mark.parametrize("looks", [(64, 128), (50, 130, 400), ()])
def test_what_the_first_look_computed_serves_the_next(looks: tuple[int, ...]) -> None:
    """The shards of the first images are shards of all of them, under the same keys; one that needs examples is not."""
    whole = blank(300)
    counted = [each for each in looks if each < len(whole)]
    every = list(cut(whole, EXPLAINERS, MODEL, looks))
    known = {key for shard in every for key in keys(shard, MODEL, SingleLabel.of(shard.part.labels), 7).values()}
    for images in counted:
        part = Slice(whole.name, whole.images[:images], whole.labels[:images], whole.sample_ids[:images])
        for shard in cut(part, EXPLAINERS, MODEL, looks):
            assert set(keys(shard, MODEL, SingleLabel.of(shard.part.labels), 7).values()) <= known
    assert all(sum(len(shard) for shard in every if each in shard.explainers) == 300 for each in EXPLAINERS)
    (examples,) = (
        shard for shard in cut(whole, [make_explainer("nearest_examples")], MODEL, looks) if shard.explainers
    )
    assert len(examples) == 300
