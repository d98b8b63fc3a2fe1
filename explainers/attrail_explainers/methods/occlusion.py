"""Occlusion: what the model loses when a window of the image is covered."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from captum.attr import Occlusion as CaptumOcclusion

from attrail_explainers.baselines import BASELINES, Baseline, baseline_of
from attrail_explainers.errors import ConfigError
from attrail_explainers.explainer import Maps, Need, Trait
from attrail_explainers.parameters import require_choice, require_number
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.games import worth_of


@dataclass(frozen=True)
class Occlusion:
    """Occlusion (Zeiler & Fergus, ECCV 2014) with captum: the drop of the target's log odds under each window.

    ``window`` and ``stride`` are the side of the square window and its step: below 1 a share of the image's shorter
    side, from 1 up whole pixels. A pixel's value is the mean drop over the windows that cover it; windows at the lower
    and right border are cut off there.
    """

    window: float = 1 / 7
    stride: float = 1 / 14
    baseline: Baseline = "blur"

    needs: ClassVar[frozenset[Need]] = frozenset({Need.FORWARD})
    traits: ClassVar[frozenset[Trait]] = frozenset()

    def __post_init__(self) -> None:
        require_length("window", self.window)
        require_length("stride", self.stride)
        require_choice("baseline", self.baseline, BASELINES)
        if (self.window < 1) == (self.stride < 1) and self.stride > self.window:
            raise ConfigError(
                f"stride {self.stride} must not exceed window {self.window}: some pixels would be left out"
            )

    def attribute(self, subject: Subject) -> Maps:
        window, stride = self.pixels(tuple(subject.images.shape[2:]))
        channels = subject.images.shape[1]
        with torch.inference_mode():
            found = CaptumOcclusion(worth_of(subject)).attribute(
                subject.images,
                sliding_window_shapes=(channels, window, window),
                strides=(channels, stride, stride),
                baselines=torch.stack([baseline_of(image, self.baseline) for image in subject.images]),
                additional_forward_args=(torch.arange(len(subject)),),
                perturbations_per_eval=max(1, subject.model.batch // len(subject)),
            )
        return Maps(found[:, 0].float().cpu().numpy())  # a window covers all channels: they carry the same values

    def pixels(self, size: tuple[int, ...]) -> tuple[int, int]:
        """Window and stride in pixels for images of ``size`` (H,W); ConfigError when they do not fit."""
        window, stride = (length_in_pixels(each, min(size)) for each in (self.window, self.stride))
        if window > min(size):
            raise ConfigError(f"window of {window} pixels does not fit images of {size[0]}x{size[1]} pixels")
        if stride > window:
            raise ConfigError(f"stride of {stride} pixels must not exceed the window of {window} pixels")
        return window, stride


def require_length(name: str, value: float) -> None:
    """Raise ConfigError unless a length is a share above 0 and below 1, or a whole number of pixels."""
    wanted = "be a share above 0 and below 1 or a whole number of pixels"
    require_number(name, value, wanted, lambda length: 0 < length < 1 or (length >= 1 and length % 1 == 0))


def length_in_pixels(length: float, side: int) -> int:
    """Return a length, in pixels or below 1 as a share of a ``side`` in pixels, in whole pixels: one at least."""
    return int(length) if length >= 1 else max(1, round(length * side))


METHOD = Occlusion
