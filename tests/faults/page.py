"""FAULTS.md, written from what the parts kept: nothing in it is known otherwise."""

import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

Facts = Mapping[str, Any]
FOLDER = re.compile(r"/\S*attrail-faults-\w+/")  # where the suite ran
HEAD = """# Faults

*Written by `python tests/faults`; every row was measured, none was written by hand.*

Real PostgreSQL, `mlflow server` with the gate, Prefect's server and a worker, as `compose.yaml` starts them. Audits of
two candidates are hit: `digits/7`, an honest retrain (PASS), and `digits/8`, a cheat (DRIFT). What dies is started
again, as its restart policy does; a run that crashed is started anew, as a platform does, with nothing told about the
one before. A run whose worker died unseen is marked as crashed by the suite at once; the automation
`attrail-silent-runs` does that after five minutes.

After every audit these are looked up in the servers and on their disks: a complete run is there and verifies (manifest,
signature, statement); the version carries the statement of the newest complete run, and no other; verdict, reason,
every measurement and the digests of all maps are those of an audit that nobody disturbed; no run that is FINISHED or
says `attrail.complete` lacks a file; the journal's chain is whole and names every complete run once; no shard that was
kept is computed again, and no more of the others than one for each kill and worker.
"""
DEFINED = """
## Defined faults

The disks are small file systems in memory (tmpfs), mounted where the service keeps its files and filled; this needs
root. The clock is that of the worker and its flows alone, shifted by libfaketime, as Debian has it, while they run.

| fault | what was done | what a person sees | what to do | seconds |
|---|---|---|---|---|
"""


def write_page(kept: Path, page: Path) -> None:
    """Write the page from all parts that were kept; those that found something wrong say so in it."""
    parts = [json.loads(path.read_text()) for path in sorted(kept.glob("kills-*.json"))]
    findings = [
        each for path in sorted(kept.glob("defined-*.json")) for each in json.loads(path.read_text())["findings"]
    ]
    lines = [HEAD, *_sums(parts, findings), *_kills(parts), DEFINED.rstrip("\n"), *map(_finding, findings), ""]
    page.write_text("\n".join(lines))


def _sums(parts: Sequence[Facts], findings: Sequence[Facts]) -> Iterator[str]:
    audits = [each for part in parts for each in part["audits"]]
    hits = [hit for each in audits for hit in each["hits"]]
    wrong = [each for facts in (*audits, *findings) for each in facts["wrong"]]
    sums = {
        "kill -9": len(hits),
        "audits that were hit": len(audits),
        "runs they took": sum(each["attempts"] for each in audits),
        "shards computed again, none of them finished before": sum(hit["again"] for hit in hits),
        "**false PASS**": _of("false PASS", wrong),
        "**half runs that look finished**": _of("half", wrong),
        "**anything twice**: records, statements, kept files, finished shards": _of("twice", wrong),
        "anything else that was wrong": len(wrong) - sum(_of(kind, wrong) for kind in ("false PASS", "half", "twice")),
    }
    yield from ("| | |", "|---|---|", *(f"| {name} | {number} |" for name, number in sums.items()), "")
    packages = ", ".join(f"{name} {version(name)}" for name in ("mlflow", "prefect", "torch"))
    yield f"{os.cpu_count()} cores, Python {platform.python_version()}, {packages}; `digits` of the demo, 48 images, "
    yield "Grad-CAM and SHAP, a floor of five retrains, shards of well below a second."
    yield from (f"\nWRONG: {each}" for each in wrong)


def _of(kind: str, wrong: Sequence[str]) -> int:
    return sum(each.startswith(f"{kind}:") for each in wrong)


def _kills(parts: Sequence[Facts]) -> Iterator[str]:
    for part in parts:
        told = ", ".join(
            f"{each['seconds']:.0f} s and {each['shards']} shards for digits/{each['candidate']}"
            for each in part["undisturbed"]
        )
        words = f"--seed {part['seed']} --audits {len(part['audits'])} --runner {part['audits'][0]['runner']}"
        yield f"\n## `python tests/faults kills {words}`\n"
        yield f"Undisturbed: {told} (the second finds what the first kept; those below find nothing)."
        yield "\n| audit | engine | killed | when | what happened | seconds until complete | shards computed again |"
        yield "|---|---|---|---|---|---|---|"
        for audit in part["audits"]:
            for hit in audit["hits"]:
                when = f"{hit['during']}, attempt {hit['attempt']}"
                cells = [f"digits/{audit['candidate']}", audit["runner"], hit["what"], when, hit["outcome"]]
                yield "| " + " | ".join([*cells, f"{hit['seconds']:.0f}", str(hit["again"])]) + " |"


def _finding(found: Facts) -> str:
    said = FOLDER.sub("", found["said"]).replace("|", "/")
    cells = [found["fault"], found["done"], said, found["mend"], f"{found['seconds']:.0f}"]
    return "| " + " | ".join(cells) + " |"
