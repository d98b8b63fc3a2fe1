"""Layers of two versions under the same names, where a wrapper alone makes the difference."""

from collections import Counter
from collections.abc import Sequence


def own_prefixes(first: Sequence[str], second: Sequence[str] | None = None) -> tuple[str, ...]:
    """What stands before all names of each version that the other lacks: ("", "model.") for one in a wrapper.

    Wrappers (Lightning, DataParallel, one for serving) put a prefix before all names. Two versions that share a name
    as it is have no wrapper.
    """
    if second is None:
        return ("",)
    if set(first) & set(second):
        return "", ""
    return _prefix(second, first), _prefix(first, second)


def _prefix(inner: Sequence[str], outer: Sequence[str]) -> str:
    """What must be taken off the outer names so that most inner ones are among them; "" for nothing."""
    known = set(outer)
    last = inner[-1] if inner else ""
    found = Counter(name.removesuffix(last) for name in known if last and name.endswith(f".{last}"))
    for prefix in sorted(found, key=len):
        if sum(prefix + name in known for name in inner) > len(inner) / 2:
            return prefix
    return ""
