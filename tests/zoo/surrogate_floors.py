"""Verdicts over a floor of surrogates, and of which declared changes their kind may decide."""

from collections.abc import Sequence

from by_noise import ByNoise, judge_by_noise
from factors import moves
from making import Zoo
from pairs import Pair
from recipe import SURROGATES
from results import Results, StoodIn
from words import by_decisions_alone

RETRAINED = ("retrain", "refresh")  # changes that surrogates stand in for
FALSE = 0.02  # share of honest pairs that may be flagged, and of harmful ones that may pass, by what decides


def judge_surrogates(zoo: Zoo, pairs: Sequence[Pair], workers: int) -> dict[str, StoodIn]:
    """How far candidates moved beside each kind of surrogates, and attrail's words with factors of other families."""
    found = {}
    for kind in SURROGATES:
        own = [pair for pair in pairs if pair.source == kind]
        moved = moves(zoo, own, workers)
        found[kind] = StoodIn(moved, judge_by_noise(zoo, moved, own, workers, RETRAINED))
    return found


def decided(results: Results, found: StoodIn) -> set[str]:
    """The changes that surrogates of a kind may decide: few honest versions flagged, few harmful retrains let pass.

    Of a refresh only where of a retrain too, as harmful ones are all retrains. Those whose decisions alone moved do not
    count: these are held to margins, whatever the floor.
    """
    harmful = [each.word for each in found.told if each.pair.harmful and results.learned(each.pair)]
    passed = harmful.count("PASS") / len(harmful) if harmful else 1.0
    by_evidence = [each for each in found.told if not by_decisions_alone(each.reason)]
    if passed > FALSE or flagged(by_evidence, "retrain") > FALSE:
        return set()
    return {change for change in RETRAINED if flagged(by_evidence, change) <= FALSE}


def flagged(found: Sequence[ByNoise], change: str) -> float:
    """Share of honest pairs of a change that are DRIFT, 1 without any."""
    words = [each.word for each in found if each.change == change and not each.pair.harmful]
    return words.count("DRIFT") / len(words) if words else 1.0
