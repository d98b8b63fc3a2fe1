"""Canonical JSON (RFC 8785): every value has exactly one text, so what is signed or hashed cannot be written twice."""

import json
from collections.abc import Mapping
from typing import Any

import rfc8785

EXACT = 2**53  # integers beyond it are no exact JSON numbers; RFC 8785 writes only floats there


def encode(value: Any) -> bytes:
    """The value's canonical text: sorted keys, no spaces, shortest numbers, UTF-8, no newline at the end.

    Raises ValueError for what JSON cannot hold exactly: NaN, infinities, integers of 2**53 and beyond.
    """
    return rfc8785.dumps(value)


def decode(text: bytes) -> Any:
    """The value of a canonical text.

    Raises ValueError when the text is no JSON or not the canonical text of its value: another order or spacing,
    a key that comes twice, or a number written otherwise would let two texts mean the same.
    """
    try:
        value = json.loads(text, parse_int=_number)
        canonical = encode(value) == text
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not canonical:
        raise ValueError("it is not written as canonical JSON (RFC 8785)")
    return value


def decode_object(text: bytes) -> Mapping[str, Any]:
    """The object of a canonical text; ValueError for every other value."""
    value = decode(text)
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object was expected, got {type(value).__name__}")
    return value


def _number(digits: str) -> int | float:
    number = float(digits)
    return int(digits) if abs(number) < EXACT else number
