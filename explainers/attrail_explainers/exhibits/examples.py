"""Examples: the images of the slice that a channel likes best, and those that it matters most for."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.inspection.exhibit import Panel, Picture, Shown
from attrail_explainers.inspection.strongest import (
    ChannelScores,
    best_images,
    channel_scores,
    example,
    most_relevant_channels,
)
from attrail_explainers.inspection.view import Layer, View
from attrail_explainers.parameters import require_layer, require_whole, settle


@dataclass(frozen=True)
class Examples:
    """For the channels that matter most in a layer the images of largest activation, and of largest relevance.

    Relevance is activation times gradient of what is asked, summed over places: an image may excite a channel on which
    nothing rests. Beside another version: what the same channel likes now. Channels are those of largest mean relevance
    in either version. ``layer`` is the one Grad-CAM takes when None.
    """

    layer: str | None = None
    channels: int = 4
    pictures: int = 4

    title: ClassVar[str] = "Images that channels like, and that they matter for"

    def __post_init__(self) -> None:
        require_layer(self.layer)
        require_whole("channels", self.channels, 1)
        require_whole("pictures", self.pictures, 1)
        settle(self)

    def show(self, view: View) -> Shown:
        layer = view.layer_of_evidence() if self.layer is None else view.layers([self.layer])[0]
        scores = {role: channel_scores(view, role, layer) for role in view.roles}
        rows, panels = [], list[Panel]()
        for channel in most_relevant_channels(list(scores.values()), self.channels).tolist():
            row, pictures = self._channel(view, layer, channel, scores)
            rows.append(row)
            panels += pictures
        arrays: dict[str, NDArray[Any]] = {}
        for role, each in scores.items():
            arrays |= {f"{role}/{layer.name}/largest": each.largest, f"{role}/{layer.name}/relevance": each.relevance}
        return Shown(tuple(rows), ("relevance",), arrays, tuple(panels))

    def _channel(
        self, view: View, layer: Layer, channel: int, scores: Mapping[str, ChannelScores]
    ) -> tuple[dict[str, Any], list[Panel]]:
        row: dict[str, Any] = {"layer": layer.name, "channel": channel, "relevance": {}, "liked": {}, "relevant": {}}
        panels = []
        for role, found in scores.items():
            row["relevance"][role] = float(np.abs(found.relevance[:, channel]).mean())
            kinds = {"liked": found.largest[:, channel], "relevant": found.relevance[:, channel]}
            for kind, values in kinds.items():
                best = best_images(values, self.pictures).tolist()
                row[kind][role] = [view.image_names[each] for each in best]
                pictures = [example(view, layer, each, int(found.peak[each, channel]), values[each]) for each in best]
                title = {"liked": "largest activation", "relevant": "largest relevance"}[kind]
                whose = f", {role}" if view.pair else ""
                panels.append(Panel(layer.name, f"channel {channel}: {title}{whose}", tuple[Picture, ...](pictures)))
        return row, panels


EXHIBIT = Examples
