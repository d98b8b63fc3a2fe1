"""The confined process: ``main`` is all that is run in it, and everything of the pickle's after it was confined.

What it says is not believed, but for its report: that is written, and its pipe closed, before the pickle is opened.
"""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrail_explainers.confinement.confine import confine, limit

ANSWER = "answer.json"
LATER = 10  # seconds of processor time beyond what is waited for: who waits says why it ended


def main(order: Mapping[str, Any]) -> None:
    """Do what ``converting.convert_pickle`` ordered, and leave the answer in the output folder."""
    out, package = Path(order["out"]), Path(__file__).parents[1]
    confinement = confine(out, [Path(order["model"]), Path(order["images"]), package])
    allowed, in_force = order["weaker"] or not confinement.lacking, confinement.in_force
    if allowed:
        from attrail_explainers.conversion.exporting import answer  # noqa: PLC0415 - torch, which starts threads

        in_force += limit(order["memory"], order["seconds"] + LATER, order["file_size"])
    print(json.dumps({"in_force": in_force, "lacking": confinement.lacking}), flush=True)
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if allowed:
        found = answer(Path(order["model"]), Path(order["images"]), out)
        (out / ANSWER).write_text(json.dumps(found), encoding="utf-8")
