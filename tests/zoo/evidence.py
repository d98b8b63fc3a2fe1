"""What one model shows on one slice: its maps by attrail's own explainers, and its answers."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType

import cache as files
import numpy as np
import torch
from cache import Cache
from numpy.typing import NDArray
from recipe import Recipe
from training import made, untrained

from attrail_explainers.attributions import Attributions
from attrail_explainers.digest import digest_of
from attrail_explainers.errors import ExplanationError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.slice import Slice
from attrail_monitoring.maps.grid import to_grid

GRID = 14  # what a policy compares on by default; finer maps are averaged before they are kept
# 25 windows of occlusion are 13,000 images through the model for one slice.
Explainers = tuple[tuple[str, dict[str, int]], ...]
EXPLAINERS: Explainers = (("gradcam", {}), ("occlusion", {"window": 8, "stride": 6}))
VERSION = 2


@dataclass(frozen=True)
class Evidence:
    """Maps (N,h,w) float32 under each explainer's name, NaN where undefined; ``logits`` (N,classes) are the answers.

    ``parameters`` are each explainer's, with the layer it found.
    """

    maps: dict[str, NDArray[np.float32]]
    parameters: dict[str, dict[str, object]]
    logits: NDArray[np.float32]


def evidence_key(slice_: Slice, explainers: Explainers) -> str:
    return digest_of({"slice": slice_.digest, "explainers": explainers, "grid": GRID, "version": VERSION})


def model_of(recipe: Recipe, cache: Cache, folder: Path) -> torch.nn.Module:
    """The model of a recipe: read, or made and kept."""
    path = cache.weights(recipe)
    if not path.is_file():
        ancestors = [model_of(each, cache, folder) for each in recipe.ancestors]
        files.write(path, made(recipe, ancestors, folder).state_dict(), {"recipe": repr(recipe)})
    weights, _ = files.read(path)
    model = untrained(recipe, folder)
    model.load_state_dict(weights)
    return model.eval()


def explain(
    classifier: Classifier,
    slice_: Slice,
    explainers: Explainers,
    path: Path,
    facts: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Explain the slice's labels and keep the maps and the answers, ``facts`` beside them.

    An explainer that gives no map is left out.
    """
    found = [maps for method in explainers for maps in _maps(classifier, slice_, *method)]
    tensors = {maps.explainer: torch.from_numpy(to_grid(maps.values, GRID).astype(np.float32)) for maps in found}
    tensors["logits"] = torch.from_numpy(classifier.logits(slice_.images, slice_.sample_ids))
    parameters = {maps.explainer: dict(maps.parameters) for maps in found}
    files.write(path, tensors, {"parameters": json.dumps(parameters), **facts})


def _maps(classifier: Classifier, slice_: Slice, name: str, parameters: dict[str, int]) -> list[Attributions]:
    try:
        return explain_slice(classifier, slice_, [make_explainer(name, parameters)], slice_.labels, seed=0)
    except ExplanationError:  # no map for any image: the verdict says so where one is needed
        return []


@cache
def read_evidence(path: Path) -> Evidence:
    tensors, facts = files.read(path)
    parameters = json.loads(facts["parameters"])
    return Evidence({name: tensors[name].numpy() for name in parameters}, parameters, tensors["logits"].numpy())
