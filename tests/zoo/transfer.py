"""``make transfer-zoo``: the second zoo, transfer learning, on which nothing was tuned; the page is TRANSFER_ZOO.md.

Everything is kept in the same ``--cache`` as the first zoo's, so a run that was stopped goes on where it was.
"""

import argparse
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from by_noise import judge_one
from cache import Cache, default_cache
from factors import moves
from judging import judge_all
from looks import look_all
from making import Zoo, make
from noise import draw_all
from processes import shared_out
from recipe import Member
from reliance import reliance
from results import Results
from transfer_page import text
from transfer_recipe import DATASETS, EXPLAINERS, IMAGES, VISIBLE, audits, audits_by_noise, members

PAGES = Path(__file__).parents[2] / "monitoring"


def main() -> None:
    given = _arguments().parse_args()
    zoo = Zoo(Cache(given.cache), given.data, EXPLAINERS, IMAGES)
    results = run(zoo, [members(each) for each in given.only or DATASETS], given.workers)
    written = text(results, (PAGES / "ZOO.md").read_text(encoding="utf-8"))
    path = given.page or (None if given.only else PAGES / "TRANSFER_ZOO.md")
    if path:
        path.write_text(written, encoding="utf-8")
    print(written)


def run(zoo: Zoo, families: Sequence[list[Member]], workers: int) -> Results:
    """Make, judge and gather."""
    started = time.monotonic()
    every = [pair for family in families for pair in audits(family)]
    by_noise = [pair for family in families for pair in audits_by_noise(family)]
    failed = make(zoo, [*every, *by_noise], workers)
    draw_all(zoo, by_noise, workers)
    moved = moves(zoo, by_noise, workers)
    told = list(shared_out(partial(judge_one, zoo), [(pair, None) for pair in by_noise], workers))
    judged = judge_all(zoo, every, workers, [IMAGES])
    looked = look_all(zoo, every, workers)
    harmful = [member for family in families for member in family if member.kind == "harmful"]
    known = {member.recipe.digest: reliance(zoo, member) for member in harmful}
    models, seconds = sum(map(len, families)), time.monotonic() - started
    return Results(judged, (), known, models, seconds, moved, told, looked, failed, VISIBLE)


def _arguments() -> argparse.ArgumentParser:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--data", type=Path, default=Path(os.environ.get("ATTRAIL_DATA", "../shared/data")))
    arguments.add_argument("--cache", type=Path, default=default_cache(), help="where models and maps are kept")
    arguments.add_argument("--only", action="append", choices=DATASETS, help="a data set")
    arguments.add_argument("--page", type=Path, help="where to write; default TRANSFER_ZOO.md, nowhere with --only")
    arguments.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes of one thread each")
    return arguments


if __name__ == "__main__":
    main()
