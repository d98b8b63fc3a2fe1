"""Digests and seeds."""

import hashlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrail_explainers.digest import digest_of, digest_of_arrays, seed_of

numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.none()
values = st.recursive(numbers | st.text(), lambda inner: st.lists(inner, max_size=3), max_leaves=5)
mappings = st.dictionaries(st.text(), values, max_size=5)


@given(mappings)
def test_order_of_keys_does_not_matter(mapping):
    backwards = dict(reversed(mapping.items()))
    assert digest_of(mapping) == digest_of(backwards)
    text = json.dumps(mapping, sort_keys=True, separators=(",", ":"))
    assert digest_of(mapping) == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@given(mappings, mappings)
def test_different_mappings_differ(first, second):
    same = json.dumps(first, sort_keys=True) == json.dumps(second, sort_keys=True)
    assert (digest_of(first) == digest_of(second)) is same


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_json_lacks_are_refused(number):
    with pytest.raises(ValueError, match="not JSON compliant"):
        digest_of({"a": number})


def test_arrays_with_the_same_bytes_differ():
    kinds = [np.zeros(4, "<f4"), np.zeros((2, 2), "<f4"), np.zeros(4, "<i4"), np.zeros(2, "<f8"), np.zeros(16, "u1")]
    kinds += [np.zeros(1), np.zeros(()), np.zeros((1, 1)), np.zeros(0), np.zeros((0, 3))]
    assert len({digest_of_arrays([("a", kind)]) for kind in kinds}) == len(kinds)
    assert digest_of_arrays([("a", kinds[0])]) != digest_of_arrays([("b", kinds[0])])
    assert digest_of_arrays([("a", np.zeros(2)), ("b", np.zeros(0))]) != digest_of_arrays([("a", np.zeros(2))])


def test_layout_and_byte_order_do_not_matter():
    plain = np.arange(6, dtype="<f4").reshape(2, 3)
    layouts = [plain, np.asfortranarray(plain), plain.astype(">f4"), np.repeat(plain, 2, axis=0)[::2]]
    assert len({digest_of_arrays([("a", layout)]) for layout in layouts}) == 1


def test_seeds_depend_on_every_part():
    parts = [("a", 0, "x"), ("a", 0, "y"), ("a", 1, "x"), ("b", 0, "x"), ("a", 0)]
    seeds = {seed_of(*each) for each in parts}
    assert len(seeds) == len(parts)
    assert seed_of("a", 0, "x") == seed_of("a", 0, "x")
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert np.random.default_rng(max(seeds)).random() < 1
