"""attrail_explainers: maps of what an image classifier looks at.

Importing the package loads no torch; using one of its names does. ``explainers/README.md`` shows each of them at work.
"""

from typing import TYPE_CHECKING

from attrail_explainers.lazy import lazy_names

if TYPE_CHECKING:
    from attrail_explainers.assessment.assessment import Assessment, assess
    from attrail_explainers.assessment.check import check_names, make_check
    from attrail_explainers.attributions import Attributions, load_attributions, save_attributions
    from attrail_explainers.difference import Difference, explain_difference
    from attrail_explainers.errors import AttrailError
    from attrail_explainers.explainer import explainer_names, make_explainer
    from attrail_explainers.explanation import explain
    from attrail_explainers.inspection.exhibit import exhibit_names
    from attrail_explainers.inspection.looking import look_inside
    from attrail_explainers.model.task import make_task, task_names
    from attrail_explainers.slice import Preprocessing, Slice
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        {
            "Assessment": "assessment.assessment",
            "AttrailError": "errors",
            "Attributions": "attributions",
            "Difference": "difference",
            "Preprocessing": "slice",
            "Slice": "slice",
            "assess": "assessment.assessment",
            "check_names": "assessment.check",
            "exhibit_names": "inspection.exhibit",
            "explain": "explanation",
            "explain_difference": "difference",
            "explainer_names": "explainer",
            "load_attributions": "attributions",
            "look_inside": "inspection.looking",
            "make_check": "assessment.check",
            "make_explainer": "explainer",
            "make_task": "model.task",
            "save_attributions": "attributions",
            "task_names": "model.task",
        },
    )

__all__ = [
    "Assessment",
    "AttrailError",
    "Attributions",
    "Difference",
    "Preprocessing",
    "Slice",
    "assess",
    "check_names",
    "exhibit_names",
    "explain",
    "explain_difference",
    "explainer_names",
    "load_attributions",
    "look_inside",
    "make_check",
    "make_explainer",
    "make_task",
    "save_attributions",
    "task_names",
]
