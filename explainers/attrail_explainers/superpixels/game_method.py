"""What methods that let superpixels play games have in common: their parameters, and the games."""

from dataclasses import dataclass

from attrail_explainers.baselines import BASELINES, Baseline
from attrail_explainers.parameters import require_choice, require_whole
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.games import Game, games_of
from attrail_explainers.superpixels.segmentation import Segmentation


@dataclass(frozen=True)
class GameMethod:
    """A method that asks about superpixels adaptively, at most ``evaluations`` times for each image."""

    segments: int = 32
    compactness: float = 10.0
    baseline: Baseline = "blur"
    evaluations: int = 256

    def __post_init__(self) -> None:
        Segmentation(self.segments, self.compactness)
        require_choice("baseline", self.baseline, BASELINES)
        require_whole("evaluations", self.evaluations, 4)

    def games(self, subject: Subject) -> list[Game]:
        """The game of each image."""
        return games_of(subject, Segmentation(self.segments, self.compactness), self.baseline)
