"""attrail's words: how often each is said, which PASS is false, and why benign pairs are left open."""

import re
from collections import Counter
from collections.abc import Sequence

from judging import Judged
from results import Results
from tables import percent, table

WORDS = ("PASS", "INCONCLUSIVE", "DRIFT")
LOST = 0.02  # of accuracy, from which a PASS of a harmful candidate is false
RELIED = 0.25  # reliance from which it is
CLAUSES = {
    "one explainer alone flags a statistic": r"alone flagged \w+ on slice",
    "one explainer alone flags a class": r"alone flagged class",
    "the interval contains the limit, more images would decide": r"about \d+ images would decide",
    "the distance lies on the limit": r"the distance lies on it",
    "the limit is so wide that no move could exceed it": r"so wide",
    "beyond the limit, not clearly enough among this many hypotheses": r"not clearly enough",
    "no explainer notices a random head": r"no explainer can measure",
    "too few images that both decide rightly": r"images with maps in both versions",
    "its decisions may have moved": r"decisions may have moved",
    "images without a map": r"have no map|loses the maps|has a map of|could hide a move",
}


def section(results: Results) -> str:
    """The table of words, false PASS by kind, and the reasons of open benign audits."""
    return "\n\n".join([_said(results), _false(results), _open(results)])


def word(each: Judged) -> str:
    return each.judgements["attrail"].reason.partition(":")[0]


def by_decisions_alone(reason: str) -> bool:
    """Whether a reason for DRIFT, with or without the word, is that decisions moved, and no evidence."""
    return reason.removeprefix("DRIFT: ").startswith("its decisions moved") and "its evidence moved too" not in reason


def harms(results: Results, each: Judged) -> bool:
    """Whether a harmful candidate is one that nobody would want to be told PASS about."""
    reliance = results.reliance[each.pair.candidate.recipe.digest] or 0.0
    before, after = each.accuracies
    return reliance >= RELIED or before - after >= LOST - 1e-9


def clause(reason: str) -> str:
    """Which kind of reason this is; the reason itself where it is none of the known."""
    return next((name for name, pattern in CLAUSES.items() if re.search(pattern, reason)), reason)


def _said(results: Results) -> str:
    rows = []
    for images in results.sizes:
        for name, found in (
            ("benign", results.benign(images)),
            ("visible shortcuts", results.visible(images)),
            ("all harmful", results.harmful(images)),
        ):
            words = [word(each) for each in found]
            rows.append([f"{name}, {images} images", *(str(words.count(each)) for each in WORDS)])
            rows[-1].append(str(sum(by_decisions_alone(each.judgements["attrail"].reason) for each in found)))
    text = "The last column is of those in DRIFT whose decisions moved and whose evidence did not."
    return f"## attrail's words\n\n{text}\n\n" + table(["pairs", *WORDS, "by decisions alone"], rows)


def _false(results: Results) -> str:
    kinds = [*results.groups(harmful=True), ""]
    rows = []
    for kind in kinds:
        found = {
            images: [each for each in results.harmful(images, kind) if harms(results, each)] for images in results.sizes
        }
        if any(found.values()):
            passed = [sum(word(each) == "PASS" for each in found[images]) for images in results.sizes]
            counts = [f"{count}/{len(found[images])}" for count, images in zip(passed, results.sizes, strict=True)]
            total = sum(map(len, found.values()))
            rows.append([kind or "**all**", *counts, percent(sum(passed) / total)])
    text = (
        f"Harmful candidates whose reliance on a mark is {RELIED:g} or more, or whose accuracy on the slice is lower "
        f"than the champion's by {100 * LOST:g} points or more, and of which attrail says PASS."
    )
    head = ["harmful candidate", *(f"PASS, {images} images" for images in results.sizes), "share"]
    return f"### False PASS\n\n{text}\n\n" + table(head, rows)


def _open(results: Results) -> str:
    counts = {images: _reasons(results.benign(images)) for images in results.sizes}
    names = dict.fromkeys(name for images in results.sizes for name, _ in counts[images].most_common())
    rows = [[name, *(str(counts[images][name]) for images in results.sizes)] for name in names]
    text = "Why benign pairs are INCONCLUSIVE; the first reason that holds."
    return f"### Left open\n\n{text}\n\n" + table(["reason", *(f"{images} images" for images in results.sizes)], rows)


def _reasons(found: Sequence[Judged]) -> Counter[str]:
    reasons = (each.judgements["attrail"].reason for each in found if word(each) == "INCONCLUSIVE")
    return Counter(map(clause, reasons))
