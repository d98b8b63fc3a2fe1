"""Which model is judged against which: champion, candidate, and five retrains for the floor that are neither."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from recipe import SURROGATES, Member, random_head
from slices import BASES

from attrail_monitoring.floor.noise_floor import Source

FLOOR = 5
FLOORS = 3  # different floors for every harmful candidate
STEPS = 3  # retrains judged by each champion on the plain slice


@dataclass(frozen=True)
class Pair:
    """One audit. ``group`` names what was done to the candidate, such as "retrain" or "frame"."""

    slice: str
    champion: Member
    candidate: Member
    floor: tuple[Member, ...]

    @property
    def members(self) -> tuple[Member, ...]:
        """All models whose maps the audit needs: champion, candidate, champion with a random head, floor."""
        return self.champion, self.candidate, random_head(self.champion), *self.floor

    @property
    def source(self) -> Source:
        """What the floor's models are."""
        if not self.floor:
            return "noise"
        return next((kind for kind in SURROGATES if kind == self.floor[0].kind), "retrains")

    @property
    def harmful(self) -> bool:
        return self.candidate.kind == "harmful"

    @property
    def group(self) -> str:
        return "retrain" if self.candidate.kind == "retrain" else self.candidate.name

    @property
    def family(self) -> tuple[str, str]:
        return self.champion.family

    @property
    def model(self) -> tuple[str, str, str]:
        """The candidate as a model: pairs with the same one are not independent."""
        return *self.family, self.candidate.recipe.digest

    @property
    def title(self) -> str:
        floor = ", ".join(each.name.removeprefix("retrain ") for each in self.floor)
        names = f"{self.candidate.name} against {self.champion.name} (floor: {floor})"
        return f"{' '.join(self.family)}, slice {self.slice}: {names}"


def pairs(members: Sequence[Member], slices: Sequence[str] = BASES) -> list[Pair]:
    """All audits of one data set and architecture: rotated retrains, benign candidates, harmful candidates.

    Retrains are judged on these ``slices``, others on those that ask for them.
    """
    retrains = [each for each in members if each.kind == "retrain"]
    return [*_rotated(retrains, slices), *_candidates(retrains, members)]


def noise_pairs(members: Sequence[Member]) -> list[Pair]:
    """All pairs of one data set and architecture for which noise is matched; their floor is that noise, no models.

    Candidates that a mark was put on are judged on its slice, unless few images of it carry the mark; honest ones on
    the plain slice and on one with a mark.
    """
    retrains = [each for each in members if each.kind == "retrain"]
    honest = [*retrains[1 : 1 + STEPS], *(each for each in members if each.kind in ("benign", "edit"))]
    harmful = [each for each in members if each.kind == "harmful" and each.where in BASES]
    chosen = [(each, where) for each in honest for where in dict.fromkeys(BENIGN_SLICES)]
    chosen += [(each, each.where) for each in harmful]
    return [Pair(where, retrains[0], each, ()) for each, where in chosen]


def _rotated(retrains: Sequence[Member], slices: Sequence[str]) -> list[Pair]:
    """Every retrain as champion of the plain slice, every other one on the marked slices."""
    count, found = len(retrains), []
    for number, base in enumerate(slices):
        plain = base == "plain"
        for place in range(0, count, 1 if plain else 2):
            for step in range(1, 1 + STEPS) if plain else [1 + number % (count - 1)]:
                candidate = retrains[(place + step) % count]
                found.append(_pair(base, retrains[place], candidate, retrains, seed=count * place + step))
    return found


def _candidates(retrains: Sequence[Member], members: Sequence[Member]) -> list[Pair]:
    found = []
    for member in members:
        if member.kind == "benign":
            found += [_pair(base, retrains[0], member, retrains, seed) for seed, base in enumerate(BENIGN_SLICES)]
        elif member.kind == "harmful":
            found += [_pair(member.where, retrains[0], member, retrains, seed) for seed in range(FLOORS)]
    return found


BENIGN_SLICES = ("plain", "plain", "corner")


def _pair(slice_: str, champion: Member, candidate: Member, retrains: Sequence[Member], seed: int) -> Pair:
    others = [each for each in retrains if each not in (champion, candidate)]
    chosen = np.random.default_rng(seed).permutation(len(others))[:FLOOR]
    floor = tuple(others[place] for place in sorted(chosen))
    return Pair(slice_, champion, candidate, floor)
