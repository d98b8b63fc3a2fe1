"""Changes to bytes, to rows of a text and to fields of a document, drawn at random."""

import random
from typing import Any

Draw = random.Random


# -- bytes of a file ---------------------------------------------------------------------------------------------------
def flip(content: bytes, draw: Draw) -> bytes:
    """One bit."""
    place = draw.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]


def replace_byte(content: bytes, draw: Draw) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + bytes([draw.randrange(256)]) + content[place + 1 :]


def truncate(content: bytes, draw: Draw) -> bytes:
    return content[: draw.randrange(len(content))]


def delete_bytes(content: bytes, draw: Draw) -> bytes:
    place = draw.randrange(len(content))
    return content[:place] + content[place + draw.randrange(1, 50) :]


def insert_bytes(content: bytes, draw: Draw) -> bytes:
    place = draw.randrange(len(content) + 1)
    return content[:place] + draw.randbytes(draw.randrange(1, 50)) + content[place:]


def move_bytes(content: bytes, draw: Draw) -> bytes:
    start, length = draw.randrange(len(content)), draw.randrange(1, 200)
    piece, rest = content[start : start + length], content[:start] + content[start + length :]
    place = draw.randrange(len(rest) + 1)
    return rest[:place] + piece + rest[place:]


# -- rows of a text ----------------------------------------------------------------------------------------------------
def delete_row(content: bytes, draw: Draw) -> bytes:
    rows = content.splitlines(keepends=True)
    del rows[draw.randrange(len(rows))]
    return b"".join(rows)


def repeat_row(content: bytes, draw: Draw) -> bytes:
    rows = content.splitlines(keepends=True)
    rows.insert(draw.randrange(len(rows) + 1), draw.choice(rows))
    return b"".join(rows)


def swap_rows(content: bytes, draw: Draw) -> bytes:
    rows = content.splitlines(keepends=True)
    one, other = draw.randrange(len(rows)), draw.randrange(len(rows))
    rows[one], rows[other] = rows[other], rows[one]
    return b"".join(rows)


def delete_tail(content: bytes, draw: Draw) -> bytes:
    rows = content.splitlines(keepends=True)
    return b"".join(rows[: draw.randrange(len(rows))])


def alter_row(content: bytes, draw: Draw) -> bytes:
    rows = content.splitlines(keepends=True)
    row = draw.randrange(len(rows))
    rows[row] = flip(rows[row], draw)
    return b"".join(rows)


# -- fields of a document ----------------------------------------------------------------------------------------------
def alter_field(value: Any, draw: Draw) -> Any:
    """The JSON value with one leaf altered, one key removed, renamed or added, or one list reordered."""
    if isinstance(value, dict) and value:
        return _alter_object(value, draw.choice(sorted(value)), draw)
    if isinstance(value, list) and value:
        place = draw.randrange(len(value))
        if draw.randrange(4) == 0:
            return value[:place] + value[place + 1 :]
        return [*value[:place], alter_field(value[place], draw), *value[place + 1 :]]
    return _another(value, draw)


def _alter_object(value: dict[str, Any], key: str, draw: Draw) -> dict[str, Any]:
    kind = draw.randrange(8)
    if kind == 0:
        return {name: each for name, each in value.items() if name != key}
    if kind == 1:
        return {name if name != key else name + "_": each for name, each in value.items()}
    if kind == 2:
        return value | {"added": draw.random()}
    return value | {key: alter_field(value[key], draw)}


def _another(leaf: Any, draw: Draw) -> Any:
    if isinstance(leaf, bool):
        return not leaf
    if isinstance(leaf, int | float):
        return leaf + draw.choice([-1, 1, 0.001])
    if isinstance(leaf, str):
        return {"PASS": "DRIFT", "DRIFT": "PASS"}.get(leaf) or flip_text(leaf, draw)
    return draw.choice(["something", 0, True])


def flip_text(text: str, draw: Draw) -> str:
    place = draw.randrange(len(text) + 1)
    return text[:place] + draw.choice("0123456789abcdefxyzPASS") + text[place + 1 :]
