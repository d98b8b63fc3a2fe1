"""Years of weekly audits: how often does the e-process cry wolf, and how late does it see a shift?

``python tests/simulations/audit_years.py [YEARS]`` prints both for 10,000 years of 52 audits of 100 images.
``tests/monitoring/inference/test_e_process.py`` runs the same functions on a few hundred.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from attrail_monitoring.inference.e_process import EProcess

AUDITS, IMAGES, LIMIT, SD, ALPHA, POWER = 52, 100, 0.35, 0.15, 0.05, 0.9
Array = NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, ...]], Array]


def beta(mean: float, sd: float = SD, upper: float = 1.0) -> Draw:
    """Draws of a beta distribution on 0..upper with this mean and standard deviation."""
    share, spread = mean / upper, sd / upper
    size = share * (1 - share) / spread**2 - 1
    return lambda generator, shape: upper * generator.beta(share * size, (1 - share) * size, shape)


def two_points(mean: float, upper: float = 2.0) -> Draw:
    """Nothing or all: the largest variance that distances in 0..upper can have."""
    return lambda generator, shape: upper * (generator.random(shape) < mean / upper)


def seasons(mean: float, spread: float) -> Draw:
    """Whole audits rise and fall together by ``spread``; only over the seasons is the mean what it says."""

    def draw(generator: np.random.Generator, shape: tuple[int, ...]) -> Array:
        factor = 1 + generator.uniform(-1, 1, (*shape[:-1], 1)) * 3**0.5 * spread / mean
        return beta(mean)(generator, shape) * factor

    return draw


def false_alarms(draw: Draw, years: int, *, each_audit: bool = False) -> float:
    """Share of years with any alarm; ``each_audit``: an audit's mean is one observation."""
    raised = 0
    for year in range(years):
        process = EProcess(LIMIT)
        for distances in draw(np.random.default_rng([1, year]), (AUDITS, IMAGES)):
            process = process.updated(distances.mean() if each_audit else distances)
        raised += process.alarm(ALPHA)
    return raised / years


def delays(shift: float, years: int, longest: int) -> Array:
    """Images until the alarm when it is looked at after each one, infinity beyond ``longest``."""
    found = np.full(years, np.inf)
    for year in range(years):
        process = EProcess(LIMIT)
        draws = beta(LIMIT + shift)(np.random.default_rng([2, year]), (longest,))
        for image, distance in enumerate(draws, start=1):
            process = process.updated(distance)
            if process.alarm(ALPHA):
                found[year] = image
                break
    return found


def fixed_size(shift: float) -> int:
    """Images that a one-sided z-test at the same level needs to see the shift with 90 % power."""
    return int(np.ceil(((stats.norm.isf(ALPHA) + stats.norm.isf(1 - POWER)) * SD / shift) ** 2))


def main(years: int) -> None:
    started = time.monotonic()
    print(f"{years} years of {AUDITS} audits of {IMAGES} images, limit {LIMIT}, alpha {ALPHA}")
    cases: list[tuple[str, Draw, bool]] = [
        (f"mean at the limit, beta, sd {SD}", beta(LIMIT), False),
        ("mean at the limit, beta on 0..2, sd .3", beta(LIMIT, 0.3, 2), False),
        ("mean at the limit, only 0 and 2", two_points(LIMIT), False),
        ("mean 0.02 below the limit, beta", beta(LIMIT - 0.02), False),
        ("audits that differ by an sd of .03, fed by images (its hypothesis is broken)", seasons(LIMIT, 0.03), False),
        ("audits that differ by an sd of .03, fed by audits", seasons(LIMIT, 0.03), True),
    ]
    for name, draw, each_audit in cases:
        share = false_alarms(draw, years, each_audit=each_audit)
        interval = stats.binomtest(round(share * years), years).proportion_ci(method="wilson")
        print(f"any false alarm in a year, {name}: {share:.4f} ({interval.low:.4f} to {interval.high:.4f})", flush=True)
    for shift in (0.03, 0.05, 0.1):
        fixed = fixed_size(shift)
        found = delays(shift, years, 20 * fixed)
        middle, late = np.quantile(found, [0.5, 0.9], method="higher")
        print(
            f"shift {shift}, sd {SD}: fixed test {fixed} images; e-process median {middle:.0f} "
            f"({middle / fixed:.2f}x), mean {found.mean():.1f} ({found.mean() / fixed:.2f}x), 90 % by {late:.0f} "
            f"({late / fixed:.2f}x), by 1.3x the fixed size {np.mean(found <= 1.3 * fixed):.3f}",
            flush=True,
        )
    print(f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
