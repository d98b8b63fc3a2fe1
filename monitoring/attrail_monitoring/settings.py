"""Settings: how distances are measured, before any threshold is read."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """How to measure: ``grid`` cells a side at most, ``resamples`` of images, ``confidence`` of intervals.

    ``class_images`` is the number of images from which a class is measured by itself.
    """

    grid: int = 14
    resamples: int = 2000
    confidence: float = 0.95
    seed: int = 0
    class_images: int = 10
