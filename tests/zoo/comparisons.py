"""Pairs on which attrail and the baselines disagree, by name."""

from collections import Counter
from collections.abc import Iterable, Sequence

from detectors import BASELINES
from judging import Judged
from rates import power
from results import Results
from words import word

USELESS = 0.5  # share of benign pairs flagged from which a detector's flag says nothing


def section(results: Results) -> str:
    """Both lists the design asks for, and attrail's own errors."""
    images = results.sizes[0]
    equal = [each for each in results.harmful(images) if each.equally_accurate]
    caught = [each for each in equal if each.flagged("attrail")]
    passed = [each for each in results.benign(images) if word(each) == "PASS"]
    telling = [name for name in BASELINES if power(results.benign(images), name) < USELESS]
    names = f"all but those that flag {USELESS:.0%} of the benign pairs or more ({', '.join(telling)})"
    parts = [
        ("All baselines pass, attrail flags", [each for each in caught if not _any(each, BASELINES)]),
        (f"Baselines pass, {names}, attrail flags", [each for each in caught if not _any(each, telling)]),
        ("Some baseline flags, attrail says PASS", [each for each in passed if _any(each, BASELINES)]),
        (f"Some flags, of {names}, attrail says PASS", [each for each in passed if _any(each, telling)]),
    ]
    text = (
        f"With {images} images. In the first two lists the candidates are harmful and as accurate on the slice as the "
        f"champion, within two points ({len(equal)} pairs); in the others they are benign. Kinds with their pairs."
    )
    lists = [f"**{title}: {len(found)} pairs.** {_kinds(found)}" for title, found in parts]
    wrong = [each for each in results.benign(images) if each.flagged("attrail")]
    errors = [f"- {each.pair.title}: {each.judgements['attrail'].reason}" for each in wrong]
    missed = [each for each in results.visible(images) if not each.flagged("attrail")]
    errors_text = "\n".join(errors) or "None."
    return "\n\n".join(
        ["## Where attrail and the baselines differ", text, *lists,
         f"## Benign pairs that attrail flags with {images} images", errors_text,
         f"## Visible shortcuts that attrail does not flag with {images} images", _missed(missed, results)]
    )  # fmt: skip


def _any(each: Judged, names: Iterable[str]) -> bool:
    return any(each.flagged(name) for name in names)


def _kinds(found: Sequence[Judged]) -> str:
    counts = Counter(f"{' '.join(each.pair.family)}: {each.pair.group} on {each.pair.slice}" for each in found)
    return "; ".join(f"{name} ({count})" for name, count in sorted(counts.items()))


def _missed(found: Sequence[Judged], results: Results) -> str:
    lines = []
    for each in found:
        reliance = results.reliance[each.pair.candidate.recipe.digest]
        lines.append(f"- {each.pair.title}; reliance {reliance or 0:.2f}; {each.judgements['attrail'].reason}")
    return "\n".join(lines) or "None."
