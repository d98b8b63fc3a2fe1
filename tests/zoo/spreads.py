"""Spreads: how much the distances of a champion's retrains scatter, which steadies the bounds of a few models."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from factors import WHOLE, distances
from making import Zoo
from pairs import Pair
from processes import shared_out
from versions import version

from attrail_monitoring.inference.shared_spread import SharedSpread, shared_spread

IMAGES = 256
Family = tuple[str, str]
Spreads = Mapping[str, SharedSpread]  # by statistic


@dataclass(frozen=True)
class Scattered:
    """The distances of a floor's models from their champion, by one explainer and statistic on one slice."""

    family: Family
    statistic: str
    distances: tuple[float, ...]


def scattered(zoo: Zoo, pairs: Sequence[Pair], workers: int) -> list[Scattered]:
    """Those of every floor that the pairs have, each once, on the images that champion and model decide rightly."""
    floors = {(pair.slice, pair.champion, pair.floor): pair for pair in pairs}
    return [each for found in shared_out(partial(_of_floor, zoo), list(floors.values()), workers) for each in found]


def spreads(found: Sequence[Scattered]) -> dict[str, SharedSpread]:
    """The spread that floors share, by statistic (Smyth 2004)."""
    kept = {name: [each.distances for each in found if each.statistic == name] for name in WHOLE}
    known = {name: shared_spread(floors) for name, floors in kept.items()}
    return {name: each for name, each in known.items() if each is not None}


def spreads_without(found: Sequence[Scattered]) -> dict[Family, Spreads]:
    """For each family the spreads of all others, as of a user whose models the zoo has never seen."""
    families = dict.fromkeys(each.family for each in found)
    return {family: spreads([each for each in found if each.family != family]) for family in families}


def text(found: Sequence[Scattered]) -> str:
    """The file that the library reads them from."""
    head = '# Written by `make zoo`; do not edit. See monitoring/ZOO.md, "How much retrains scatter".'
    return "\n\n".join([head, *(_table(name, each, found) for name, each in spreads(found).items())]) + "\n"


def _table(name: str, spread: SharedSpread, found: Sequence[Scattered]) -> str:
    floors = [each for each in found if each.statistic == name]
    numbers = {"log_sd": f"{spread.variance**0.5:.4g}", "freedom": f"{spread.freedom:.4g}"}
    numbers |= {"families": str(len({each.family for each in floors})), "floors": str(len(floors))}
    lines = ["[[spread]]", 'source = "retrains"', f'statistic = "{name}"']
    return "\n".join([*lines, *(f"{key} = {value}" for key, value in numbers.items())])


def _of_floor(zoo: Zoo, pair: Pair) -> list[Scattered]:
    champion, *models = (version(zoo, each, pair.slice, IMAGES) for each in (pair.champion, *pair.floor))
    shared = [each for each in champion.by_subject if all(each in other.by_subject for other in models)]
    found = []
    for name in WHOLE if shared else ():
        rows = [distances(champion, other, shared, name) for other in models]
        columns = [tuple(row[explainer] for row in rows) for explainer in rows[0]]
        found += [Scattered(pair.family, name, column) for column in columns if all(each > 0 for each in column)]
    return found
