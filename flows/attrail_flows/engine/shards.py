"""Shards: where a slice is cut, under which key a shard's result is kept, and how shards become whole again.

A cut depends on the model's size and on the explainers' parameters alone, never on the clock: the same work is cut the
same way on every machine and in every audit, or nothing kept would be found again. No map depends on it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from itertools import pairwise
from pathlib import Path

import attrail_explainers
from attrail_explainers.digest import digest_of, digest_of_arrays
from attrail_explainers.explainer import Explainer, Need, name_of
from attrail_explainers.model.description import ModelDescription
from attrail_explainers.model.task import Target
from attrail_explainers.slice import Slice

FORMAT = "attrail.shard/1"
PACE = 1.4e9  # activations that one core computes in a second, on a network of 0.5 and on one of 20 million per image
BUDGET = 5 * PACE  # activations of one shard at most; half as many at least, as its images are a power of two
MOST = 2048  # images in a shard, however cheap
LOGITS = "logits"
SPENT = ("evaluations", "samples", "steps")  # parameters that say how often an explainer runs the model on one image
USUAL = 2  # runs of the model of an explainer that has none of them

# What a map's bytes depend on beside attrail_explainers' own code, which is a part of every key itself.
PACKAGES = ("torch", "torchvision", "timm", "captum", "shap", "lime", "numpy", "scipy", "scikit-image", "scikit-learn")


@dataclass(frozen=True, eq=False)
class Shard:
    """Rows ``start`` to ``stop`` of a slice and the explainers that are run on them together; without one, logits."""

    whole: Slice
    start: int
    stop: int
    explainers: tuple[Explainer, ...] = ()

    @property
    def rows(self) -> slice:
        return slice(self.start, self.stop)

    @property
    def part(self) -> Slice:
        """The rows as a slice of their own."""
        return self.whole.rows(self.rows, regions=False)

    def __len__(self) -> int:
        return self.stop - self.start


def cut(
    slice_: Slice, explainers: Sequence[Explainer], model: ModelDescription, looks: Sequence[int] = ()
) -> Iterator[Shard]:
    """The shards of a slice, those for the logits first; explainers that cost the same are run together.

    They may share evaluations then. No shard goes across a look, so that what the first look computed serves the next.
    """
    yield from _rows(slice_, (), _affordable(1, model), looks)
    groups: dict[tuple[int, Sequence[int]], list[Explainer]] = {}
    for each in explainers:
        whole = Need.EXAMPLES in each.needs
        group = (len(slice_), ()) if whole else (_affordable(runs(each), model), tuple(looks))
        groups.setdefault(group, []).append(each)
    for (size, ends), members in groups.items():
        yield from _rows(slice_, tuple(members), size, ends)


def runs(explainer: Explainer) -> int:
    """About how often an explainer runs the model on one image."""
    spent = [getattr(explainer, name, 0) for name in SPENT]
    return max(USUAL, *(each for each in spent if isinstance(each, int)))


def seconds(shard: Shard, model: ModelDescription) -> float:
    """About how long one core computes a shard; explainers that are run together are taken to share evaluations."""
    most = max((runs(each) for each in shard.explainers), default=1)
    return len(shard) * most * model.activations / PACE


def keys(shard: Shard, model: ModelDescription, target: Target | None, seed: int) -> dict[str, str]:
    """The key of each of a shard's results: by its explainer's name, or by ``LOGITS``.

    Content alone counts, no name and no address. ``target`` is the shard's; None for what the model itself answers.
    """
    part = shard.part
    base = {
        "format": FORMAT,
        "model": asdict(model),
        "images": digest_of_arrays([("images", part.images)]),
        "sample_ids": part.sample_ids,
        "code": code_digest(),
        "packages": packages(),
    }
    if part.image_ids is not None:
        base["image_ids"] = part.image_ids
    if not shard.explainers:
        return {LOGITS: digest_of(base)}
    drawn = {"seed": seed, "targets": None if target is None else target.identity}
    return {
        name_of(each): digest_of(base | drawn | {"explainer": name_of(each), "parameters": asdict(each)})
        for each in shard.explainers
    }


def _rows(slice_: Slice, explainers: tuple[Explainer, ...], size: int, looks: Sequence[int]) -> Iterator[Shard]:
    starts = slice_.starts.tolist()  # no shard goes across an image, whose rows share evaluations
    ends = [*(each for each in looks if each < slice_.image_count), slice_.image_count]
    for begin, end in pairwise([0, *ends]):
        for start in range(begin, end, size):
            yield Shard(slice_, starts[start], starts[min(start + size, end)], explainers)


def _affordable(runs_: int, model: ModelDescription) -> int:
    """Images in a shard, a power of two."""
    images = int(max(1.0, min(BUDGET / (runs_ * model.activations), MOST)))
    return 1 << images.bit_length() - 1


@cache
def code_digest() -> str:
    """Digest of attrail_explainers' source files: whatever is changed there, nothing computed before counts."""
    folder = Path(attrail_explainers.__file__).parent
    return digest_of({str(path.relative_to(folder)): path.read_text("utf-8") for path in sorted(folder.rglob("*.py"))})


@cache
def packages() -> dict[str, str | None]:
    """The versions of what computes maps."""
    return {name: _version(name) for name in PACKAGES}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
