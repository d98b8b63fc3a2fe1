"""The factors as the file that the library reads them from."""

from collections.abc import Sequence

from by_noise import DECIDING, ByNoise
from factors import Spread, spreads
from results import Results

FALSE = 0.02  # share of honest pairs that may be flagged, with factors of the other families, for noise to decide


def text(results: Results) -> str:
    """Every factor as a table of TOML; ``decides`` where the rates on families left out of them allow it."""
    head = '# Written by `make zoo`; do not edit. See monitoring/ZOO.md, "Two versions and nothing else".'
    deciding = {change for change in DECIDING if _flagged(results.by_noise, change) <= FALSE}
    tables = [_table(*place, seen, place[0] in deciding) for place, seen in spreads(results.moves).items()]
    return "\n\n".join([head, *tables]) + "\n"


def _table(change: str, explainers: str, statistic: str, seen: Spread, decides: bool) -> str:
    named = {"source": "noise", "change": change, "explainers": explainers, "statistic": statistic}
    numbers = {name: getattr(seen, name) for name in ("log_mean", "log_sd", "freedom", "lowest", "highest")}
    counts = {"families": seen.families, "models": seen.models}
    lines = [f'{name} = "{value}"' for name, value in named.items()]
    lines += [f"{name} = {value:.4g}" for name, value in numbers.items()]
    lines += [f"{name} = {value}" for name, value in counts.items()]
    return "\n".join(["[[factor]]", *lines, f"decides = {str(decides).lower()}"])


def _flagged(found: Sequence[ByNoise], change: str) -> float:
    """Share of honest pairs of a change that are DRIFT, 1 without any."""
    words = [each.word for each in found if each.change == change and not each.pair.harmful]
    return words.count("DRIFT") / len(words) if words else 1.0
