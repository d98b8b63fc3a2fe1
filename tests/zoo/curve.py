"""The picture of the failure curve: power of every detector against the share of images that carry the mark."""

import io

from detectors import NAMES
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rates import power
from recipe import RARITY
from results import Results

OWN, OTHERS = "#1f4e9c", ("#8a6d3b", "#b5651d", "#888888", "#bbbbbb", "#5b8c5a", "#9b5b8c")


def draw(results: Results) -> bytes:
    """A PNG file with one panel per number of images."""
    figure = Figure(figsize=(9, 3.6), dpi=90, layout="constrained")
    for place, images in enumerate(results.sizes, start=1):
        _panel(figure.add_subplot(1, len(results.sizes), place), results, images)
    figure.axes[0].set_ylabel("share of audits flagged")
    figure.axes[-1].legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    file = io.BytesIO()
    figure.savefig(file, format="png", metadata={"Software": None})
    return file.getvalue()


def _panel(axes: Axes, results: Results, images: int) -> None:
    shares = [100 * share for share in RARITY.values()]
    for name, colour in zip(NAMES, (OWN, *OTHERS), strict=True):
        powers = [power(results.harmful(images, group), name) for group in RARITY]
        axes.plot(
            shares,
            powers,
            color=colour,
            marker="o",
            markersize=3,
            linewidth=2.4 if name == "attrail" else 1,
            label=name,
        )
    axes.set(title=f"{images} images", xlabel="% of the images that carry the mark", xscale="log", ylim=(-0.03, 1.03))
    axes.set_xticks(shares, [f"{share:g}" for share in shares])
    axes.minorticks_off()
    axes.grid(color="0.9")
    axes.set_axisbelow(True)
