"""Surrogates: models that are cheaper than retrains, as a floor in their place, and the pairs they are judged on."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from pairs import Pair
from recipe import RARE, Member, Recipe, changed
from slices import bases

COUNT = 5
SLICES = ("plain", "corner")
LATE = (0.75, 0.8, 0.85, 0.9, 0.95)  # of the champion's own training
FIRST = 300  # seed of the first surrogate of each kind
RAISED = 0.1  # share by which dropout may raise the loss: retrains' losses differ by 6 to 7 %, their SD
NARROW = 0.5  # of the champion's channels


def surrogates(champion: Recipe) -> list[Member]:
    """Five models of each kind; a member's kind is what a floor of such models is called."""
    return [
        Member(f"{kind} {number}", kind, recipe)
        for kind, recipes in _recipes(champion).items()
        for number, recipe in enumerate(recipes, start=1)
    ]


def _recipes(champion: Recipe) -> Mapping[str, list[Recipe]]:
    seeds = range(FIRST, FIRST + COUNT)
    refit = replace(champion, parent=champion, change="refitted", epochs=max(1, champion.epochs // 2))
    return {
        "late-checkpoints": [replace(champion, until=share) for share in LATE],
        "last-block-refits": [replace(refit, seed=seed) for seed in seeds],
        "dropout": [changed(champion, "dropped", RAISED, seed) for seed in seeds],
        "narrow-retrains": [replace(champion, seed=seed, width=NARROW) for seed in seeds],
    }


def surrogate_pairs(members: Sequence[Member]) -> list[Pair]:
    """Retrains and refreshes of one family, honest and harmful, with a floor of each kind of surrogates.

    Honest ones on the plain slice and on one with a mark, harmful ones where their mark stands on the latter.
    """
    champion, *honest = [each for each in members if each.kind == "retrain"]
    retrained = [each for each in members if each.kind in ("benign", "harmful") and each.recipe.parent is None]
    honest += [each for each in retrained if each.kind == "benign"]
    marked = [each for each in retrained if each.kind == "harmful" and each.name not in RARE]
    chosen = [(each, where) for each in honest for where in SLICES]
    chosen += [(each, each.where) for each in marked if set(bases(each.where)) <= set(SLICES)]
    return [Pair(where, champion, each, floor) for floor in _floors(champion) for each, where in chosen]


def _floors(champion: Member) -> list[tuple[Member, ...]]:
    kinds: dict[str, list[Member]] = {}
    for each in surrogates(champion.recipe):
        kinds.setdefault(each.kind, []).append(each)
    return [tuple(each) for each in kinds.values()]
