"""Turn model files into classifiers. Nothing here unpickles: the caller has checked the archive."""

from pathlib import Path
from typing import Any

import torch

from attrail_explainers.classifier import Classifier
from attrail_explainers.errors import UnsupportedModelError


def classifier_from_export(archive: Path, name: str, version: str) -> Classifier:
    """A classifier from a ``torch.export`` archive (.pt2), as MLflow logs PyTorch models by default.

    ``ExportedProgram.module()`` never fires hooks on submodules, so hooks go through the unflattened program, whose
    submodules keep their names; plain calls go through the faster graph. The archive must have passed MLflow's
    pickle-free scan before.
    """
    program = torch.export.load(archive)
    graph: Any = program.module()
    return Classifier(name, version, torch.export.unflatten(program), graph, batch_size=_fixed_batch(program))


def classifier_from_module(module: Any, name: str, version: str) -> Classifier:
    """A classifier from an ordinary torch module; UnsupportedModelError for anything else."""
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule):
        raise UnsupportedModelError(
            f"model {name}/{version}: expected an ordinary torch.nn.Module, got {type(module).__name__}; "
            "log the model in MLflow's default pt2 format"
        )
    return Classifier(name, version, module)


def _fixed_batch(program: torch.export.ExportedProgram) -> int | None:
    """The batch size the program was exported for, None when it takes any."""
    inputs = program.graph_signature.user_inputs
    shapes = [node.meta["val"].shape for node in program.graph.nodes if node.name in inputs]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise UnsupportedModelError(
            f"expected a model with one image input (N,C,H,W), got inputs of shape {[tuple(s) for s in shapes]}"
        )
    first = shapes[0][0]
    return first if isinstance(first, int) else None
