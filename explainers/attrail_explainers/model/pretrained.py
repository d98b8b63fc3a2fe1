"""Models of Hugging Face's transformers, read from what ``save_pretrained`` wrote: neither code nor pickles."""

import contextlib
import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers.utils import logging as transformers_logging

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model.classifier import Classifier

IMAGES = "pixel_values"  # what transformers calls a model's input of images (N,C,H,W)
OF_THIS_COPY = {"_name_or_path", "transformers_version"}  # keys of a configuration that say nothing of the function
SHOWN = 3


class TurnedChannels(torch.nn.Module):
    """A model that takes blue, green, red, behind an input of red, green, blue as everything here has it."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: torch.Tensor) -> Any:
        """What the model gives for images (N,3,H,W)."""
        return self.model(images.flip(1))


def classifier_from_pretrained(folder: Path, name: str, version: str, *, turned: bool = False) -> Classifier:
    """A classifier from the folder that ``save_pretrained`` wrote, in float32 whatever it was kept in.

    The class is the first of ``architectures`` in its configuration, one of transformers' own; ``turned`` puts the
    model behind ``TurnedChannels``, where its image processor turns channels round. Raises UnsupportedModelError when
    there is no such class, it takes no images, or the weights are not exactly those that the class needs:
    transformers would draw missing ones at random.
    """
    label = f"{name}/{version}"
    config = json.loads((folder / "config.json").read_bytes())
    kind = _class_of(config, label)
    try:
        with _quiet():
            model, found = kind.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                dtype=torch.float32,
                ignore_mismatched_sizes=True,  # they are refused below, by name
                output_loading_info=True,
            )
    except MemoryError:
        raise
    except Exception as error:  # transformers raises whatever its configurations and layers stumble over
        raise UnsupportedModelError(
            f"model {label} cannot be read by transformers {transformers.__version__} as {kind.__name__}: "
            f"{excerpt(error)}; log it again with this version"
        ) from error
    _require_all(found, kind.__name__, label)
    program = {
        "format": "attrail.transformers/1",
        "class": kind.__name__,
        "config": {key: value for key, value in config.items() if key not in OF_THIS_COPY},
        "library": transformers.__version__,
        "turned": turned,
    }
    module = TurnedChannels(model) if turned else model
    return Classifier(name, version, module.eval(), program_digest=digest_of(program))


def _class_of(config: Any, label: str) -> Any:
    named = config.get("architectures") or ["nothing"]
    kind = getattr(transformers, str(named[0]), None)
    if not (isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)):
        raise UnsupportedModelError(
            f"model {label} is a {excerpt(str(named[0]))}, which transformers {transformers.__version__} does not "
            "have; install the version that it was logged with, or log it again with this one"
        )
    if kind.main_input_name != IMAGES:
        raise UnsupportedModelError(
            f"model {label} is a {kind.__name__}, which takes {kind.main_input_name}: attrail explains models of images"
        )
    return kind


def _require_all(found: dict[str, Any], kind: str, label: str) -> None:
    """No weight is missing, of another shape or left over."""
    told_of = {"missing_keys": "lacks", "mismatched_keys": "has another shape of", "unexpected_keys": "has"}
    for key, told in told_of.items():
        names = sorted(str(each[0] if isinstance(each, tuple) else each) for each in found.get(key) or ())
        if names:
            shown = ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
            raise UnsupportedModelError(
                f"model {label} {told} {shown}, which does not fit a {kind}: log the model as the class that it was "
                "trained as"
            )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Neither transformers' progress bars nor its reports of what was loaded, in the block."""
    shown, level = transformers_logging.is_progress_bar_enabled(), transformers_logging.get_verbosity()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if shown:
            transformers_logging.enable_progress_bar()  # type: ignore[no-untyped-call]
