"""Counterfactual patch: the superpixels without which the model decides otherwise."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.game_method import GameMethod
from attrail_explainers.superpixels.games import (
    Answers,
    Rows,
    Strategy,
    play,
    superpixel_diagnostics,
)

TOGETHER = 32  # pairs tried at once: fixed, so that the patch does not depend on the machine


@dataclass(frozen=True)
class Counterfactual(GameMethod):
    """A smallest set of superpixels whose removal flips the decision (SEDC; Vermeire et al., Pattern Anal. Appl. 2022).

    Each superpixel alone is tried first, then superpixels are removed greedily, the largest drop of the target's log
    odds first, and put back where the flip does not need them, until none can be spared. If more than two are left,
    pairs are tried with what is left of the ``evaluations``, which count every call for an image. The map is 1 on the
    patch and 0 elsewhere. Undefined when the model does not choose the target, when no set is
    found that flips its decision, or when the evaluations ran out before one was settled.

    Diagnostics: ``patch_superpixels`` and ``patch_share`` (of the area, 0..1), ``flips_to`` (the class chosen without
    the patch) and ``smallest``, 1 where it is proven that no smaller set of superpixels flips the decision.
    """

    evaluations: int = 600

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FORWARD})
    traits: ClassVar[frozenset[Trait]] = frozenset({Trait.UNSIGNED})

    def attribute(self, subject: Subject) -> Maps:
        if not subject.target.task.decides:
            raise UnsupportedModelError(
                f"counterfactual seeks what makes model {subject.model.label} decide otherwise, and its task has no "
                "classes: use shap or occlusion"
            )
        games, classes = self.games(subject), subject.target.classes.tolist()
        patches = play(
            subject,
            games,
            [flip(game.players, own, self.evaluations) for game, own in zip(games, classes, strict=True)],
        )
        values = np.full((len(games), *subject.images.shape[2:]), np.nan, dtype=np.float32)
        undefined = {row: patch for row, patch in enumerate(patches) if isinstance(patch, str)}
        for row, (game, patch) in enumerate(zip(games, patches, strict=True)):
            if isinstance(patch, Patch):
                values[row] = patch.members[game.segments]
        return Maps(values, undefined, _diagnostics(patches, values) | superpixel_diagnostics(games))


@dataclass(frozen=True, eq=False)
class Patch:
    """Superpixels ``members`` (S,) whose removal makes the model choose ``flips_to``; ``smallest`` where proven."""

    members: NDArray[np.bool_]
    flips_to: int
    smallest: bool = False

    @property
    def size(self) -> int:
        """Return the number of superpixels in the patch."""
        return int(self.members.sum())


class SpentError(Exception):
    """The evaluations ran out."""


def flip(players: int, target: int, evaluations: int) -> Strategy[Patch | str]:
    """The smallest flipping set of superpixels that is found, or why there is none."""
    if players < 2:
        return "fewer than two superpixels"
    try:
        return (yield from Search(players, target, evaluations).run())
    except SpentError:
        return f"{evaluations} evaluations ran out before a set of superpixels that flips the decision was settled"


class Search:
    """One search for a flipping set; ``left`` evaluations can still be asked for, and SpentError says when too few."""

    def __init__(self, players: int, target: int, evaluations: int) -> None:
        self.singles = np.eye(players, dtype=np.bool_)
        self.target = target
        self.left = evaluations

    def run(self) -> Strategy[Patch | str]:
        """Return the patch that is found, or why there is none."""
        whole = yield from self.ask(np.zeros_like(self.singles[:1]))
        if whole.chosen[0] != self.target:
            return "the model does not choose the target"
        alone = yield from self.ask(self.singles)
        patch = self.flipped(self.singles, alone) or (yield from self.grown(alone))
        if patch is None:
            return "no set of superpixels was found whose removal flips the decision"
        patch = yield from self.shrunk(patch)
        return patch if patch.size <= 2 else (yield from self.pair(patch, alone))

    def ask(self, removed: Rows) -> Strategy[Answers]:
        """The model's answers without the superpixels of each row (M,S)."""
        if len(removed) > self.left:
            raise SpentError
        self.left -= len(removed)
        return (yield ~removed)

    def flipped(self, removed: Rows, answers: Answers) -> Patch | None:
        """Of the rows that flip the decision the one with the lowest log odds; proven smallest below three members."""
        log_odds = np.where(answers.chosen == self.target, np.inf, answers.log_odds)
        best = int(log_odds.argmin())
        members = removed[best]
        found = Patch(members, int(answers.chosen[best]), smallest=bool(members.sum() < 3))
        return found if np.isfinite(log_odds[best]) else None

    def grown(self, alone: Answers) -> Strategy[Patch | None]:
        """The largest drop first, one more superpixel at a time, until the decision flips or nothing is left."""
        removed = self.singles[alone.log_odds.argmin()]
        while not removed.all():
            tried = removed | self.singles[~removed]
            answers = yield from self.ask(tried)
            if patch := self.flipped(tried, answers):
                return patch
            removed = tried[answers.log_odds.argmin()]
        return None

    def shrunk(self, patch: Patch) -> Strategy[Patch]:
        """A patch of which no member can be put back; none of two can, where no superpixel flips alone."""
        while patch.size > 2:
            tried = patch.members & ~self.singles[patch.members]
            smaller = self.flipped(tried, (yield from self.ask(tried)))
            if smaller is None:
                break
            patch = smaller
        return patch

    def pair(self, patch: Patch, alone: Answers) -> Strategy[Patch]:
        """A flipping pair if there is one, the largest drops tried first; else the patch."""
        pairs = list(combinations(range(len(self.singles)), 2))
        pairs.sort(key=lambda pair: alone.log_odds[list(pair)].sum())
        for start in range(0, len(pairs), TOGETHER):
            tried = np.array([self.singles[list(pair)].any(axis=0) for pair in pairs[start : start + TOGETHER]])
            if len(tried) > self.left:
                return patch
            if found := self.flipped(tried, (yield from self.ask(tried))):
                return found
        return replace(patch, smallest=patch.size == 3)


def _diagnostics(patches: Sequence[Patch | str], values: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    names = ("patch_superpixels", "patch_share", "flips_to", "smallest")
    found = {name: np.full(len(patches), np.nan) for name in names}
    for row, patch in enumerate(patches):
        if isinstance(patch, Patch):
            numbers = (patch.size, values[row].mean(dtype=np.float64), patch.flips_to, patch.smallest)
            for name, number in zip(names, numbers, strict=True):
                found[name][row] = number
    return found


METHOD = Counterfactual
