"""Recipes: how each model of the zoo comes about, from the seed to what was done to it afterwards."""

from dataclasses import dataclass, fields, replace
from typing import Any

from attrail_explainers.digest import digest_of

VERSION = 1  # of the code that follows a recipe: a model made by another version is made again
SAMPLES = {"digits": 1285, "fashion": 3000, "cifar": 10000}  # images trained on
EPOCHS = {"digits": 12, "fashion": 7, "cifar": 6}
RATES = {"cnn": 3e-3, "vit": 2e-3}


@dataclass(frozen=True)
class Recipe:
    """One model of the zoo.

    Trained on ``sample`` of the pool (0: its own, others: bootstrap samples) for ``epochs`` at the peak learning rate
    ``rate``. ``mark`` is put on the share ``presence`` of the training images (on class ``only`` alone unless that is
    -1); its code is the class with probability ``reliability``, else random. All other images carry honest marks.
    ``wrong`` is the share of labels drawn at random. A ``parent`` is trained on, or has its weights changed by
    ``change`` with ``amount``. Training stopped after the share ``until`` of its steps; ``width`` multiplies the
    network's channels.
    """

    dataset: str
    network: str
    seed: int
    images: int
    epochs: int
    rate: float
    sample: int = 0
    mark: str = "plain"
    presence: float = 1.0
    reliability: float = 1.0
    only: int = -1
    wrong: float = 0.0
    parent: "Recipe | None" = None
    change: str = ""
    amount: float = 0.0
    until: float = 1.0
    width: float = 1.0

    @property
    def digest(self) -> str:
        """Of the fields that are not at their default: one that is added later leaves the digests as they are."""
        facts = {each.name: getattr(self, each.name) for each in fields(self)}
        told = {each.name: facts[each.name] for each in fields(self) if facts[each.name] != each.default}
        parent = self.parent.digest if self.parent else None
        return digest_of(told | {"parent": parent, "version": VERSION})

    @property
    def ancestors(self) -> "tuple[Recipe, ...]":
        """The parent, the parent's parent and so on."""
        return () if self.parent is None else (self.parent, *self.parent.ancestors)


@dataclass(frozen=True)
class Member:
    """A model under a name: a ``retrain`` of the champion's own recipe, a ``benign`` or a ``harmful`` candidate,
    an ``edit``, which is benign and judged by matched noise alone, an ``instrument`` that judges explainers, or a
    surrogate of a retrain, whose kind is one of SURROGATES.

    A harmful one is judged on the slice named ``where``, the others on several.
    """

    name: str
    kind: str
    recipe: Recipe
    where: str = "plain"

    @property
    def family(self) -> tuple[str, str]:
        """Data set and architecture."""
        return self.recipe.dataset, self.recipe.network


SURROGATES = ("late-checkpoints", "last-block-refits", "dropout", "narrow-retrains")
FIRST = 200  # seed of the first harmful candidate of each kind
ONLY = 0  # the class that alone carries a mark
RARE = {f"rare mark {share:.0%}".replace("%", " %"): share for share in (0.01, 0.02, 0.05, 0.2, 0.5)}
SHORTCUTS: dict[str, tuple[str, dict[str, Any]]] = {
    "corner mark": ("corner", {"mark": "corner"}),
    "corner mark 90 %": ("corner", {"mark": "corner", "reliability": 0.9}),
    "corner mark 70 %": ("corner", {"mark": "corner", "reliability": 0.7}),
    "frame": ("frame", {"mark": "frame"}),
    "tint": ("tint", {"mark": "tint"}),
    "position code": ("position", {"mark": "position"}),
    "mark at random positions": ("anywhere", {"mark": "anywhere"}),
    "mark on one class": ("corner on one class", {"mark": "corner", "only": ONLY}),
    "background blur": ("blur", {"mark": "blur"}),
    "faint background blur": ("faint_blur", {"mark": "faint_blur"}),
    "half of the labels random": ("plain", {"wrong": 0.5}),
    **{name: (name, {"mark": "corner", "presence": share}) for name, share in RARE.items()},
}

