"""Progress of long work: a bar on a terminal, a log line every half minute anywhere else."""

import contextlib
import logging
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from tqdm import tqdm

EVERY = 30.0  # seconds between log lines

logger = logging.getLogger("attrail.progress")


@contextlib.contextmanager
def progress_of(what: str, total: int) -> Iterator[Callable[[int], object]]:
    """A function to call with the number of maps just made, out of ``total``."""
    if not sys.stderr.isatty():
        yield LoggedProgress(what, total).advance
        return
    with tqdm(total=total, desc=what, unit="map", leave=False) as bar:
        yield bar.update


@dataclass
class LoggedProgress:
    """Counts steps and logs how many are done and the time left, at most every ``EVERY`` seconds."""

    what: str
    total: int
    done: int = 0
    started: float = field(default_factory=time.monotonic)
    logged: float = field(default_factory=time.monotonic)

    def advance(self, steps: int) -> None:
        """Count steps that are done."""
        self.done += steps
        now = time.monotonic()
        if steps and now - self.logged >= EVERY:
            self.logged = now
            left = (now - self.started) / self.done * (self.total - self.done)
            logger.info("%s: %d of %d maps, about %.0f s left", self.what, self.done, self.total, left)


@dataclass
class Clock:
    """Time left for a number of equal steps, measured on those already done."""

    steps: int
    done: int = 0
    started: float = 0.0

    def step(self, what: str) -> None:
        """Log that one step is done and how long the rest will take."""
        self.done += 1
        passed = time.monotonic() - self.started
        left = passed / self.done * (self.steps - self.done)
        logger.info("%s (%d of %d): %.0f s so far, about %.0f s left", what, self.done, self.steps, passed, left)
