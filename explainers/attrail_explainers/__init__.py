"""attrail_explainers: maps of what an image classifier looks at. Importing it loads no torch, using it does."""

from typing import TYPE_CHECKING, Any

from attrail_explainers.attributions import Attributions, load_attributions, save_attributions
from attrail_explainers.errors import AttrailError
from attrail_explainers.slice import Preprocessing, Slice

if TYPE_CHECKING:
    from attrail_explainers.assessment.assessment import assess
    from attrail_explainers.explanation import explain

__all__ = [
    "AttrailError",
    "Attributions",
    "Preprocessing",
    "Slice",
    "assess",
    "explain",
    "load_attributions",
    "save_attributions",
]


def __getattr__(name: str) -> Any:
    if name == "explain":
        from attrail_explainers.explanation import explain  # noqa: PLC0415 - it loads torch

        return explain
    if name == "assess":
        from attrail_explainers.assessment.assessment import assess  # noqa: PLC0415 - it loads torch

        return assess
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
