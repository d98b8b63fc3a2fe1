"""Looks: what is gained and lost when an audit stops at the first number of images that decides.

The held-out pictures lie in a random order, so that the first of them are what an audit sees that draws its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import e, log
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from cache import write_json
from detectors import Audit
from judging import Known, code_of, code_with, judgement_path
from making import Zoo
from pairs import Pair
from processes import shared_out
from scipy.stats import norm
from spreads import Spreads
from tqdm import tqdm
from versions import version

from attrail_explainers.errors import AttrailError
from attrail_monitoring.comparison import displace, judge
from attrail_monitoring.verdict.decision_measurement import measure_decisions
from attrail_monitoring.verdict.measurement import measure
from attrail_monitoring.verdict.policy import Policy

LOOKS = (64, 128, 256)
ALPHA = Policy().alpha


def _increments(spent: Sequence[float]) -> tuple[float, ...]:
    return tuple(np.diff([0.0, *spent]).tolist())


class Spending(NamedTuple):
    """The level of each look, 0 where none is taken, and the fewest images on which PASS may be said."""

    levels: tuple[float, ...]
    fewest: int = LOOKS[0]


SHARES = [images / LOOKS[-1] for images in LOOKS]
# Lan & DeMets, Biometrika 1983: how much of alpha is spent by the time a share of the images has been seen.
POCOCK = _increments([ALPHA * log(1 + (e - 1) * share) for share in SHARES])
SPENDINGS: Mapping[str, Spending] = {
    "all at the last look": Spending((*(0.0 for _ in LOOKS[1:]), ALPHA)),
    "like O'Brien & Fleming": Spending(
        _increments([2 * norm.sf(norm.isf(ALPHA / 2) / share**0.5) for share in SHARES])
    ),
    "like Pocock": Spending(POCOCK),
    f"like Pocock, PASS from {LOOKS[1]} images on": Spending(POCOCK, LOOKS[1]),
    "all at every look": Spending(tuple(ALPHA for _ in LOOKS)),
}


@dataclass(frozen=True)
class Looked:
    """A pair with the word that is said under each spending, and after how many images."""

    pair: Pair
    words: dict[str, tuple[str, int]]


def look_all(zoo: Zoo, pairs: Sequence[Pair], workers: int, known: Known = MappingProxyType({})) -> list[Looked]:
    """Every pair under every spending; ``known`` are the spreads that other families than its own show."""
    one = partial(look, zoo, code_of("attrail"), dict(known))
    return list(tqdm(shared_out(one, pairs, workers), total=len(pairs), desc="looks", smoothing=0.05))


def look(zoo: Zoo, code: str, known: Known, pair: Pair) -> Looked:
    """One pair; its verdicts are kept until the library's code changes."""
    words = {images: _words(zoo, code, known.get(pair.family), pair, images) for images in LOOKS}
    return Looked(pair, {name: _stopped(words, spending) for name, spending in SPENDINGS.items()})


def _stopped(words: Mapping[int, Mapping[str, str]], spending: Spending) -> tuple[str, int]:
    """The first word that decides and the images it took; the last look's when none does."""
    told = []
    for images, level in zip(LOOKS, spending.levels, strict=True):
        if level:
            word = _word(words[images], level)
            told.append(("INCONCLUSIVE" if word == "PASS" and images < spending.fewest else word, images))
    return next((each for each in told if each[0] in ("PASS", "DRIFT")), told[-1])


def _word(words: Mapping[str, str], level: float) -> str:
    """DRIFT at the look's own level, PASS within the limits of all of alpha: less of it would make them wider."""
    if words[_key(level)] == "DRIFT":
        return "DRIFT"
    return "PASS" if words[_key(ALPHA)] == "PASS" else "INCONCLUSIVE"


def _key(level: float) -> str:
    return f"{level:.6f}"


def _words(zoo: Zoo, code: str, spreads: Spreads | None, pair: Pair, images: int) -> dict[str, str]:
    """The verdict at each level of alpha that some spending asks for here."""
    code = code_with(code, spreads)
    path = judgement_path(zoo, pair, images).with_suffix(".looks.json")
    kept = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if kept.get("code") != code:
        levels = {each.levels[LOOKS.index(images)] for each in SPENDINGS.values()} - {0.0}
        kept = {"code": code, "words": _judged(zoo, spreads, pair, images, sorted(levels))}
        write_json(path, kept)
    words: dict[str, str] = kept["words"]
    return words


def _judged(zoo: Zoo, spreads: Spreads | None, pair: Pair, images: int, levels: Sequence[float]) -> dict[str, str]:
    reference, candidate, head, *floor = (version(zoo, member, pair.slice, images) for member in pair.members)
    audit, policy = Audit(reference, candidate, head, tuple(floor), spreads=spreads), Policy()
    try:
        measurements = measure(reference, candidate, audit.calibration, policy.settings)
        moved = displace(reference, candidate, audit.calibration, policy.settings)
        decided = measure_decisions(reference, candidate, audit.calibration, policy.settings)
    except AttrailError as error:  # what an audit would stop with decides nothing
        return dict.fromkeys(map(_key, levels), f"error: {error}")
    instruments = audit.calibration.instruments
    policies = {_key(level): replace(policy, alpha=level) for level in levels}
    return {
        level: str(judge(measurements, each, instruments, moved, decisions=decided).verdict)
        for level, each in policies.items()
    }
