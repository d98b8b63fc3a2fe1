"""``make zoo``: how often the verdict is right, beside the detectors in use, on models that anyone can make again.

For each data set and architecture it trains a champion, retrains of its recipe, benign and harmful candidates,
explains them with attrail's own explainers, judges them, and writes ``monitoring/ZOO.md`` and the factors between
honest versions and what stands in for them, matched noise and surrogates. Models and maps are kept in ``--cache``, so
a run that was stopped goes on where it was.
"""

import argparse
import os
import time
from collections.abc import Sequence
from pathlib import Path

import factor_file
import page
import spreads
from by_noise import judge_by_noise
from cache import Cache, default_cache
from curve import draw
from data import available
from factors import moves
from judging import judge_all
from looks import look_all
from making import Zoo, make
from networks import NETWORKS
from noise import draw_all
from pairs import noise_pairs, pairs
from recipe import Member, members
from reliance import reliance
from results import Results
from spreads import scattered, spreads_without
from sub_population import sub_populations
from surrogate_floors import judge_surrogates
from surrogates import surrogate_pairs
from tqdm import tqdm

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "monitoring" / "ZOO.md"
FACTORS = ROOT / "monitoring" / "attrail_monitoring" / "floor" / "factors.toml"
PICTURE = "zoo-failure-curve.png"


def main() -> None:
    given = _arguments().parse_args()
    started = time.monotonic()
    zoo = Zoo(Cache(given.cache), given.data)
    families = [
        members(dataset, network, given.retrains, given.seeds)
        for dataset in available(given.data)
        for network in NETWORKS
        if not given.only or {dataset, network, f"{dataset}-{network}"} & set(given.only)
    ]
    results = run(zoo, families, given.workers, started)
    path = given.page or (PAGE if not given.only else None)
    if path:
        path.with_name(PICTURE).write_bytes(draw(results))
        path.write_text(page.page(results, PICTURE), encoding="utf-8")
    if path == PAGE:
        FACTORS.write_text(factor_file.text(results), encoding="utf-8")
        FACTORS.with_name("spreads.toml").write_text(spreads.text(results.scattered), encoding="utf-8")
    print(page.page(results, PICTURE))


def run(zoo: Zoo, families: Sequence[Sequence[Member]], workers: int, started: float) -> Results:
    """Make, judge and gather."""
    every = [member for family in families for member in family]
    audits = [pair for family in families for pair in pairs(family)]
    by_noise = [pair for family in families for pair in noise_pairs(family)]
    by_surrogates = [pair for family in families for pair in surrogate_pairs(family)]
    failed = make(zoo, [*audits, *by_noise, *by_surrogates], workers)
    draw_all(zoo, by_noise, workers)
    moved = moves(zoo, by_noise, workers)
    told = judge_by_noise(zoo, moved, by_noise, workers)
    stood_in = judge_surrogates(zoo, by_surrogates, workers)
    scatter = scattered(zoo, audits, workers)
    known = spreads_without(scatter)
    judged = judge_all(zoo, audits, workers, known=known)
    kinds = tqdm(families, desc="sub-populations")
    found = [each for family in kinds for each in sub_populations(zoo, family, known.get(family[0].family))]
    relied = {member.recipe.digest: reliance(zoo, member) for member in every if member.kind == "harmful"}
    looked = look_all(zoo, audits, workers, known)
    return Results(
        judged, found, relied, len(every), time.monotonic() - started, moved, told, looked, failed,
        surrogates=stood_in, scattered=scatter,
    )  # fmt: skip


def _arguments() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", action="append", help="a data set, an architecture or DATASET-ARCHITECTURE")
    arguments.add_argument("--data", type=Path, default=Path(os.environ.get("ATTRAIL_DATA", "../shared/data")))
    arguments.add_argument("--cache", type=Path, default=default_cache(), help="where models and maps are kept")
    arguments.add_argument("--page", type=Path, help=f"where to write; default {PAGE.name}, nowhere with --only")
    arguments.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    arguments.add_argument("--retrains", type=int, default=10, help="models of the champion's recipe, with it")
    arguments.add_argument("--seeds", type=int, default=1, help="models of each harmful kind")
    return arguments


if __name__ == "__main__":
    main()
