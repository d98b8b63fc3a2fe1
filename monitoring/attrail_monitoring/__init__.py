"""attrail_monitoring: compare the maps of two model versions and judge whether the evidence moved."""

from attrail_monitoring.comparison import compare
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.verdict.findings import DriftReport, Finding, Verdict
from attrail_monitoring.verdict.measurement import Measurement
from attrail_monitoring.verdict.policy import Policy

__all__ = ["DriftReport", "Finding", "Measurement", "NoiseFloor", "Policy", "Settings", "Verdict", "compare"]
