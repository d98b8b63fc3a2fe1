"""Attributions: what identifies them, and their file."""

import dataclasses
import json

import numpy as np
import pytest
import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from safetensors.numpy import save_file

from attrail_explainers.attributions import Attributions, load_attributions, save_attributions
from attrail_explainers.errors import ExplanationError, RecordError

ORIGINAL = Attributions(
    explainer="lime",
    parameters={"segments": 8, "seed": 0, "layer": None},
    values=np.arange(24, dtype=np.float32).reshape(3, 2, 4) - 12,
    targets=np.array([0, 1, 0]),
    sample_ids=("a", "b", "c"),
    slice_name="corner",
    slice_digest="sha256:0",
    model="net/1",
    weights_digest="sha256:1",
    diagnostics={"surrogate_r2": np.array([0.5, np.nan, 1.0])},
)


def undefined(row, reason="none"):
    values = ORIGINAL.values.copy()
    values[row] = np.nan
    return {"values": values, "undefined": {ORIGINAL.sample_ids[row]: reason}}


CHANGED = {
    "explainer": {"explainer": "shap"},
    "parameters": {"parameters": {**ORIGINAL.parameters, "seed": 1}},
    "values": {"values": np.nextafter(ORIGINAL.values, np.float32(np.inf))},
    "targets": {"targets": np.array([0, 1, 1])},
    "sample_ids": {"sample_ids": ("a", "b", "d")},
    "slice_name": {"slice_name": "centre"},
    "slice_digest": {"slice_digest": "sha256:2"},
    "model": {"model": "net/2"},
    "weights_digest": {"weights_digest": "sha256:2"},
    "program_digest": {"program_digest": "sha256:3"},
    "target": {"target": "sha256:4"},
    "undefined": undefined(1),
    "diagnostics": {"diagnostics": {"surrogate_r2": np.array([0.5, np.nan, 0.9])}},
}
COMPARABLE = {"values", "slice_name", "model", "weights_digest", "program_digest", "undefined", "diagnostics"}
every_field = pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Attributions)])


@every_field
def test_digest_depends_on_every_field(field):
    assert dataclasses.replace(ORIGINAL, **CHANGED[field]).digest != ORIGINAL.digest
    assert dataclasses.replace(ORIGINAL).digest == ORIGINAL.digest


@every_field
def test_comparability_depends_on_the_question_not_on_the_answer(field):
    same = dataclasses.replace(ORIGINAL, **CHANGED[field]).comparability == ORIGINAL.comparability
    assert same is (field in COMPARABLE)


def test_comparability_depends_on_the_grid():
    turned = dataclasses.replace(ORIGINAL, values=ORIGINAL.values.reshape(3, 4, 2))
    assert turned.comparability != ORIGINAL.comparability


def test_a_reason_is_in_the_digest():
    first, second = (dataclasses.replace(ORIGINAL, **undefined(1, reason)) for reason in ("zero", "too few"))
    assert first.digest != second.digest


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_maps_must_be_finite_or_declared(bad):
    values = ORIGINAL.values.copy()
    values[1, 0, 0] = bad
    with pytest.raises(ExplanationError, match="'b' is not finite but not declared undefined"):
        dataclasses.replace(ORIGINAL, values=values)
    assert dataclasses.replace(ORIGINAL, values=values, undefined={"b": "none"}).defined.tolist() == [True, False, True]
    with pytest.raises(ExplanationError, match="'a' is finite but declared undefined"):
        dataclasses.replace(ORIGINAL, undefined={"a": "none"})


@pytest.mark.parametrize("change", [{"values": np.zeros((3, 4), np.float32)}, {"targets": np.arange(2)}])
def test_shapes_must_agree(change):
    with pytest.raises(ExplanationError, match=r"expected values \(N,H,W\) for 3 samples"):
        dataclasses.replace(ORIGINAL, **change)


@pytest.mark.parametrize("strange", ["z", "d"])
def test_only_samples_can_be_undefined(strange):
    with pytest.raises(ExplanationError, match=f"'{strange}'"):
        dataclasses.replace(ORIGINAL, undefined={strange: "none"})


floats = st.floats(width=32, allow_nan=False, allow_infinity=False)
parameters = st.dictionaries(
    st.text(), st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False)
)


@st.composite
def attributions(draw):
    ids = draw(st.lists(st.text(), min_size=1, max_size=4, unique=True))
    shape = (len(ids), draw(st.integers(1, 4)), draw(st.integers(1, 4)))
    values = draw(arrays.arrays(np.float32, shape, elements=floats))
    missing = draw(st.lists(st.sampled_from(range(len(ids))), unique=True))
    values[missing] = np.nan
    column = arrays.arrays(np.float64, len(ids), elements=st.floats())
    return Attributions(
        explainer=draw(st.text()),
        parameters=draw(parameters),
        values=values,
        targets=draw(arrays.arrays(np.int64, len(ids), elements=st.integers(0, 1000))),
        sample_ids=tuple(ids),
        slice_name=draw(st.text()),
        slice_digest=draw(st.text()),
        model=draw(st.text()),
        weights_digest=draw(st.text()),
        program_digest=draw(st.none() | st.text()),
        undefined={ids[row]: draw(st.text()) for row in missing},
        diagnostics=draw(st.dictionaries(st.text(), column, max_size=2)),
    )


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("attributions")


