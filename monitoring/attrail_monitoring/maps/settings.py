"""Settings: how distances are measured, before any threshold is read."""

from dataclasses import dataclass

from attrail_explainers.parameters import require_share, require_whole, settle


@dataclass(frozen=True)
class Settings:
    """How distances are measured, which no threshold enters.

    Maps are compared on a ``grid`` of so many cells a side at most; intervals are of ``confidence`` 0..1, from
    ``resamples`` of the images drawn with ``seed``; a class is measured by itself from ``class_images`` images on.
    Raises ConfigError for values that are none::

        Policy(settings=Settings(resamples=10_000))
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
