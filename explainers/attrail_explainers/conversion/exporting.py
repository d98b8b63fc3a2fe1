"""Load a pickled module, ask it about images, and export it: what the confined process does, and no other."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from attrail_explainers.conversion.outputs import NO_TENSOR, outputs_of

ARCHIVE, OUTPUTS, AGAIN = "model.pt2", "outputs.npz", "again.npz"
BATCHES = (8, 1)  # how many images at once, if not any number
TRACED = 2  # torch takes sizes 0 and 1 for constants
HEADING = "For more information, run with TORCH_LOGS"  # what ends the first line before such a list
NO_MEMORY = "allocate memory"  # torch's RuntimeError and the system's words have it in common


@dataclass(frozen=True)
class _Refusal(Exception):  # noqa: N818 - the parent makes an error of it
    kind: str
    error: BaseException | None = None
    name: str = ""


def answer(model: Path, images: Path, out: Path) -> dict[str, Any]:
    """What became of a pickle, as ``converting`` reads it; archive and outputs are in ``out`` if it went well."""
    try:
        return _converted(model, torch.from_numpy(np.load(images)), out)
    except _Refusal as refusal:
        error = refusal.error
        kind = "memory" if isinstance(error, MemoryError) or NO_MEMORY in str(error) else refusal.kind
        return {"refused": kind, "said": _told(error), "name": refusal.name}


def _converted(model: Path, images: torch.Tensor, out: Path) -> dict[str, Any]:
    module = _loaded(model)
    training = any(each.training for each in module.modules())
    module.eval()
    batch, why = _taken(module, images)
    program, fixed, why = _exported(module, images, batch, why)
    outputs, again = (outputs_of(module, images, fixed or batch, fixed=fixed is not None) for _ in range(2))
    torch.export.save(program, out / ARCHIVE)
    for name, arrays in ((OUTPUTS, outputs), (AGAIN, again)):
        np.savez(out / name, *arrays)
    kind = type(module)
    return {"module": f"{kind.__module__}.{kind.__qualname__}", "training": training, "why_fixed": why}


def _loaded(model: Path) -> torch.nn.Module:
    try:
        found = torch.load(model, map_location="cpu", weights_only=False)
    except ModuleNotFoundError as error:
        raise _Refusal("missing", error, error.name or "") from error
    except Exception as error:
        raise _Refusal("load", error) from error
    if isinstance(found, torch.jit.ScriptModule):
        raise _Refusal("script")
    if not isinstance(found, torch.nn.Module):
        raise _Refusal("module", name=type(found).__name__)
    return found


def _taken(module: torch.nn.Module, images: torch.Tensor) -> tuple[int, str]:
    """How many images the module takes at once, of ``BATCHES``, and why no more."""
    reason: Exception | None = None
    for batch in BATCHES:
        try:
            outputs_of(module, images[:batch], batch, fixed=False)
        except Exception as error:  # noqa: BLE001 - whatever the module raises
            reason = reason or error
        else:
            return batch, _told(reason)
    raise _Refusal("outputs" if str(reason) == NO_TENSOR else "call", reason) from reason


def _exported(
    module: torch.nn.Module, images: torch.Tensor, batch: int, why: str
) -> tuple[torch.export.ExportedProgram, int | None, str]:
    """The program, the one number of images that it takes (None: any), and why it does."""
    if batch > 1:
        example = images[:TRACED].clone()
        shapes = torch.export.ShapesCollection()
        shapes[example] = {0: torch.export.Dim.DYNAMIC}
        try:
            return torch.export.export(module, (example,), dynamic_shapes=shapes), None, ""
        except Exception as error:  # noqa: BLE001 - whatever torch or the module raises
            why = _told(error)
    try:
        return torch.export.export(module, (images[:batch].clone(),)), batch, why
    except Exception as error:
        raise _Refusal("export", error) from error


def _told(error: BaseException | None) -> str:
    """The line of what an error says that says what it is: of torch's lists of constraints the first of them."""
    if error is None:
        return ""
    lines = [each.strip() for each in str(error).splitlines() if each.strip()]
    listed = [each.removeprefix("- ") for each in lines if each.startswith("- ")]
    return (listed if HEADING in lines[0] else lines)[0] if lines else type(error).__name__
