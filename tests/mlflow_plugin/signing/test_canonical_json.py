"""Canonical JSON: one text per value (RFC 8785), and only that text is read."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attrail_mlflow.signing.canonical_json import decode, encode

NUMBERS = st.integers(-(2**53) + 1, 2**53 - 1) | st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abäß☂", max_size=3), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_written_is_read_back(value: object) -> None:
    assert decode(encode(value)) == value


@given(st.dictionaries(st.text("abcXYZ019_", max_size=4), st.integers(-1000, 1000) | st.booleans() | st.text("abc ")))
def test_plain_documents_are_what_the_standard_library_writes(value: object) -> None:
    assert encode(value) == json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def test_numbers_are_written_as_rfc_8785_says() -> None:
    """From the RFC's appendix B: shortest form, exponents from 1e21 up and below 1e-6 down, no negative zero."""
    written = encode([5e-324, 1e21, 1e-7, 0.000001, 295147905179352830000.0, -0.0, 1.0, 333333333.33333325])
    assert written == b"[5e-324,1e+21,1e-7,0.000001,295147905179352830000,0,1,333333333.33333325]"


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1}',
        b'{"b":1,"a":2}',
        b'{"a":1,"a":1}',
        b'{"a":1.0}',
        b'{"a":1e0}',
        b'{"a":"\\u0062"}',
        b'{"a":1}\n',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":9007199254740993}',
        b'{"a":"\\ud800"}',
        b'{"a":"\xff"}',
        b"",
        b"[" * 100_000 + b"]" * 100_000,
    ],
)
def test_every_other_text_is_refused(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode(text)


@pytest.mark.parametrize("value", [math.nan, math.inf, 2**53, {"a": object()}, {1: 2}])
def test_what_json_cannot_hold_exactly_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        encode(value)