@settings(deadline=None, max_examples=1)
@given(attributions())
def test_what_cannot_be_written_is_named(folder, original):
    taken = folder / "taken" / "maps.safetensors"
    taken.mkdir(parents=True, exist_ok=True)
    with pytest.raises(RecordError, match=r"maps\.safetensors cannot be written: .*make room there"):
        save_attributions(original, taken)


@settings(deadline=None)
@given(attributions())
def test_file_round_trip(folder, original):
    path = folder / "deep" / "maps.safetensors"
    save_attributions(original, path)
    loaded = load_attributions(path)
    for field in dataclasses.fields(Attributions):
        before, after = getattr(original, field.name), getattr(loaded, field.name)
        if field.name in ("values", "targets"):
            assert (before.dtype, before.shape, before.tobytes()) == (after.dtype, after.shape, after.tobytes())
        elif field.name == "diagnostics":
            assert {name: array.tobytes() for name, array in before.items()} == {
                name: array.tobytes() for name, array in after.items()
            }
        else:
            assert before == after
    assert loaded.digest == original.digest
    assert loaded.comparability == original.comparability


@pytest.fixture
def parts(tmp_path):
    """A written file taken apart, and a way to write it again with something changed."""
    path = tmp_path / "maps.safetensors"
    save_attributions(dataclasses.replace(ORIGINAL, **undefined(1)), path)
    with safetensors.safe_open(path, framework="numpy") as file:
        facts = json.loads(file.metadata()["attrail"])
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118

    def written(facts, tensors):
        save_file(tensors, path, metadata={"attrail": json.dumps(facts)})
        return path

    return facts, tensors, written


def test_untampered_parts_are_accepted(parts):
    facts, tensors, written = parts
    assert load_attributions(written(facts, tensors)).digest == facts["digest"]


FACTS = [
    "digest",
    "explainer",
    "format",
    "model",
    "parameters",
    "sample_ids",
    "slice_digest",
    "slice_name",
    "undefined",
    "weights_digest",
]


def test_every_fact_is_tampered_with(parts):
    assert sorted(parts[0]) == FACTS


@pytest.mark.parametrize("fact", FACTS)
def test_a_changed_fact_is_detected(parts, fact):
    facts, tensors, written = parts
    changes = {"parameters": {"segments": 9}, "sample_ids": ["x", "b", "c"], "undefined": {"b": "another reason"}}
    with pytest.raises(RecordError, match=r"maps\.safetensors"):
        load_attributions(written(facts | {fact: changes.get(fact, "changed")}, tensors))


@pytest.mark.parametrize("fact", FACTS)
def test_a_missing_fact_is_detected(parts, fact):
    facts, tensors, written = parts
    with pytest.raises(RecordError, match=r"maps\.safetensors"):
        load_attributions(written({key: facts[key] for key in facts if key != fact}, tensors))


@pytest.mark.parametrize(
    "facts", [{}, {"format": "attrail.attributions/1"}, {"format": "attrail.attributions/9"}, [], 1, None]
)
def test_strange_metadata_is_refused(parts, facts):
    with pytest.raises(RecordError, match=r"maps\.safetensors"):
        load_attributions(parts[2](facts, parts[1]))


def test_an_additional_fact_is_detected(parts):
    facts, tensors, written = parts
    with pytest.raises(RecordError, match=r"maps\.safetensors"):
        load_attributions(written(facts | {"verdict": "PASS"}, tensors))


@pytest.mark.parametrize("tensor", ["values", "targets", "diagnostics.surrogate_r2"])
def test_changed_and_missing_tensors_are_detected(parts, tensor):
    facts, tensors, written = parts
    changed = tensors[tensor].copy()
    changed.flat[0] += 1
    for others in ({tensor: changed}, {tensor: tensors[tensor].astype(np.float16)}, {}):
        kept = {name: array for name, array in tensors.items() if name != tensor}
        with pytest.raises(RecordError, match=r"maps\.safetensors"):
            load_attributions(written(facts, kept | others))


def test_an_undeclared_hole_is_detected(parts):
    facts, tensors, written = parts
    tensors["values"] = tensors["values"].copy()
    tensors["values"][0, 0, 0] = np.nan
    with pytest.raises(RecordError, match=r"maps\.safetensors"):
        load_attributions(written(facts, tensors))


@pytest.mark.parametrize("content", [b"", b"maps", bytes(64), b'{"a": 1}'])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(RecordError, match="other is not a file of attributions"):
        load_attributions(path)


def test_truncated_and_missing_files_are_refused(tmp_path):
    path = tmp_path / "maps.safetensors"
    save_attributions(ORIGINAL, path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(RecordError, match="is not a file of attributions"):
        load_attributions(path)
    with pytest.raises(RecordError, match="is not a file of attributions"):
        load_attributions(tmp_path / "nothing")


def test_a_plain_safetensors_file_is_refused(tmp_path):
    save_file({"values": np.zeros(3)}, tmp_path / "weights.safetensors")
    with pytest.raises(RecordError, match="is not a file of attributions"):
        load_attributions(tmp_path / "weights.safetensors")


@given(
    values=arrays.arrays(np.float32, (3, 2, 4), elements=st.floats(-2, 2, width=32)), lost=st.sets(st.integers(0, 2))
)
def test_signed_and_finite_look_at_every_number(values, lost):
    values[sorted(lost)] = np.nan
    made = dataclasses.replace(ORIGINAL, values=values, undefined={ORIGINAL.sample_ids[row]: "none" for row in lost})
    assert made.signed == (values < 0).any()
    assert made.finite.tolist() == [row not in lost for row in range(3)]
