"""All that a run of the zoo found."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from by_noise import ByNoise
from factors import Move
from judging import Judged
from looks import Looked
from pairs import Pair
from recipe import VISIBLE
from reliance import LEARNED
from spreads import Scattered
from sub_population import Found


@dataclass(frozen=True)
class StoodIn:
    """How far candidates moved beside surrogates of one kind, and what attrail says with such a floor."""

    moves: Sequence[Move]
    told: Sequence[ByNoise]


@dataclass(frozen=True)
class Results:
    """``reliance`` per candidate's recipe digest, None where its data carried no mark; ``failed`` by model.

    ``shortcuts`` are the candidates that count as visible shortcuts, ``surrogates`` are by their kind.
    """

    judged: Sequence[Judged]
    found: Sequence[Found]
    reliance: dict[str, float | None]
    models: int
    seconds: float
    moves: Sequence[Move] = ()
    by_noise: Sequence[ByNoise] = ()
    looked: Sequence[Looked] = ()
    failed: dict[str, str] = field(default_factory=dict)
    shortcuts: Sequence[str] = tuple(VISIBLE)
    surrogates: Mapping[str, StoodIn] = field(default_factory=dict)
    scattered: Sequence[Scattered] = ()

    @property
    def sizes(self) -> list[int]:
        """The numbers of images that pairs were judged with, smallest first."""
        return sorted({each.images for each in self.judged})

    def benign(self, images: int, group: str = "") -> list[Judged]:
        return [each for each in self._of(images) if not each.pair.harmful and group in ("", each.pair.group)]

    def harmful(self, images: int, group: str = "") -> list[Judged]:
        return [each for each in self._of(images) if each.pair.harmful and group in ("", each.pair.group)]

    def visible(self, images: int, learned: bool = False) -> list[Judged]:
        """Pairs of the planted visible shortcuts; with ``learned`` those whose candidate relies on its mark."""
        found = [each for each in self.harmful(images) if each.pair.group in self.shortcuts]
        return [each for each in found if self.learned(each.pair)] if learned else found

    def learned(self, pair: Pair) -> bool:
        """Whether the candidate relies on its mark; damage other than marks counts as done."""
        reliance = self.reliance[pair.candidate.recipe.digest]
        return reliance is None or reliance >= LEARNED

    def groups(self, harmful: bool) -> list[str]:
        return list(dict.fromkeys(each.pair.group for each in self.judged if each.pair.harmful == harmful))

    @property
    def families(self) -> list[tuple[str, str]]:
        return list(dict.fromkeys(each.pair.family for each in self.judged))

    def _of(self, images: int) -> list[Judged]:
        return [each for each in self.judged if each.images == images]
