"""Feature visualization: the picture that a channel likes best, made by optimisation, beside real images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.digest import seed_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.inspection.exhibit import Panel, Picture, Shown
from attrail_explainers.inspection.strongest import (
    ChannelScores,
    best_images,
    channel_scores,
    example,
    most_relevant_channels,
)
from attrail_explainers.inspection.view import Layer, View
from attrail_explainers.parameters import require_choice, require_layer, require_whole, settle
from attrail_explainers.slice import Slice

SPECTRA = ("slice", "free")
RATE = 0.1  # of Adam: radians, or shares of what the spectrum's own decay leaves, in a step
JITTER = 16  # the picture is shifted by up to one such part of its side before each step
WARNING = (
    "A picture made by optimisation shows what could excite a channel, not what does: Geirhos et al. (ICML 2024) "
    "replaced all such pictures of a network's last layer by others while its accuracy went from 69.15 to 68.74 %. "
    "Believe the slice's own images beside it first."
)


@dataclass(frozen=True)
class FeatureVisualization:
    """For the channels that matter most in a layer a picture of largest mean activation, beside the images they like.

    It is optimised in Fourier space under random shifts (Olah et al., Distill 2017), with the same start for both
    versions. By ``spectrum`` "slice" it has the mean magnitudes of the slice's own images and only phases are optimised
    (MaCo, Fel et al., NeurIPS 2023); by "free" magnitudes and mean colours are optimised too. ``layer`` is the one
    Grad-CAM takes when None, ``steps`` are those of Adam.
    """

    layer: str | None = None
    channels: int = 3
    steps: int = 96
    spectrum: str = "slice"
    pictures: int = 3

    title: ClassVar[str] = "Pictures that channels like best"

    def __post_init__(self) -> None:
        require_layer(self.layer)
        for name in ("channels", "steps", "pictures"):
            require_whole(name, getattr(self, name), 1)
        require_choice("spectrum", self.spectrum, SPECTRA)
        settle(self)

    def show(self, view: View) -> Shown:
        layer = view.layer_of_evidence() if self.layer is None else view.layers([self.layer])[0]
        scores = {role: channel_scores(view, role, layer) for role in view.roles}
        channels = most_relevant_channels(list(scores.values()), self.channels).tolist()
        made = {role: self._optimised(view, role, layer, channels) for role in view.roles}
        rows, panels = [], []
        for place, channel in enumerate(channels):
            row: dict[str, Any] = {"layer": layer.name, "channel": channel, "picture": {}, "best_image": {}}
            for role, (_, activations) in made.items():
                row["picture"][role] = float(activations[place])
                row["best_image"][role] = float(scores[role].mean[:, channel].max())
            rows.append(row)
            panels.append(
                self._panel(view, layer, channel, {role: each[0][place] for role, each in made.items()}, scores)
            )
        arrays: dict[str, NDArray[Any]] = {f"{role}/{layer.name}/pictures": each for role, (each, _) in made.items()}
        return Shown(tuple(rows), ("picture", "best_image"), arrays, tuple(panels), (WARNING,))

    def _panel(
        self,
        view: View,
        layer: Layer,
        channel: int,
        made: Mapping[str, NDArray[np.float32]],
        scores: Mapping[str, ChannelScores],
    ) -> Panel:
        """The optimised pictures, and after each what the version likes among the slice's images."""
        pictures = []
        for role, inputs in made.items():
            whose = f"{role}, optimised" if view.pair else "optimised"
            pictures.append(Picture(whose, _seen(view.slice_, inputs)))
            values, peaks = scores[role].largest[:, channel], scores[role].peak[:, channel]
            best = best_images(values, self.pictures).tolist()
            pictures += [example(view, layer, each, int(peaks[each]), values[each]) for each in best]
        return Panel(layer.name, f"channel {channel}: optimised, beside images of largest activation", tuple(pictures))

    def _optimised(
        self, view: View, role: str, layer: Layer, channels: Sequence[int]
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Pictures (K,C,H,W) as the model takes them, and the mean activation (K,) of each in its channel."""
        spectrum = _Spectrum(view.slice_, self.spectrum)
        pictures, activations = [], []
        size = view.models[role].batch
        for start in range(0, len(channels), size):
            some = channels[start : start + size]
            numbers = spectrum.start([seed_of(view.seed, "feature visualization", layer.name, each) for each in some])
            for parts in numbers:
                parts.requires_grad_(True)
            optimizer = torch.optim.Adam(numbers, lr=RATE)
            shifts = np.random.default_rng(seed_of(view.seed, "shifts", layer.name, *some))
            for _ in range(self.steps):
                shift = [int(shifts.integers(-(side // JITTER), side // JITTER + 1)) for side in spectrum.size]
                images = torch.roll(spectrum.images(numbers), shift, dims=(2, 3))
                optimizer.zero_grad()
                (-_mean_activation(view, role, layer, some, images).sum()).backward()
                optimizer.step()
            with torch.no_grad():
                images = spectrum.images(numbers)
                activations.append(_mean_activation(view, role, layer, some, images).double().cpu().numpy())
            pictures.append(images.float().cpu().numpy())
        return np.concatenate(pictures), np.concatenate(activations)


class _Spectrum:
    """Images (K,C,H,W) by their Fourier coefficients, in the range that the slice's preprocessing allows."""

    def __init__(self, slice_: Slice, kind: str) -> None:
        self.kind, self.size = kind, (slice_.images.shape[2], slice_.images.shape[3])
        self.bounds = None
        if slice_.preprocessing is not None:
            mean, std = (
                torch.tensor(each)[:, None, None] for each in (slice_.preprocessing.mean, slice_.preprocessing.std)
            )
            self.bounds = ((0 - mean) / std, (1 - mean) / std)
        rows = slice_.starts[:-1]
        channels, (height, width) = slice_.images.shape[1], self.size
        magnitude, level = np.zeros((channels, height, width // 2 + 1)), np.zeros(channels)
        for row in rows:
            magnitude += np.abs(np.fft.rfft2(slice_.images[row].astype(np.float64))) / len(rows)
            level += slice_.images[row].mean(axis=(1, 2)) / len(rows)
        magnitude[:, 0, 0] = 0
        self.magnitude = torch.from_numpy(magnitude).float()
        self.level = torch.from_numpy(level).float()[:, None, None]

    def start(self, seeds: Sequence[int]) -> list[torch.Tensor]:
        """What is optimised: phases; log magnitudes and mean colours too where these are free."""
        drawn = [np.random.default_rng(seed).uniform(-np.pi, np.pi, self.magnitude.shape) for seed in seeds]
        phases = torch.from_numpy(np.stack(drawn)).float()
        if self.kind == "slice":
            return [phases]
        return [phases, torch.zeros_like(phases), self.level.repeat(len(seeds), 1, 1, 1)]

    def images(self, numbers: Sequence[torch.Tensor]) -> torch.Tensor:
        """The images of some numbers, with a gradient in them."""
        magnitude, level = self.magnitude.expand_as(numbers[0]), self.level
        if self.kind == "free":
            magnitude, level = magnitude * numbers[1].exp(), numbers[2]
        images = torch.fft.irfft2(torch.polar(magnitude, numbers[0]), s=self.size) + level
        return images if self.bounds is None else torch.maximum(torch.minimum(images, self.bounds[1]), self.bounds[0])


def _mean_activation(
    view: View, role: str, layer: Layer, channels: Sequence[int], images: torch.Tensor
) -> torch.Tensor:
    """The mean (K,) over places of one channel for each of K images."""
    model, outputs = view.models[role], list[torch.Tensor]()

    def keep(module: torch.nn.Module, arguments: Any, output: torch.Tensor) -> None:
        outputs.append(output.clone())  # what follows may write into the output itself

    with model.hooks({view.own_name(role, layer.name): keep}):
        model.call(images.to(model.device), hooked=True, filled=False)
    found = layer.channels(outputs[0]).mean(dim=2)[torch.arange(len(images)), list(channels)]
    if images.requires_grad and not found.requires_grad:
        raise UnsupportedModelError(
            f"model {model.label}: no gradient leads back from layer {layer.name!r} to the image"
        )
    return found


def _seen(slice_: Slice, inputs: NDArray[np.float32]) -> NDArray[np.uint8]:
    """A model's input (C,H,W) for the eye."""
    alone = Slice("", inputs[None], np.zeros(1, dtype=np.int64), ("",), slice_.preprocessing)
    return alone.picture(0)


EXHIBIT = FeatureVisualization
