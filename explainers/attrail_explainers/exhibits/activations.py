"""Activations: how strongly, how variedly and how often the channels of chosen layers speak."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.inspection.exhibit import Panel, Picture, Shown
from attrail_explainers.inspection.view import Layer, View
from attrail_explainers.parameters import require_names, require_whole, settle

NAMED = 6  # layers that a sentence names
FINEST = 56  # places of a side of a map that is shown: more cannot be told apart on a page


@dataclass(frozen=True)
class Activations:
    """Mean, standard deviation and dead share of every channel, over all images and places of the slice.

    The dead share of a channel is that of the images in which it gives nothing but 0; it is still when it gives one
    number whatever the image. Shown are maps of the strongest channels: those that vary most, or, beside another
    version, those whose mean moved furthest in units of the reference's standard deviation. ``layers`` are names of
    layers, at most ``most`` blocks spread from first to last when None; ``channels`` and ``pictures`` say of how many
    channels and images there are maps.
    """

    layers: tuple[str, ...] | None = None
    most: int = 8
    channels: int = 3
    pictures: int = 3

    title: ClassVar[str] = "Activations"

    def __post_init__(self) -> None:
        if self.layers is not None:
            object.__setattr__(self, "layers", require_names("layers", self.layers))
        for name in ("most", "channels", "pictures"):
            require_whole(name, getattr(self, name), 1)
        settle(self)

    def show(self, view: View) -> Shown:
        layers = view.layers(self.layers, self.most)
        sums = {role: _summed(view, role, layers) for role in view.roles}
        rows, arrays, strongest = [], dict[str, NDArray[Any]](), dict[str, NDArray[np.int64]]()
        for layer in layers:
            found = {role: sums[role][layer.name].statistics() for role in view.roles}
            for role, statistics in found.items():
                arrays |= {f"{role}/{layer.name}/{name}": values for name, values in statistics.items()}
            moved = _moved(list(found.values())) if view.pair else None
            strength = next(iter(found.values()))["sd"] if moved is None else moved
            strongest[layer.name] = np.argsort(-strength, kind="stable")[: self.channels]
            rows.append(_row(layer, found, moved, strongest[layer.name]))
        shown = view.rows[: self.pictures]
        panels = _panels(view, layers, strongest, shown)
        bars = ("moved", "sd", "dead") if view.pair else ("sd", "dead")
        return Shown(tuple(rows), bars, arrays, panels, _sentences(rows, view))


class _Sums:
    """What is summed over images of one layer, (C,) each, in double precision."""

    def __init__(self) -> None:
        self.count = self.images = 0
        self.parts: dict[str, torch.Tensor] = {}

    def add(self, values: torch.Tensor) -> None:
        """Add activations (N,C,places)."""
        values = values.double()
        self.count, self.images = self.count + len(values) * values.shape[2], self.images + len(values)
        least, most = values.amin(dim=(0, 2)), values.amax(dim=(0, 2))
        dead = (values == 0).all(dim=2).sum(dim=0).double()
        sums = {"sum": values.sum(dim=(0, 2)), "squares": values.square().sum(dim=(0, 2)), "dead": dead}
        for name, each in sums.items():
            self.parts[name] = self.parts[name] + each if name in self.parts else each
        self.parts["least"] = torch.minimum(self.parts.get("least", least), least)
        self.parts["most"] = torch.maximum(self.parts.get("most", most), most)

    def statistics(self) -> dict[str, NDArray[np.float64]]:
        """Mean, standard deviation, dead share and stillness (0 or 1), (C,) each."""
        parts = {name: each.cpu().numpy() for name, each in self.parts.items()}
        mean = parts["sum"] / self.count
        still = parts["least"] == parts["most"]
        sd = np.where(still, 0.0, np.sqrt(np.maximum(parts["squares"] / self.count - mean**2, 0)))
        return {"mean": mean, "sd": sd, "dead": parts["dead"] / self.images, "still": still.astype(np.float64)}


def _summed(view: View, role: str, layers: Sequence[Layer]) -> dict[str, _Sums]:
    sums = {each.name: _Sums() for each in layers}
    for outputs in view.recorded(role, layers):
        for name, values in outputs.items():
            sums[name].add(values)
    return sums


def _moved(found: Sequence[Mapping[str, NDArray[np.float64]]]) -> NDArray[np.float64]:
    """How far each channel's mean moved, in units of the reference's standard deviation, or else of its layer's."""
    first, second = found
    ordinary = float(np.sqrt(np.mean(first["sd"] ** 2)))
    scale = np.where(first["sd"] > 1e-3 * ordinary, first["sd"], ordinary)
    return np.abs(second["mean"] - first["mean"]) / np.where(scale > 0, scale, 1.0)


def _row(
    layer: Layer,
    found: Mapping[str, Mapping[str, NDArray[np.float64]]],
    moved: NDArray[np.float64] | None,
    strongest: NDArray[np.int64],
) -> dict[str, Any]:
    row: dict[str, Any] = {"layer": layer.name, "channels": len(next(iter(found.values()))["mean"])}
    if moved is not None:
        row["moved"] = float(moved.mean())
    for name in ("mean", "sd", "dead"):
        row[name] = {role: float(each[name].mean()) for role, each in found.items()}
    row["still"] = {role: int(each["still"].sum()) for role, each in found.items()}
    return row | {"strongest": strongest.tolist()}


def _panels(
    view: View, layers: Sequence[Layer], strongest: Mapping[str, NDArray[np.int64]], rows: NDArray[np.int64]
) -> tuple[Panel, ...]:
    maps: dict[tuple[str, str], list[NDArray[np.float32]]] = {}
    for role in view.roles:
        for outputs in view.recorded(role, layers, rows):
            for name, values in outputs.items():
                chosen = values[:, torch.from_numpy(strongest[name]).to(values.device)]
                maps.setdefault((role, name), []).append(chosen.float().cpu().numpy())
    panels = []
    for layer in layers:
        if layer.places is None:
            continue
        for place, channel in enumerate(strongest[layer.name]):
            pictures = []
            for image, row in enumerate(rows):
                name = view.image_names[image]
                pictures.append(Picture(name, view.slice_.picture(int(row))))
                for role in view.roles:
                    values = np.concatenate(maps[role, layer.name])[image, place]
                    shape = (layer.places.rows, layer.places.columns)
                    pictures.append(Picture(f"{name}, {role}" if view.pair else f"{name}, map", _map(shape, values)))
            panels.append(Panel(layer.name, f"channel {channel}", tuple(pictures)))
    return tuple(panels)


def _map(shape: tuple[int, int], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """One channel's activations (h,w), every so many of them where there are more than can be seen."""
    grid = values.reshape(shape)
    step = -(-max(grid.shape) // FINEST)
    return np.ascontiguousarray(grid[::step, ::step])


def _sentences(rows: Sequence[Mapping[str, Any]], view: View) -> tuple[str, ...]:
    still = [
        f"{row['layer']}{f' of the {role}' if view.pair else ''} ({count} of {row['channels']})"
        for row in rows
        for role, count in row["still"].items()
        if count
    ]
    more = f" and {len(still) - NAMED} more" if len(still) > NAMED else ""
    found = [f"Channels that give one number whatever the image: {', '.join(still[:NAMED])}{more}."] if still else []
    if view.pair:
        furthest = max(rows, key=lambda row: row["moved"])
        found.append(
            f"The means of channels moved furthest in {furthest['layer']}, by {furthest['moved']:.2g} standard "
            "deviations in the mean."
        )
    return tuple(found)


EXHIBIT = Activations
