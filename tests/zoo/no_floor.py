"""What the page says of audits without a floor: the factors of matched noise, and attrail's words with it alone."""

import math
from collections.abc import Sequence

from by_noise import ByNoise
from factors import spreads
from recipe import ON_THE_WAY, TUNED, VISIBLE
from reliance import LEARNED
from results import Results
from tables import number, percent, table
from words import WORDS

TITLE = "## Two versions and nothing else"
EDITED = ("edit", "fine-tune")
DECISIONS = "its decisions moved"


def section(results: Results) -> str:
    return "\n\n".join([TITLE, factors(results), words(results, "of all other families")])


def factors(results: Results) -> str:
    rows = []
    for (change, explainers, statistic), seen in spreads(results.moves).items():
        rows.append(
            [f"{change}: {statistic}", explainers, number(math.exp(seen.log_mean)), number(seen.log_mean),
             number(seen.log_sd), number(seen.between), f"{seen.freedom:.1f}", str(seen.families), str(seen.models),
             f"{seen.lowest:.2f}-{seen.highest:.2f}"]
        )  # fmt: skip
    head = ["change and statistic", "explainers", "factor", "log mean", "log SD", "of families", "freedom", "families",
            "models", "ratios seen"]  # fmt: skip
    text = (
        "Matched noise is the champion with Gaussian noise on its weights, as much as makes its answers diverge as far "
        "as the candidate's do. The factor says how many times as far as that an honest candidate's evidence moves: "
        "the geometric mean of the families' means, and the spread of one candidate of one more family."
    )
    return f"{text}\n\n" + table(head, rows)


def words(results: Results, origin: str) -> str:
    """The table of attrail's words; ``origin`` says which factors it had."""
    honest = {change: [each for each in results.by_noise if each.change == change and not each.pair.harmful]
              for change in ("edit", "fine-tune", "refresh", "retrain")}  # fmt: skip
    harmful: dict[str, list[ByNoise]] = {}
    for each in results.by_noise:
        if each.pair.harmful:
            harmful.setdefault(each.pair.group, []).append(each)
    rows = [[f"honest: {change}", *_counts(found)] for change, found in honest.items() if found]
    rows += [[name, *_counts(found)] for name, found in harmful.items()]
    flagged = [each.word == "DRIFT" for change in EDITED for each in honest[change]]
    marks = [each for name in (TUNED, *ON_THE_WAY) for each in harmful.get(name, [])]
    found = [each.word == "DRIFT" for each in marks]
    learned = [each.word == "DRIFT" for each in marks if results.learned(each.pair)]
    text = (
        f"attrail's words with matched noise for a floor and factors {origin}. Noticed: the reason says "
        "that a statistic moved further than noise of that size and honest versions do. Honest edits and fine-tunes "
        f"flagged: {_rate(flagged)}; models fine-tuned onto a mark, all of the way or a part of it, found: "
        f"{_rate(found)}, of those that learned it (reliance {LEARNED:g} or more) {_rate(learned)}."
    )
    return f"{text}\n\n" + table(["candidate", "pairs", *WORDS, "noticed"], rows) + f"\n\n{_anew(results)}"


def _anew(results: Results) -> str:
    """What is said of trainings anew, which noise may only notice."""
    anew = [each for each in results.by_noise if each.change not in EDITED]
    honest = [each for each in anew if not each.pair.harmful]
    marks = [each.noticed or each.word == "DRIFT" for each in anew if each.pair.group in VISIBLE]
    by_evidence = [each.word == "DRIFT" and not each.reason.startswith(DECISIONS) for each in honest]
    by_decisions = [each.word == "DRIFT" and each.reason.startswith(DECISIONS) for each in honest]
    return (
        f"Of honest retrains and refreshes DRIFT by evidence: {_rate(by_evidence)}, by decisions alone, as their "
        f"accuracy fell beyond the margin: {_rate(by_decisions)}. Visible shortcuts trained anew noticed or flagged: "
        f"{_rate(marks)}."
    )


def _counts(found: Sequence[ByNoise]) -> list[str]:
    words = [each.word for each in found]
    noticed = sum(each.noticed for each in found)
    return [str(len(found)), *(str(words.count(each)) for each in WORDS), str(noticed)]


def _rate(hits: Sequence[bool]) -> str:
    return f"{sum(hits)}/{len(hits)} = {percent(sum(hits) / len(hits) if hits else math.nan)}"
