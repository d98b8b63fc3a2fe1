"""A kind of models: what each file of ``kinds/`` says about one task."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from drawing import SIDE
from torch import nn

FOLDER = Path(__file__).parent / "kinds"


@dataclass(frozen=True)
class Kind:
    """Models of one ``task``, which is a ``[task]`` table's lines, and the slice that they are asked about.

    ``train`` gives a model for a seed and whether the marks in its training images give the answers away;
    ``write_slice`` writes images, on which they do, and ``slice.csv`` into a folder. ``says`` is a sentence for the
    page, ``explainers`` are tables of the configuration, ``side`` is that of the model's images in pixels.
    """

    task: str
    says: str
    classes: tuple[str, ...]
    train: Callable[[int, bool], nn.Module]
    write_slice: Callable[[Path], None]
    explainers: str = '[[explainer]]\nname = "gradcam"\n\n[[explainer]]\nname = "shap"\nevaluations = 96\n'
    side: int = SIDE


def kinds() -> dict[str, Kind]:
    """Every kind by the name of its file, which exports it as ``KIND``."""
    names = sorted(path.stem for path in FOLDER.glob("*.py") if path.stem != "__init__")
    return {name: import_module(f"kinds.{name}").KIND for name in names}
