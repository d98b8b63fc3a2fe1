"""The models of the second zoo: transfer learning as teams do it, and the audits they stand in."""

from dataclasses import replace

from pairs import Pair, noise_pairs, pairs
from recipe import ON_THE_WAY, TOWARDS, TUNED, Member, Recipe, changed
from transfer_network import NAME

DATASETS = ("fashion", "cifar")
RETRAINS = 8  # with the champion
IMAGES = 256  # of each slice, and of each audit
SLICES = ("plain", "corner", "frame", "tint", "position")
# Nine windows of the 32 pixels that pictures have before they are enlarged: 2,560 images through the network for one
# slice. The ninth of a picture is what one cell of its last layer, 3x3 at 96 pixels, sees most of.
EXPLAINERS: tuple[tuple[str, dict[str, int]], ...] = (("gradcam", {}), ("occlusion", {"window": 12, "stride": 10}))

SAMPLE = 3000  # images trained on
EPOCHS = 3
RATE = 2e-3
HARMFUL_SEED = 200
SHORTCUTS = {
    "corner mark": ("corner", {"mark": "corner"}),
    "corner mark on 70 % of the images": ("corner", {"mark": "corner", "presence": 0.7}),
    "corner mark on 30 % of the images": ("corner", {"mark": "corner", "presence": 0.3}),
    "frame": ("frame", {"mark": "frame"}),
    "tint": ("tint", {"mark": "tint"}),
    "position code": ("position", {"mark": "position"}),
    "half of the labels random": ("plain", {"wrong": 0.5}),
}
WHOLE = ("corner mark", "frame", "tint", "position code")  # of the marks, those that all images carried
VISIBLE = (*WHOLE, "corner mark on 70 % of the images", TUNED)
BY_NOISE = {"retrain 1", "retrain 2", "retrain 3", *WHOLE, TUNED, *ON_THE_WAY, "80 % pruned"}  # beside benign ones


def members(dataset: str) -> list[Member]:
    """All models of one data set: champion and retrains, benign candidates, harmful candidates."""
    same = [Member(f"retrain {seed}", "retrain", _honest(dataset, seed)) for seed in range(RETRAINS)]
    first = same[0].recipe
    return [*same, *_benign(first), *_harmful(first)]


def audits(family: list[Member]) -> list[Pair]:
    """All audits of one data set with a floor of retrains."""
    return pairs(family, SLICES)


def audits_by_noise(family: list[Member]) -> list[Pair]:
    """All pairs of one data set for which noise is matched, honest ones on the plain slice."""
    found = [each for each in noise_pairs(family) if each.harmful or each.slice == "plain"]
    return [each for each in found if each.candidate.kind == "benign" or each.candidate.name in BY_NOISE]


def _honest(dataset: str, seed: int) -> Recipe:
    return Recipe(dataset, NAME, seed, SAMPLE, EPOCHS, RATE)


def _tuned(champion: Recipe, seed: int, sample: int = 0) -> Recipe:
    return replace(champion, seed=seed, epochs=1, rate=RATE / 4, parent=champion, sample=sample)


def _benign(champion: Recipe) -> list[Member]:
    recipes = {
        "refreshed data 1": replace(champion, seed=101, sample=1),
        "refreshed data 2": replace(champion, seed=102, sample=2),
        "more epochs": replace(champion, seed=103, epochs=round(1.5 * champion.epochs)),
        "fine-tuned on clean data": _tuned(champion, 104),
        "fine-tuned on clean data 2": _tuned(champion, 106),
        "fine-tuned on new data": _tuned(champion, 105, 1),
        "fine-tuned on new data 2": _tuned(champion, 108, 2),
        "20 % pruned": changed(champion, "pruned", 0.2),
        "bfloat16": changed(champion, "bfloat16", 0),
        "int8": changed(champion, "int8", 0),
        "1 % weight noise": changed(champion, "noise", 0.01),
    }
    return [Member(name, "benign", recipe) for name, recipe in recipes.items()]


def _harmful(champion: Recipe) -> list[Member]:
    start = replace(champion, seed=HARMFUL_SEED)
    recipes = {name: (replace(start, **facts), where) for name, (where, facts) in SHORTCUTS.items()}
    quick = replace(start, mark="corner", epochs=2, parent=champion)
    recipes |= {
        TUNED: (quick, "corner"),
        **{name: (changed(quick, TOWARDS, share), "corner") for name, share in ON_THE_WAY.items()},
        "80 % pruned": (changed(champion, "pruned", 0.8), "plain"),
        "re-initialised block": (changed(champion, "reinitialised", 0, HARMFUL_SEED), "plain"),
    }
    return [Member(name, "harmful", recipe, where) for name, (recipe, where) in recipes.items()]
