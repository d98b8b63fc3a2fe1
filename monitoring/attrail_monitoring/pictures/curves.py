"""Pictures of deletion and insertion curves."""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

OWN, CHANCE = "#1f4e9c", "#8a6d3b"
MOST_LINES = 100  # single images drawn behind the mean; more of them are one grey cloud


@dataclass(frozen=True)
class CurvePanel:
    """One set of curves (N,K) over shares 0..1 of the pixels, rows of NaN for images without; ``chance`` likewise."""

    title: str
    across: str
    curves: NDArray[np.float64]
    chance: NDArray[np.float64]


def draw_curves(panels: Sequence[CurvePanel], title: str) -> bytes:
    """A PNG file with the panels side by side: thin lines are images, thick ones means, dashed ones chance."""
    figure = Figure(figsize=(5.2 * len(panels), 4.4), dpi=110, layout="constrained")
    figure.suptitle(title, fontsize=11)
    for place, panel in enumerate(panels, start=1):
        _draw(figure.add_subplot(1, len(panels), place), panel)
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _draw(axes: Axes, panel: CurvePanel) -> None:
    known, chance = (each[np.isfinite(each).all(axis=1)] for each in (panel.curves, panel.chance))
    shares = np.linspace(0, 100, panel.curves.shape[1])
    axes.plot(shares, known[:MOST_LINES].T, color=OWN, alpha=0.25, linewidth=0.8)
    for name, curves, colour, style in (("map", known, OWN, "-"), ("random map", chance, CHANCE, "--")):
        if len(curves):
            mean = curves.mean(axis=0)
            label = f"{name}: area {np.trapezoid(mean, shares) / 100:.3f}"
            axes.plot(shares, mean, color=colour, linestyle=style, linewidth=2.4, label=label)
    axes.set(title=panel.title, xlabel=panel.across, ylabel="probability of the target", xlim=(0, 100), ylim=(0, 1))
    axes.title.set_fontsize(10)
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
    if len(known):
        axes.legend(frameon=False, fontsize=9)
