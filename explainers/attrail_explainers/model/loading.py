"""Turn model files into classifiers. Nothing here unpickles, and nothing runs code that came with a model."""

import logging
import tempfile
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from attrail_explainers.digest import digest_of_file
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.pixels import Pixels
from attrail_explainers.model.repeatability import require_no_training
from attrail_explainers.model_files.export_archive import LOG_AGAIN, copy_checked
from attrail_explainers.model_files.pickle_digest import pickle_digest
from attrail_explainers.model_files.program_digest import program_digest
from attrail_explainers.slice import PIXELS, require_known_numbers


def classifier_from_export(archive: Path, name: str, version: str) -> Classifier:
    """A classifier from a ``torch.export`` archive (.pt2), as MLflow logs PyTorch models by default.

    ``ExportedProgram.module()`` never fires hooks on submodules, so hooks go through the unflattened program, whose
    submodules keep their names; plain calls go through the faster graph. torch reads a checked copy of the archive
    (``export_archive``). Raises UnsupportedModelError when the archive is not what ``torch.export.save`` writes, torch
    cannot read it, or it was exported in training mode.
    """
    label = f"{name}/{version}"
    with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
        checked = Path(folder, "model.pt2")
        exported_by = copy_checked(archive, checked, label)
        try:
            program = _loaded(checked)
            graph: Any = program.module()
            module = torch.export.unflatten(program)
        except MemoryError:
            raise
        except Exception as error:  # torch raises whatever its deserializer stumbles over
            raise UnsupportedModelError(_unreadable(label, exported_by, error)) from error
    require_no_training(program, label)
    computes = program_digest(program, module.state_dict()) or digest_of_file(archive)
    fixed, takes = _input(program, label)
    found = Classifier(name, version, module, graph, batch_size=fixed, program_digest=computes, takes=takes)
    if takes != PIXELS:
        return found
    _let_floats_in(graph, module)
    return replace(found, pixels=Pixels())


def _loaded(archive: Path) -> torch.export.ExportedProgram:
    """The program in an archive; what torch raises, and of two errors the first.

    ``torch.export.load`` only warns of what it stumbles over, and then raises that the warnings have to be read.
    """
    stumbled: list[BaseException] = []

    def keep(record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info and record.thread == threading.get_ident() else None
        stumbled.extend([error] if error else [])
        return error is None

    loader = logging.getLogger("torch.export")
    loader.addFilter(keep)
    try:
        return torch.export.load(archive)
    except RuntimeError as error:
        raise stumbled[0] if stumbled else error from None
    finally:
        loader.removeFilter(keep)


def _unreadable(label: str, exported_by: str, error: Exception) -> str:
    """Why torch cannot read an archive whose members are what they should be."""
    reason = excerpt((str(error).strip() or type(error).__name__).splitlines()[-1].partition(". ")[0])
    if exported_by != torch.__version__:
        return f"model {label} was exported by torch {exported_by}, this is {torch.__version__} ({reason}); {LOG_AGAIN}"
    return f"model {label} cannot be read by torch {torch.__version__} ({reason}); {LOG_AGAIN}"


def classifier_from_pickle(path: Path, pickle_module: Any, name: str, version: str) -> Classifier:
    """A classifier from a pickled module, which may run any code: for those who allowed it, in a process of its own.

    Raises UnsupportedModelError when the pickle's code is not installed here, or it is damaged or no ordinary module.
    """
    try:
        module = torch.load(path, map_location="cpu", weights_only=False, pickle_module=pickle_module)
    except MemoryError:
        raise
    except Exception as error:  # a pickle raises whatever its code does
        reason = excerpt((str(error).strip() or type(error).__name__).splitlines()[0])
        raise UnsupportedModelError(
            f"model {name}/{version} is pickled and cannot be loaded here: {reason}; install the code that it "
            "needs, or log the model as pt2"
        ) from error
    classifier = classifier_from_module(module, name, version)
    module.eval()
    return replace(classifier, program_digest=pickle_digest(path, module))


def classifier_from_module(module: Any, name: str, version: str) -> Classifier:
    """A classifier from an ordinary torch module; UnsupportedModelError for anything else."""
    if not isinstance(module, torch.nn.Module) or isinstance(module, torch.jit.ScriptModule | torch.fx.GraphModule):
        raise UnsupportedModelError(
            f"model {name}/{version}: expected an ordinary torch.nn.Module, got {type(module).__name__}; "
            "log the model in MLflow's default pt2 format"
        )
    return Classifier(name, version, module)


def _input(program: torch.export.ExportedProgram, label: str) -> tuple[int | None, str]:
    """The batch size the program was exported for, None when it takes any, and the numbers it takes.

    Raises UnsupportedModelError for a program with another input than one of images.
    """
    inputs = program.graph_signature.user_inputs
    found = [node.meta["val"] for node in program.graph.nodes if node.name in inputs]
    shapes = [each.shape for each in found]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise UnsupportedModelError(
            f"model {label}: expected one image input (N,C,H,W), got inputs of shape {[tuple(s) for s in shapes]}; "
            "log a model of images alone"
        )
    takes = str(found[0].dtype).removeprefix("torch.")
    require_known_numbers(label, takes)
    first = shapes[0][0]
    return first if isinstance(first, int) else None, takes


def _let_floats_in(*exported: torch.nn.Module) -> None:
    """Drop the checks that an export makes of its tensors' types: a gradient leads back to floats alone."""
    for part in [each for module in exported for each in module.modules()]:
        graph = getattr(part, "graph", None)
        for node in list(graph.nodes) if isinstance(graph, torch.fx.Graph) else ():
            if node.target is torch.ops.aten._assert_tensor_metadata.default:
                node.graph.erase_node(node)
        if isinstance(part, torch.fx.GraphModule):
            part.recompile()
