"""Fields of a JSON document, read strictly: what is missing, unknown or of another kind is named by its key."""

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

from attrail_explainers.errors import EvidenceError
from attrail_explainers.excerpt import excerpt

T = TypeVar("T")
Reader = Callable[[Any, str], T]
MOMENT = "%Y-%m-%dT%H:%M:%SZ"


def text(value: Any, where: str) -> str:
    """Text that is not empty."""
    if not isinstance(value, str) or not value:
        raise wrong(where, "text", value)
    return value


def number(value: Any, where: str) -> int:
    """A whole number of 0 or more."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise wrong(where, "a whole number of 0 or more", value)
    return value


def flag(value: Any, where: str) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise wrong(where, "true or false", value)
    return value


def anything(value: Any, where: str) -> Any:
    """Any JSON value."""
    return value


def digest(value: Any, where: str) -> str:
    """A SHA-256 digest, ``sha256:`` and 64 hexadecimal digits."""
    if not isinstance(value, str) or re.fullmatch(r"sha256:[0-9a-f]{64}", value) is None:
        raise wrong(where, "sha256: and 64 hexadecimal digits", value)
    return value


def moment(value: Any, where: str) -> datetime:
    """A time in UTC to the second, as ``2026-11-21T17:06:32Z`` (RFC 3339)."""
    try:
        return datetime.strptime(value, MOMENT).replace(tzinfo=UTC)
    except (TypeError, ValueError) as error:
        raise wrong(where, "a time like 2026-11-21T17:06:32Z", value) from error


def optional(reader: Reader[T]) -> Reader[T | None]:
    """Null, or what ``reader`` reads."""
    return lambda value, where: None if value is None else reader(value, where)


def listed(reader: Reader[T]) -> Reader[tuple[T, ...]]:
    """A list whose elements ``reader`` reads."""

    def read(value: Any, where: str) -> tuple[T, ...]:
        if not isinstance(value, list):
            raise wrong(where, "a list", value)
        return tuple(reader(each, f"{where}[{row}]") for row, each in enumerate(value))

    return read


def mapped(reader: Reader[T]) -> Reader[dict[str, T]]:
    """An object with any keys, whose values ``reader`` reads."""

    def read(value: Any, where: str) -> dict[str, T]:
        if not isinstance(value, Mapping):
            raise wrong(where, "an object", value)
        return {key: reader(each, f"{where}.{key}") for key, each in value.items()}

    return read


def with_fields(readers: Mapping[str, Reader[Any]], make: Callable[..., T]) -> Reader[T]:
    """An object with exactly these keys, given to ``make`` as keyword arguments."""

    def read(value: Any, where: str) -> T:
        found = mapped(anything)(value, where)
        for key in readers:
            if key not in found:
                raise EvidenceError(f"{where}: the key {key!r} is missing")
        for key in found:
            if key not in readers:
                raise EvidenceError(f"{where}: the key {key!r} is unknown")
        return make(**{key: reader(found[key], f"{where}.{key}") for key, reader in readers.items()})

    return read


def plain(value: Any) -> Any:
    """The value as JSON holds it: what the readers read back; times are cut to the second."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime(MOMENT)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    return value


def wrong(where: str, expected: str, value: Any) -> EvidenceError:
    """The error for a value of another kind than expected."""
    return EvidenceError(f"{where}: expected {expected}, got {excerpt(value)!r}")
