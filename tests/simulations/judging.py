"""What judging costs: 10,000 images by three explainers on a 14x14 grid, against five retrains.

    python tests/simulations/judging.py

Prints seconds and the peak of this process's memory, for the calibration (once) and for the judgement of one candidate.
"""

import resource
import time

import numpy as np

from attrail_explainers.attributions import Attributions
from attrail_monitoring.comparison import compare
from attrail_monitoring.floor.calibration import calibrate
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.verdict.policy import Policy

IMAGES, GRID, EXPLAINERS, CLASSES = 10_000, 14, ("gradcam", "shap", "lime"), 100


def version(number: int) -> VersionMaps:
    """Maps that share what the images show and differ by a retrain's noise."""
    generator, shown = np.random.default_rng(number), np.random.default_rng(0).normal(size=(IMAGES, GRID, GRID))
    labels = np.arange(IMAGES) % CLASSES
    maps = tuple(
        Attributions(
            explainer=name,
            parameters={"seed": 0},
            values=(shown + generator.normal(0, 0.5, shown.shape)).astype(np.float32),
            targets=labels,
            sample_ids=tuple(f"image {row}" for row in range(IMAGES)),
            slice_name="night",
            slice_digest="sha256:night",
            model=f"net/{number}",
            weights_digest=f"sha256:{number}",
        )
        for name in EXPLAINERS
    )
    return VersionMaps(maps, {"night": generator.uniform(size=IMAGES) < 0.9})


def main() -> None:
    reference, candidate, *floor = (version(number) for number in range(1, 8))
    policy = Policy()
    print(f"{IMAGES} images, {len(EXPLAINERS)} explainers, {CLASSES} classes, {len(floor)} retrains; {_peak()} before")
    started = time.perf_counter()
    calibration = calibrate(reference, floor, policy.settings)
    print(f"calibration: {time.perf_counter() - started:.1f} s, {_peak()}")
    started = time.perf_counter()
    report = compare(reference, candidate, calibration, policy)
    print(f"judgement: {time.perf_counter() - started:.1f} s, {_peak()}; {report.verdict}")


def _peak() -> str:
    return f"at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB"


if __name__ == "__main__":
    main()
