"""What the page says of each candidate by the floor that its kind of change asks for.

Retrains of the recipe are the floor of what was trained anew. For edits and fine-tunes they are the wrong one, further
away than anything such a change does: matched noise is theirs, as in an audit that declares them and gives no floor.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from factors import change_of
from judging import SIZES
from no_floor import EDITED
from pairs import Pair
from rates import area
from recipe import VISIBLE
from results import Results
from tables import number, percent, table
from words import clause, harms, word

IMAGES = SIZES[0]


@dataclass(frozen=True)
class Told:
    """What attrail says of a pair, and how far from chance it lies."""

    pair: Pair
    word: str
    reason: str
    score: float


def section(results: Results) -> str:
    told = [*_by_retrains(results), *_by_noise(results)]
    harming = {_place(each.pair) for each in results.harmful(IMAGES) if harms(results, each)}
    rows = [
        _row(name, [each for each in told if change_of(each.pair) in changes], harming)
        for name, changes in (
            ("trained anew, by retrains", ("retrain", "refresh")),
            ("edits and fine-tunes, by matched noise", EDITED),
            ("**all**", ("retrain", "refresh", *EDITED)),
        )
    ]
    head = ["candidates", "benign pairs", "false positives", "left open", "visible shortcuts", "power", "AUC",
            "harm", "false PASS"]  # fmt: skip
    text = (
        f"With {IMAGES} images. What was trained anew is held against retrains, an edit or a fine-tune against matched "
        "noise with the factors of all other families, as an audit does that declares them. Harm is counted as under "
        "false PASS above."
    )
    open_ = [each for each in told if not each.pair.harmful and each.word == "INCONCLUSIVE"]
    flagged = [f"- {each.pair.title}: {each.reason}" for each in told if not each.pair.harmful and each.word == "DRIFT"]
    parts = ["## By the floor that each change asks for", text, table(head, rows), "Benign pairs left open:"]
    parts += [_reasons(open_), "Benign pairs flagged:", "\n".join(flagged) or "None."]
    return "\n\n".join(parts)


def _by_retrains(results: Results) -> Iterable[Told]:
    for each in (*results.benign(IMAGES), *results.harmful(IMAGES)):
        if change_of(each.pair) not in EDITED:
            reason = each.judgements["attrail"].reason
            yield Told(each.pair, word(each), reason, each.score("attrail"))


def _by_noise(results: Results) -> Iterable[Told]:
    for each in results.by_noise:
        if each.change in EDITED:
            yield Told(each.pair, each.word, each.reason, each.score)


def _row(name: str, found: Sequence[Told], harming: set[tuple[str, str]]) -> list[str]:
    benign = [each for each in found if not each.pair.harmful]
    visible = [each for each in found if each.pair.group in VISIBLE]
    harmful = [each for each in found if _place(each.pair) in harming]
    return [
        name,
        str(len(benign)),
        percent(_share(benign, "DRIFT")),
        percent(_share(benign, "INCONCLUSIVE")),
        str(len(visible)),
        number(_share(visible, "DRIFT")),
        number(area([each.score for each in visible], [each.score for each in benign])),
        str(len(harmful)),
        percent(_share(harmful, "PASS")),
    ]


def _share(found: Sequence[Told], said: str) -> float:
    return sum(each.word == said for each in found) / len(found) if found else math.nan


def _reasons(found: Sequence[Told]) -> str:
    counts = Counter((" ".join(each.pair.family), clause(each.reason)) for each in found)
    return "\n".join(f"- {family}: {why} ({count})" for (family, why), count in sorted(counts.items())) or "None."


def _place(pair: Pair) -> tuple[str, str]:
    return pair.candidate.recipe.digest, pair.slice
