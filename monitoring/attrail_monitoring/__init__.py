"""attrail_monitoring: compare the maps of two model versions and judge whether the evidence moved."""

from attrail_monitoring.comparison import compare
from attrail_monitoring.floor import NoiseFloor
from attrail_monitoring.measurement import Measurement
from attrail_monitoring.policy import Policy
from attrail_monitoring.settings import Settings
from attrail_monitoring.verdict import DriftReport, Finding, Verdict

__all__ = ["DriftReport", "Finding", "Measurement", "NoiseFloor", "Policy", "Settings", "Verdict", "compare"]
