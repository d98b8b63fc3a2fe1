"""What an audit costs at scale: ``python tests/scale [PART ...]``; run it on a machine with nothing else.

Each part writes its section of deploy/SCALE.md:

cache     a first and a second audit against one champion, by the command
engines   one version's maps by a thread, and by one process and two
clusters  the same on Ray and on Dask, as far as they are installed
threads   two threads of one process on a larger network
units     requests of one shard to both servers, bytes of one map, over HTTP
overhead  the whole flow against the plain library calls
memory    whole audits of 10,000, 30,000 and 100,000 small images through a tiny model, by phase
restart   kill -9 in the middle of many shards, and again
costs     targets, costs of one unit and what follows from them, computed from what the other parts measured
"""

import argparse
import tempfile
from importlib import import_module
from pathlib import Path

import attrail_flows  # noqa: F401 - telemetry off before MLflow and Prefect are imported

PARTS = {  # module, function, images
    "cache": ("cache", "measure_cache", 192),
    "engines": ("engines", "measure_engines", 384),
    "clusters": ("engines", "measure_clusters", 384),
    "threads": ("engines", "measure_threads", 8),
    "units": ("units", "measure_units", 96),
    "overhead": ("overhead", "measure_overhead", 256),
    "memory": ("memory", "measure_memory", 100_000),
    "restart": ("restart", "measure_restart", 100_000),
    "costs": ("costs", "compute_costs", 0),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--images", type=int, help="fewer or more images than the part usually takes")
    parser.add_argument("--folder", type=Path, help="work here and leave it, instead of in a folder that is removed")
    chosen = parser.parse_args()
    for name in chosen.parts or PARTS:
        module, function, images = PARTS[name]
        measure = getattr(import_module(module), function)
        if chosen.folder:
            chosen.folder.mkdir(parents=True, exist_ok=True)
            measure(chosen.folder, chosen.images or images)
            continue
        with tempfile.TemporaryDirectory(prefix="attrail-scale-") as folder:
            measure(Path(folder), chosen.images or images)


if __name__ == "__main__":
    main()
