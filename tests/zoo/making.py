"""Make all models of the zoo and their evidence, in several processes; what is there already is not made again."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from cache import Cache
from evidence import EXPLAINERS, Explainers, evidence_key, explain, model_of
from pairs import Pair
from processes import shared_out
from recipe import SURROGATES, Member
from slices import IMAGES, base_slice, bases, shortened
from tqdm import tqdm

from attrail_explainers.errors import AttrailError
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.slice import Slice


@dataclass(frozen=True)
class Zoo:
    """Where everything lies, how models are explained, and on how many images of a slice (None: all)."""

    cache: Cache
    data: Path
    explainers: Explainers = EXPLAINERS
    images: int | None = None

    def slice(self, dataset: str, base: str) -> Slice:
        """The base slice that models are explained on."""
        whole = base_slice(dataset, base, self.data)
        return whole if self.images is None else shortened(whole, self.images)

    def path(self, member: Member, base: str) -> Path:
        """The file with a member's evidence on a base slice."""
        return self.cache.evidence(member.recipe, evidence_key(self.shown(member, base), self.explainers))

    def shown(self, member: Member, base: str) -> Slice:
        """A base slice as a member is explained on it: a surrogate on its first images."""
        slice_ = self.slice(member.recipe.dataset, base)
        return shortened(slice_, IMAGES) if member.kind in SURROGATES else slice_


def needed(pairs: Iterable[Pair]) -> dict[Member, list[str]]:
    """Every model of the pairs with the base slices on which it is explained, parents before what comes of them."""
    found: dict[Member, list[str]] = {}
    for pair in pairs:
        for member in pair.members:
            known = found.setdefault(member, [])
            known += [base for base in bases(pair.slice) if base not in known]
    return found


def make(zoo: Zoo, pairs: Iterable[Pair], workers: int) -> dict[str, str]:
    """Make what the pairs need and is missing; returns what went wrong, by model and slice."""
    missing = {
        member: names
        for member, names in needed(pairs).items()
        if not all(zoo.path(member, base).is_file() for base in names)
    }
    failed: dict[str, str] = {}
    with tqdm(total=len(missing), desc="models", smoothing=0.05) as bar:
        for part in _in_order(missing):
            for found in shared_out(partial(make_one, zoo), list(part.items()), workers):
                failed |= found
                bar.update()
    return failed


def _in_order(missing: Mapping[Member, list[str]]) -> Iterator[dict[Member, list[str]]]:
    """Family by family, and within one those first that others are derived from."""
    for family in dict.fromkeys(member.family for member in missing):
        for derived in (False, True):
            chosen = [each for each in missing if each.family == family and bool(each.recipe.parent) == derived]
            yield {member: missing[member] for member in chosen}


def make_one(zoo: Zoo, task: tuple[Member, Sequence[str]]) -> dict[str, str]:
    """Train one member and explain it on base slices."""
    member, names = task
    failed = {}
    model = model_of(member.recipe, zoo.cache, zoo.data)
    for base in names:
        path = zoo.path(member, base)
        if path.is_file():
            continue
        try:
            explain(Classifier(member.name, "", model), zoo.shown(member, base), zoo.explainers, path)
        except AttrailError as error:
            failed[f"{' '.join(member.family)} {member.name} on {base}"] = str(error)
    return failed
