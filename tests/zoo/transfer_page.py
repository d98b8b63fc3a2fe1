"""The second zoo's results as a file, beside the first zoo's."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import comparisons
import early
import no_floor
import page
import words
from detectors import BASELINES
from factors import TOGETHER, change_of
from recipe import ON_THE_WAY, TUNED
from results import Results
from scipy.stats import binomtest, t
from tables import number, percent, table
from transfer_recipe import EPOCHS, EXPLAINERS, IMAGES, RETRAINS, SAMPLE, WHOLE

from attrail_monitoring.floor.factors import factors_of

LEVEL = 0.95
Row = Mapping[str, str]
Find = Callable[[str, str], Row]


def text(results: Results, first: str) -> str:
    """The whole page; ``first`` is the first zoo's."""
    sections = (
        page.detectors, page.benign, page.harmful, words.section, _no_floor, early.section, comparisons.section,
        page.families, page.notes,
    )  # fmt: skip
    own = "\n\n".join(section(results) for section in sections) + "\n"
    return "\n\n".join([_head(results), _beside(first, own), own])


def _head(results: Results) -> str:
    window = EXPLAINERS[1][1]
    return (
        "# How often the verdict is right on transfer learning\n\n"
        f"{page.made_by('make transfer-zoo', results)}\n\n"
        "The second zoo: nothing in attrail was chosen on it. EfficientNet-lite0 with ImageNet's weights at 96 pixels, "
        "the pictures of 32 enlarged in the model's first layer; stem and blocks 1 to 5 stay as they are, blocks 6 and "
        f"7 and the head, 2.7 of 3.4 million weights, are trained on {SAMPLE} pictures for {EPOCHS} epochs. "
        f"{RETRAINS} versions of the champion's recipe differ in the drawn head and the order of the pictures. A "
        "picture of the training data keeps the mark it carries in all epochs, so that what the frozen part gives for "
        "it is computed once. Marks, floors, baselines and tables are those of [the first zoo](ZOO.md), smaller in "
        f"number: slices of {IMAGES} images, plain and with four marks. Occlusion is coarse, nine windows of "
        f"{window['window']} of the 32 pixels in steps of {window['stride']}: a mask changes what the frozen part "
        "sees. Grad-CAM's layer has 3x3 places. A mark on 70 or 30 % of the images is one on that share of the "
        "training images; the others carry honest marks. Visible shortcuts here: a corner mark on all or 70 % of the "
        "images, frame, tint, position code and the model fine-tuned onto the mark."
    )


def _no_floor(results: Results) -> str:
    told = no_floor.words(results, "as attrail has them, from the first zoo alone")
    return "\n\n".join([no_floor.TITLE, _foreseen(results), told])


def _foreseen(results: Results) -> str:
    """How many honest candidates moved as far beside noise as the library's factors say."""
    places = {
        (change_of(each.pair), TOGETHER if each.explainer == TOGETHER else "each", each.statistic)
        for each in results.moves
        if not each.pair.harmful
    }
    rows = [_row(results, *place) for place in sorted(places)]
    text = (
        "How many times as far as matched noise honest candidates moved here, and where "
        f"{LEVEL:.0%} of them lie by the factors that attrail has from the first zoo."
    )
    return f"{text}\n\n" + table(["change and statistic", "explainers", "foreseen", "here", "mean", "inside"], rows)


def _row(results: Results, change: str, explainers: str, statistic: str) -> list[str]:
    ratios = [
        each.log_ratio
        for each in results.moves
        if not each.pair.harmful
        and (change_of(each.pair), each.statistic) == (change, statistic)
        and (each.explainer == TOGETHER) == (explainers == TOGETHER)
    ]
    seen = [f"{math.exp(min(ratios)):.2f}-{math.exp(max(ratios)):.2f}", number(math.exp(sum(ratios) / len(ratios)))]
    factor = factors_of("noise", change, "together" if explainers == TOGETHER else "each").get(statistic)
    if factor is None:
        return [f"{change}: {statistic}", explainers, "-", *seen, "-"]
    reach = t.ppf((1 + LEVEL) / 2, factor.freedom) * factor.log_sd
    low, high = factor.log_mean - reach, factor.log_mean + reach
    inside = sum(low <= each <= high for each in ratios)
    foreseen = f"{math.exp(low):.2f}-{math.exp(high):.2f}"
    return [f"{change}: {statistic}", explainers, foreseen, *seen, f"{inside}/{len(ratios)}"]


