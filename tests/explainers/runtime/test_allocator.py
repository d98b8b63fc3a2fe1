"""Freed memory stays with the process, in Dask's workers too, unless the user says otherwise."""

import os
import subprocess
import sys

import pytest

FREED_AND_TAKEN_AGAIN = """
import resource
import numpy as np
from attrail_explainers.runtime.allocator import keep_pages
keep_pages()
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(2**23)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print([faults() for _ in range(4)][-1])
"""


def page_faults(environment: dict[str, str]) -> int:
    """Page faults of 64 MiB that were taken, freed and taken again."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-c", FREED_AND_TAKEN_AGAIN]
    done = subprocess.run(command, env=kept | environment, capture_output=True, text=True, check=True, timeout=60)
    return int(done.stdout)


@pytest.mark.parametrize("environment", [{}, {"MALLOC_TRIM_THRESHOLD_": "65536"}])
def test_pages_are_kept_whatever_dask_sets(environment: dict[str, str]) -> None:
    assert page_faults(environment) < page_faults({"MALLOC_TRIM_THRESHOLD_": "131072"}) / 2
