"""What the page says of looks: error rates and images used when an audit stops at the first look that decides."""

from collections.abc import Sequence

import numpy as np
from looks import LOOKS, SPENDINGS, Looked
from results import Results
from tables import number, percent, table
from words import harms

DECIDED = ("PASS", "DRIFT")


def section(results: Results) -> str:
    levels = "; ".join(
        f"{name}: {', '.join(f'{level:.2g}' for level in each.levels)}" for name, each in SPENDINGS.items()
    )
    text = (
        f"An audit looks at the first {', '.join(map(str, LOOKS[:-1]))} and {LOOKS[-1]} images of a random order and "
        f"stops where it can say PASS or DRIFT: DRIFT at the look's own level, PASS within the limits of all of alpha. "
        f"The levels, by how alpha is spent: {levels} (Lan & DeMets, Biometrika 1983)."
    )
    head = ["alpha is spent", "false positives", "power, visible shortcuts", "false PASS", "benign left open",
            "median images", "decided at the first look"]  # fmt: skip
    return f"## Looking early\n\n{text}\n\n" + table(head, [_row(results, name) for name in SPENDINGS])


def _row(results: Results, name: str) -> list[str]:
    benign = [each for each in results.looked if not each.pair.harmful]
    visible = [each for each in results.looked if each.pair.group in results.shortcuts]
    damaged = {each.pair for each in results.harmful(LOOKS[-1]) if harms(results, each)}
    used = [each.words[name][1] for each in results.looked]
    first = [each.words[name][1] == LOOKS[0] and each.words[name][0] in DECIDED for each in results.looked]
    return [
        name,
        percent(_said(benign, name, "DRIFT")),
        number(_said(visible, name, "DRIFT")),
        percent(_said([each for each in results.looked if each.pair in damaged], name, "PASS")),
        percent(_said(benign, name, "INCONCLUSIVE")),
        f"{np.median(used):g}" if used else "-",
        percent(float(np.mean(first)) if first else float("nan")),
    ]


def _said(found: Sequence[Looked], name: str, word: str) -> float:
    """Share of pairs of which a word is said under a spending."""
    return float(np.mean([each.words[name][0] == word for each in found])) if found else float("nan")
