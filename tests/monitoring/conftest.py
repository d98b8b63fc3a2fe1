"""Maps to compare, and measurements to judge."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from attrail_explainers.attributions import Attributions
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.verdict.measurement import Measurement


@pytest.fixture
def maps() -> Callable[..., Attributions]:
    """Makes Attributions of values (N,H,W); rows of NaN become undefined."""

    def make(values: Any, model: str = "net/1", **changes: Any) -> Attributions:
        values = np.asarray(values, dtype=np.float32)
        ids = tuple(f"image {row}" for row in range(len(values)))
        missing = np.flatnonzero(np.isnan(values).any(axis=(1, 2)))
        facts: dict[str, Any] = {
            "explainer": "gradcam",
            "parameters": {"layer": "features", "seed": 0},
            "targets": np.arange(len(values)) % 10,
            "slice_name": "all",
            "slice_digest": "sha256:all",
            "weights_digest": f"sha256:{model}",
            "undefined": {ids[row]: "no positive evidence" for row in missing},
        }
        return Attributions(values=values, sample_ids=ids, model=model, **(facts | changes))

    return make


@pytest.fixture
def measurement() -> Callable[..., Measurement]:
    """Makes a Measurement with an interval around ``value`` and a floor of the given distances."""

    def make(value: float = 0.2, width: float = 0.02, floor: tuple[float, ...] = (), **changes: Any) -> Measurement:
        facts: dict[str, Any] = {
            "slice": "all",
            "explainer": "gradcam",
            "statistic": "rank_distance",
            "lower": value - width,
            "upper": value + width,
            "ceiling": 2.0,
            "n": 100,
            "undefined": 0,
            "primary": True,
            "floor": NoiseFloor(floor),
        } | changes
        return Measurement(value=value, **({"worst": facts["upper"]} | facts))

    return make
