"""Matched noise: the champion with random changes of its weights that move its answers as much as a candidate does."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from evidence import GRID, VERSION, Evidence, explain, model_of, read_evidence
from making import Zoo
from pairs import Pair
from processes import shared_out
from slices import IMAGES, base_slice, shortened
from tqdm import tqdm

from attrail_explainers.digest import digest_of
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.divergence import mean_divergence
from attrail_explainers.model.weight_noise import match_noise, noised

DRAWS = 5


def draw_all(zoo: Zoo, pairs: Sequence[Pair], workers: int) -> None:
    """Make and explain the draws of every pair that are missing; champions and candidates must have been explained."""
    missing = [pair for pair in pairs if not all(path.is_file() for path in paths(zoo, pair))]
    list(tqdm(shared_out(partial(draw, zoo), missing, workers), total=len(missing), desc="noise", smoothing=0.05))


def drawn(zoo: Zoo, pair: Pair) -> list[Evidence]:
    """What each draw of a pair shows on the first images of its slice."""
    return [read_evidence(path) for path in paths(zoo, pair)]


def draw(zoo: Zoo, pair: Pair) -> None:
    """Match the noise of one pair and explain it; what there is already is not made again."""
    slice_ = shortened(base_slice(pair.champion.recipe.dataset, pair.slice, zoo.data), IMAGES)
    logits = [read_evidence(zoo.path(each, pair.slice)).logits[:IMAGES] for each in (pair.champion, pair.candidate)]
    wanted = mean_divergence(*logits)
    classifier = Classifier(pair.champion.name, "", model_of(pair.champion.recipe, zoo.cache, zoo.data))
    for number, path in enumerate(paths(zoo, pair)):
        if not path.is_file():
            match = match_noise(classifier, slice_.images, slice_.sample_ids, wanted, number, seed=0)
            model = noised(classifier, classifier.working_copy(slice_.images), match.noise)
            reached = {"wanted": wanted, "reached": match.divergence, "churn": match.churn, "sigma": match.noise.sigma}
            explain(model, slice_, zoo.explainers, path, {name: str(value) for name, value in reached.items()})


def paths(zoo: Zoo, pair: Pair) -> list[Path]:
    """The files of a pair's draws, in the candidate's folder."""
    slice_ = base_slice(pair.champion.recipe.dataset, pair.slice, zoo.data)
    made_of = {"champion": pair.champion.recipe.digest, "slice": slice_.digest, "images": IMAGES, "grid": GRID}
    made_of |= {"explainers": zoo.explainers, "version": VERSION}
    keys = [digest_of({**made_of, "draw": number}) for number in range(DRAWS)]
    return [zoo.cache.evidence(pair.candidate.recipe, key) for key in keys]