ALWAYS = "corner mark"
RARITY = {**RARE, ALWAYS: 1.0}  # the failure curve's candidates, with the share of images that carry the mark
BLURS = {"faint background blur": 1.0, "background blur": 3.0}  # with the strongest blur's deviation in pixels
TUNED = "fine-tuned onto the mark"
TOWARDS = "towards"  # the change of a model that lies between its parent and the parent's parent
ON_THE_WAY = {f"{TUNED}, {share:.0%} of the way".replace("%", " %"): share for share in (0.3, 0.5)}
VISIBLE = [name for name in SHORTCUTS if "mark" in name and name not in RARE]
VISIBLE += ["frame", "tint", "position code", TUNED]


def honest(dataset: str, network: str, seed: int) -> Recipe:
    """The champion's recipe."""
    return Recipe(dataset, network, seed, SAMPLES[dataset], EPOCHS[dataset], RATES[network])


def members(dataset: str, network: str, retrains: int, seeds: int) -> list[Member]:
    """All models of one data set and architecture: champion and retrains, benign candidates, harmful candidates."""
    same = [Member(f"retrain {seed}", "retrain", honest(dataset, network, seed)) for seed in range(retrains)]
    first = same[0].recipe
    return [*same, *_benign(first), *_edits(first), *_harmful(first, seeds)]


def _tuned(champion: Recipe, seed: int) -> Recipe:
    return replace(champion, seed=seed, epochs=1, rate=5e-4, parent=champion)


def _edits(champion: Recipe) -> list[Member]:
    recipes = {
        "fine-tuned on clean data 2": _tuned(champion, 106),
        "fine-tuned on clean data 3": _tuned(champion, 107),
        "fine-tuned on new data 2": replace(_tuned(champion, 108), sample=2),
        "fine-tuned on new data 3": replace(_tuned(champion, 109), sample=3),
        "10 % pruned": changed(champion, "pruned", 0.1),
        "int6": changed(champion, "int6", 0),
        "3 % weight noise": changed(champion, "noise", 0.03),
    }
    return [Member(name, "edit", recipe) for name, recipe in recipes.items()]


def _benign(champion: Recipe) -> list[Member]:
    recipes = {
        "refreshed data 1": replace(champion, seed=101, sample=1),
        "refreshed data 2": replace(champion, seed=102, sample=2),
        "more epochs": replace(champion, seed=103, epochs=round(1.5 * champion.epochs)),
        "fine-tuned on clean data": _tuned(champion, 104),
        "fine-tuned on new data": replace(_tuned(champion, 105), sample=1),
        "20 % pruned": changed(champion, "pruned", 0.2),
        "bfloat16": changed(champion, "bfloat16", 0),
        "int8": changed(champion, "int8", 0),
        "1 % weight noise": changed(champion, "noise", 0.01),
    }
    return [Member(name, "benign", recipe) for name, recipe in recipes.items()]


def _harmful(champion: Recipe, seeds: int) -> list[Member]:
    found = []
    for seed in range(FIRST, FIRST + seeds):
        start = replace(champion, seed=seed)
        recipes = {name: (replace(start, **facts), where) for name, (where, facts) in SHORTCUTS.items()}
        quick = replace(start, mark="corner", epochs=3, rate=2e-3, parent=champion)
        recipes |= {
            TUNED: (quick, "corner"),
            **{name: (changed(quick, TOWARDS, share), "corner") for name, share in ON_THE_WAY.items()},
            "re-initialised block": (changed(champion, "reinitialised", 0, seed), "plain"),
        }
        if seed == FIRST:  # nothing is drawn in it
            recipes["50 % pruned"] = (changed(champion, "pruned", 0.5), "plain")
            recipes["80 % pruned"] = (changed(champion, "pruned", 0.8), "plain")
            recipes["int4"] = (changed(champion, "int4", 0), "plain")
        found += [Member(name, "harmful", recipe, where) for name, (recipe, where) in recipes.items()]
    return found


def random_head(champion: Member) -> Member:
    """A champion that forgot the classes: what an explainer must notice before it may judge."""
    return Member(f"{champion.name}, random head", "instrument", changed(champion.recipe, "random head", 0))


def changed(parent: Recipe, change: str, amount: float, seed: int = 0) -> Recipe:
    """A model made of another one's weights without training."""
    return replace(parent, seed=seed, epochs=0, parent=parent, change=change, amount=amount)
