"""attrail_monitoring: compare the maps of two model versions and judge whether the evidence moved.

Importing the package loads none of its modules; using one of its names does. ``monitoring/README.md`` shows each of
them at work.
"""

from typing import TYPE_CHECKING

from attrail_explainers.lazy import lazy_names

if TYPE_CHECKING:
    from attrail_monitoring.comparison import compare
    from attrail_monitoring.decisions.decisions import Decisions
    from attrail_monitoring.floor.calibration import Calibration, calibrate
    from attrail_monitoring.floor.noise_floor import NoiseFloor
    from attrail_monitoring.maps.settings import Settings
    from attrail_monitoring.maps.statistic import statistic_names
    from attrail_monitoring.maps.version_maps import VersionMaps
    from attrail_monitoring.verdict.findings import DriftReport, Finding, Verdict
    from attrail_monitoring.verdict.measurement import Measurement
    from attrail_monitoring.verdict.policy import Policy
    from attrail_monitoring.windows import TwoSample, compare_windows
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Calibration": "floor.calibration",
            "Decisions": "decisions.decisions",
            "DriftReport": "verdict.findings",
            "Finding": "verdict.findings",
            "Measurement": "verdict.measurement",
            "NoiseFloor": "floor.noise_floor",
            "Policy": "verdict.policy",
            "Settings": "maps.settings",
            "TwoSample": "windows",
            "Verdict": "verdict.findings",
            "VersionMaps": "maps.version_maps",
            "calibrate": "floor.calibration",
            "compare": "comparison",
            "compare_windows": "windows",
            "statistic_names": "maps.statistic",
        },
    )

__all__ = [
    "Calibration",
    "Decisions",
    "DriftReport",
    "Finding",
    "Measurement",
    "NoiseFloor",
    "Policy",
    "Settings",
    "TwoSample",
    "Verdict",
    "VersionMaps",
    "calibrate",
    "compare",
    "compare_windows",
    "statistic_names",
]
