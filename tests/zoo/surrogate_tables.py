"""What the page says of surrogates: their factors to honest versions, family by family, and attrail's words."""

import math
from collections.abc import Mapping, Sequence
from statistics import mean

from by_noise import ByNoise
from factors import TOGETHER, Move, change_of
from recipe import SURROGATES, VISIBLE
from results import Results, StoodIn
from surrogate_floors import FALSE, RETRAINED, decided
from surrogates import COUNT, LATE, NARROW, RAISED
from tables import number, table
from words import WORDS, by_decisions_alone

Family = tuple[str, str]
Kind = tuple[str, str, str, str]  # what surrogates are, change, explainer and statistic
TEXT = f"""{COUNT} surrogates of each kind stand in for retrains of one champion:
- **late-checkpoints**: the champion's own training, stopped at {", ".join(f"{share:.0%}" for share in LATE)} of its
  steps;
- **last-block-refits**: the champion with its last block and head drawn anew and trained again on its data, for half
  of its epochs, while the rest stays as it is;
- **dropout**: the champion with a mask of dropped inputs of its layers, as many as raise its loss by {RAISED:.0%} at
  most: about as much as the losses of retrains differ;
- **narrow-retrains**: retrains with {NARROW:.0%} of the champion's channels.

The factor says how many times as far as the surrogates' mean distance an honest version's evidence moves from the same
champion: the geometric mean of each family, in brackets what all other families together would have told. Ratios are
of single honest versions.

Limits: one champion in each family; networks of these two shapes and 32x32 pixels, larger inputs and pretrained
backbones were not tried; three data sets, so that a family that is left out has one of the same pictures among the
others; Grad-CAM and occlusion alone; narrow ViTs train unevenly from seed to seed."""


def section(results: Results) -> str:
    """Nothing where no surrogates were made."""
    if not results.surrogates:
        return ""
    return "\n\n".join(["## Surrogates", TEXT, _factors(results), _words(results)])


def _factors(results: Results) -> str:
    moves = [each for found in results.surrogates.values() for each in found.moves if not each.pair.harmful]
    kinds: dict[Kind, list[Move]] = {}
    for each in moves:
        kinds.setdefault((each.pair.source, change_of(each.pair), each.explainer, each.statistic), []).append(each)
    families = list(dict.fromkeys(each.pair.family for each in moves))
    rows = [[*kind, *_of_families(kinds[kind], families), _ratios(kinds[kind])] for kind in sorted(kinds, key=_order)]
    head = ["surrogates", "change", "explainer", "statistic", *(" ".join(each) for each in families), "ratios seen"]
    return table(head, rows)


def _order(kind: Kind) -> tuple[object, ...]:
    source, change, explainer, statistic = kind
    return SURROGATES.index(source), change, statistic, explainer == TOGETHER, explainer


def _of_families(found: Sequence[Move], families: Sequence[Family]) -> list[str]:
    cells = []
    for family in families:
        own = [each for each in found if each.pair.family == family]
        others = [each for each in found if each.pair.family != family]
        told = f" ({_factor(others)})" if others else ""
        cells.append(f"{_factor(own)}{told}" if own else "-")
    return cells


def _factor(found: Sequence[Move]) -> str:
    """The geometric mean of the families' own."""
    families: dict[Family, list[float]] = {}
    for each in found:
        families.setdefault(each.pair.family, []).append(each.log_ratio)
    return number(math.exp(mean(map(mean, families.values()))))


def _ratios(found: Sequence[Move]) -> str:
    seen = [math.exp(each.log_ratio) for each in found]
    return f"{min(seen):.2f}-{max(seen):.2f}"


def _words(results: Results) -> str:
    rows = [row for source, found in results.surrogates.items() for row in _rows(results, source, found)]
    text = (
        "attrail's words with such a floor and factors of all other families, which may decide for the sake of this "
        f"table. A kind decides in the product where at most {FALSE:.0%} of the honest versions are flagged and at "
        f"most {FALSE:.0%} of the harmful ones that learned what they were taught get PASS; of a refresh only where of "
        "a retrain too. The last column is of those in DRIFT whose decisions moved and whose evidence did not: they "
        "are held to margins, whatever the floor, and do not count for that."
    )
    return f"{text}\n\n" + table(["surrogates", "candidate", "pairs", *WORDS, "decides", "by decisions alone"], rows)


def _rows(results: Results, source: str, found: StoodIn) -> list[list[str]]:
    honest = {f"honest: {change}": [each for each in found.told if each.change == change and not each.pair.harmful]
              for change in RETRAINED}  # fmt: skip
    harmful = [each for each in found.told if each.pair.harmful]
    visible = [each for each in harmful if each.pair.group in VISIBLE and results.learned(each.pair)]
    others = [each for each in harmful if each.pair.group not in VISIBLE]
    told: Mapping[str, Sequence[ByNoise]] = honest | {"visible, learned": visible, "half of the labels random": others}
    deciding = {f"honest: {change}" for change in decided(results, found)}
    return [
        [source, name, str(len(each)), *(str([one.word for one in each].count(word)) for word in WORDS),
         "" if name not in honest else "yes" if name in deciding else "no",
         str(sum(by_decisions_alone(one.reason) for one in each))]
        for name, each in told.items()
    ]  # fmt: skip
