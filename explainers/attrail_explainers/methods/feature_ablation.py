"""Feature ablation: what the model loses when one superpixel of the image is replaced."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from captum.attr import FeatureAblation as CaptumFeatureAblation

from attrail_explainers.baselines import BASELINES, Baseline
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.parameters import require_choice
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.games import games_of, superpixel_diagnostics, worth_of
from attrail_explainers.superpixels.segmentation import Segmentation


@dataclass(frozen=True)
class FeatureAblation:
    """Feature ablation with captum over superpixels: the drop of the target's log odds without each one.

    Every pixel of a superpixel carries its superpixel's drop. One evaluation per superpixel, and one for the image.
    """

    segments: int = 32
    compactness: float = 10.0
    baseline: Baseline = "blur"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FORWARD})
    traits: ClassVar[frozenset[Trait]] = frozenset()

    def __post_init__(self) -> None:
        Segmentation(self.segments, self.compactness)
        require_choice("baseline", self.baseline, BASELINES)

    def attribute(self, subject: Subject) -> Maps:
        games = games_of(subject, Segmentation(self.segments, self.compactness), self.baseline)
        places = torch.from_numpy(np.stack([game.segments for game in games]))
        with torch.inference_mode():
            found = CaptumFeatureAblation(worth_of(subject)).attribute(
                subject.images,
                baselines=torch.stack([game.baseline for game in games]),
                additional_forward_args=(torch.arange(len(subject)),),
                feature_mask=places[:, None].to(subject.images.device),
                perturbations_per_eval=max(1, subject.model.batch // len(subject)),
            )
        values = found[:, 0].float().cpu().numpy()
        undefined = {row: "fewer than two superpixels" for row, game in enumerate(games) if game.players < 2}
        values[list(undefined)] = np.nan
        return Maps(values, undefined, superpixel_diagnostics(games))


METHOD = FeatureAblation
