"""Keras' own files (.keras): an archive of a description, which must name nothing but Keras, and of weights."""

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt

MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
LARGEST = 64 * 2**20  # bytes of a description
CODE = {"Lambda", "__lambda__", "function"}  # what Keras keeps as code, or looks up by a name from anywhere


def read_config(path: Path, label: str) -> dict[str, Any]:
    """The description of a model in a .keras file, of Keras' own parts alone.

    Raises UnsupportedModelError, which names the model by ``label``, for an archive that is none, and for a part that
    is code or comes from another package: Keras would import what it names.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            extra = sorted(set(archive.namelist()) - MEMBERS)
            if extra or archive.getinfo("config.json").file_size > LARGEST:
                raise ValueError(f"it holds {excerpt(repr(extra))}" if extra else "its description is too large")
            found = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, RecursionError, OSError) as error:
        raise UnsupportedModelError(
            f"model {label}: its file {path.name} is no .keras file ({excerpt(error)}); save it again as NAME.keras"
        ) from error
    foreign = sorted(set(_foreign(found)))
    if foreign:
        raise UnsupportedModelError(
            f"model {label} has parts that are not Keras' own, whose code is never run here: "
            f"{excerpt(', '.join(foreign))}; build it of Keras' layers, or log it as ONNX (model.export)"
        )
    return dict(found)


def _foreign(value: Any) -> Iterator[str]:
    """Classes that are code or another package's, wherever they stand."""
    if isinstance(value, dict):
        kind, module = value.get("class_name"), value.get("module")
        own = module is None or module == "keras" or str(module).startswith("keras.")
        if "module" in value and module is None and value.get("registered_name"):
            yield str(value["registered_name"])
        if kind in CODE or not own:
            yield f"{module}.{kind}" if module else str(kind)
        value = list(value.values())
    if isinstance(value, list):
        for each in value:
            yield from _foreign(each)
