"""Settings: how distances are measured, before any threshold is read."""

from dataclasses import dataclass

from attrail_explainers.parameters import require_share, require_whole, settle


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

    def __post_init__(self) -> None:
        for name, least in (("grid", 1), ("resamples", 1), ("seed", 0), ("class_images", 1)):
            require_whole(f"policy: {name}", getattr(self, name), least)
        require_share("policy: confidence", self.confidence)
        settle(self)
