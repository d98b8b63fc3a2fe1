"""The factors as the file that the library reads them from."""

from collections.abc import Collection, Sequence

from by_noise import DECIDING
from factors import Move, Place, Spread, spreads
from results import Results
from surrogate_floors import FALSE, decided, flagged


def text(results: Results) -> str:
    """Every factor as a table of TOML; ``decides`` where the rates on families left out of them allow it."""
    head = '# Written by `make zoo`; do not edit. See monitoring/ZOO.md: "Two versions and nothing else", "Surrogates".'
    deciding = {change for change in DECIDING if flagged(results.by_noise, change) <= FALSE}
    tables = _tables("noise", results.moves, deciding)
    for source, found in results.surrogates.items():
        tables += _tables(source, found.moves, decided(results, found))
    return "\n\n".join([head, *tables]) + "\n"


def _tables(source: str, moves: Sequence[Move], deciding: Collection[str]) -> list[str]:
    return [_table(source, place, seen, place[0] in deciding) for place, seen in spreads(moves).items()]


def _table(source: str, place: Place, seen: Spread, decides: bool) -> str:
    change, explainers, statistic = place
    named = {"source": source, "change": change, "explainers": explainers, "statistic": statistic}
    numbers = {name: getattr(seen, name) for name in ("log_mean", "log_sd", "freedom", "lowest", "highest")}
    counts = {"families": seen.families, "models": seen.models}
    lines = [f'{name} = "{value}"' for name, value in named.items()]
    lines += [f"{name} = {value:.4g}" for name, value in numbers.items()]
    lines += [f"{name} = {value}" for name, value in counts.items()]
    return "\n".join(["[[factor]]", *lines, f"decides = {str(decides).lower()}"])
