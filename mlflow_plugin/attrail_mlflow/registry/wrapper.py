"""Models of MLflow's python_function that are somebody's own code around a file: looked through to that file.

The wrapper's Python, pickled or as a script, is never run, nor is it read: what is explained is the file.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from attrail_explainers.errors import RegistryError
from attrail_explainers.excerpt import excerpt
from attrail_mlflow.flavour import Flavour, flavours

LOADERS = {"mlflow.pyfunc.model", "mlflow.pyfunc.loaders.code_model"}  # pickled wrappers, and models from code
BELOW = "artifacts/"  # where MLflow keeps the files that were logged with a wrapper
SHOWN = 3
KINDS = "ONNX (.onnx), Keras (.keras), exported PyTorch (.pt2) or transformers (config.json beside safetensors)"


@dataclass(frozen=True)
class Wrapped:
    """The model inside of a wrapper: its ``flavour``, its own ``file``, and its ``data`` as the flavour has it."""

    flavour: Flavour
    file: str
    data: str


def is_wrapper(python_function: Mapping[str, Any] | None) -> bool:
    """Whether MLmodel's section is that of somebody's own code."""
    return python_function is not None and python_function.get("loader_module") in LOADERS


def wrapped(names: Collection[str], what: str) -> Wrapped:
    """The one model among the names, with slashes, of a wrapper's files.

    Raises RegistryError, which names the model as ``what``, where there is none that can be read without the wrapper's
    code, or several.
    """
    below = {name for name in names if name.startswith(BELOW)}
    found = [Wrapped(each, *pair) for each in flavours() for pair in sorted(each.inside(below).items())]
    if len(found) == 1:
        return found[0]
    told = f"{what} is a python_function of its own code, which is never run here"
    if found:
        listed = ", ".join(excerpt(each.file) for each in found[:SHOWN])
        raise RegistryError(
            f"{told}, around {len(found)} models ({listed}): log the one that is to be explained by itself, with its "
            "own flavour of MLflow"
        )
    files = ", ".join(excerpt(each) for each in sorted(below)[:SHOWN]) or "nothing that was logged as its artifacts"
    raise RegistryError(
        f"{told}, around {files}, among which is no model in {KINDS}: log the model itself with its own flavour, such "
        "as mlflow.pytorch.log_model, or such a file among the wrapper's artifacts"
    )