@dataclass(frozen=True)
class Count:
    """``hits`` of ``trials``, with Wilson's interval."""

    hits: int
    trials: int

    @property
    def interval(self) -> tuple[float, float]:
        found = binomtest(self.hits, self.trials).proportion_ci(LEVEL, method="wilson")
        return found.low, found.high

    def holds(self, other: "Count") -> bool:
        low, high = self.interval
        return low <= other.hits / other.trials <= high

    def __str__(self) -> str:
        low, high = self.interval
        return f"{self.hits}/{self.trials} = {percent(self.hits / self.trials)} ({100 * low:.1f}-{100 * high:.1f} %)"


def _beside(first: str, own: str) -> str:
    """The rates of both pages, each counted in the same rows of them."""
    rows = []
    for name, counted in _RATES.items():
        counts = [_counted(counted, each) for each in (first, own)]
        rows.append([name, *(str(each) if each else "-" for each in counts), _agreement(*counts)])
    text = (
        f"With {IMAGES} images, in brackets Wilson's {LEVEL:.0%} interval, as if pairs were independent. The last "
        "column says which share lies in the other one's interval; that of the first zoo, which has more pairs, is "
        "narrower."
    )
    areas = [_area(each) for each in (first, own)]
    rows.append(["AUC, visible shortcuts", *areas, ""])
    head = ["rate", "first zoo", "second zoo", "within the other's interval"]
    return f"## Beside the first zoo\n\n{text}\n\n" + table(head, rows)


def _agreement(first: Count | None, second: Count | None) -> str:
    if first is None or second is None:
        return "-"
    within = first.holds(second), second.holds(first)
    words = {
        (True, True): "both",
        (True, False): "the second's in the first's",
        (False, True): "the first's in the second's",
    }
    return words.get(within, "neither")


def _counted(counted: Callable[[Find], Count], written: str) -> Count | None:
    """None where the page lacks a row, as one of an older attrail does, or where there is nothing to count."""
    try:
        count = counted(lambda heading, name: _rows(written, heading)[name])
    except KeyError:
        return None
    return count if count.trials else None


def _area(written: str) -> str:
    return _rows(written, "Detectors").get("attrail", {}).get("AUC", "-")


def _rows(written: str, heading: str) -> dict[str, Row]:
    """The rows of a section's tables by their first cell, the first of those with equal ones: cells by column."""
    found: dict[str, Row] = {}
    head: list[str] = []
    for line in _section(written, heading):
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            head = []
        elif not head:
            head = cells
        elif not cells[0].startswith("---"):
            found.setdefault(cells[0], dict(zip(head, cells, strict=True)))
    return found


def _section(written: str, heading: str) -> Iterator[str]:
    inside = False
    for line in written.splitlines():
        if line.startswith("#"):
            inside = line.lstrip("# ") == heading
        if inside:
            yield line


def _fraction(cell: str) -> Count:
    """Of a cell such as "8/552 = 1.4 %"."""
    hits, _, trials = cell.partition(" ")[0].partition("/")
    return Count(int(hits), int(trials))


def _said(find: Find, pairs: str, word: str) -> Count:
    row = find("attrail's words", f"{pairs}, {IMAGES} images")
    return Count(int(row[word]), sum(int(row[each]) for each in words.WORDS))


def _by_noise(find: Find, names: Sequence[str], column: str) -> Count:
    rows = [find("Two versions and nothing else", name) for name in names]
    return Count(sum(int(row[column]) for row in rows), sum(int(row["pairs"]) for row in rows))


def _false_positives(detector: str, find: Find) -> Count:
    return _fraction(find("Detectors", detector)["false positives"])


_RATES: dict[str, Callable[[Find], Count]] = {
    "false positives": lambda find: _said(find, "benign", "DRIFT"),
    "benign left INCONCLUSIVE": lambda find: _said(find, "benign", "INCONCLUSIVE"),
    "visible shortcuts flagged": lambda find: _said(find, "visible shortcuts", "DRIFT"),
    "false PASS": lambda find: _fraction(find("False PASS", "**all**")[f"PASS, {IMAGES} images"]),
    "by noise alone: honest edits and fine-tunes, DRIFT": lambda find: _by_noise(
        find, ["honest: edit", "honest: fine-tune"], "DRIFT"
    ),
    "by noise alone: fine-tuned onto the mark, 100, 50 and 30 % of the way, DRIFT": lambda find: _by_noise(
        find, [TUNED, *ON_THE_WAY], "DRIFT"
    ),
    "no floor: honest retrains, DRIFT": lambda find: _by_noise(find, ["honest: retrain"], "DRIFT"),
    "no floor: honest retrains, noticed": lambda find: _by_noise(find, ["honest: retrain"], "noticed"),
    "no floor: marks on all images, noticed": lambda find: _by_noise(find, WHOLE, "noticed"),
    **{f"false positives of {name}": partial(_false_positives, name) for name in BASELINES},
}
