"""Keras models on Keras' torch backend, where their layers are torch modules."""

import copy
import os
from pathlib import Path
from typing import Any

import torch

os.environ.setdefault("KERAS_BACKEND", "torch")  # read once, when Keras is imported
import keras  # type: ignore[import-untyped]

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.returned import channels_first
from attrail_explainers.model_files.keras_file import read_config
from attrail_explainers.slice import PIXELS, require_known_numbers

SEED = "seed_generator_state"  # of dropout and other layers that draw


class KerasNetwork(torch.nn.Module):
    """A Keras model behind images (N,C,H,W), its layers as submodules under their own names.

    Keras keeps layers where torch does not look for submodules.
    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.held = (model,)  # in a tuple, or its weights would be here twice
        self.turns = keras.config.image_data_format() == "channels_last"
        for layer in model._flatten_layers(include_self=False, recursive=True):
            name = layer.name.replace(".", "_")
            taken = sum(known == name or known.startswith(f"{name}__") for known in self._modules)
            self.add_module(f"{name}__{taken}" if taken else name, layer)
        self.register_state_dict_post_hook(_without_seeds)  # type: ignore[no-untyped-call]

    def forward(self, images: torch.Tensor) -> Any:
        """What the model gives for images (N,C,H,W), its grids as (N,C,h,w)."""
        if not self.turns:
            return self.held[0](images, training=False)
        return channels_first(self.held[0](images.permute(0, 2, 3, 1), training=False))

    def __deepcopy__(self, memo: dict[int, Any]) -> "KerasNetwork":
        return KerasNetwork(copy.deepcopy(self.held[0], memo))


def _without_seeds(module: torch.nn.Module, state: dict[str, Any], prefix: str, metadata: Any) -> None:
    """Seeds are drawn and numbered whenever a model is loaded, and never used where nothing is trained."""
    for name in [each for each in state if each.endswith(SEED)]:
        del state[name]


def classifier_from_keras(path: Path, name: str, version: str) -> Classifier:
    """A classifier from a .keras file, whatever backend it was saved from.

    Raises UnsupportedModelError when the file is not as it must be, has parts that are not Keras' own, takes anything
    but images, or this process runs Keras on another backend than torch.
    """
    label = f"{name}/{version}"
    if keras.backend.backend() != "torch":
        raise UnsupportedModelError(
            f"model {label} is one of Keras, which this process runs on {keras.backend.backend()}: set "
            "KERAS_BACKEND=torch before it starts"
        )
    config = read_config(path, label)
    try:
        model = keras.saving.load_model(path, compile=False, safe_mode=True)
    except MemoryError:
        raise
    except Exception as error:  # Keras raises whatever its layers do
        raise UnsupportedModelError(
            f"model {label} cannot be read by Keras {keras.__version__}: {excerpt(error)}; save it again with this one"
        ) from error
    shape = getattr(model, "input_shape", None)
    if not isinstance(shape, tuple) or len(shape) != 4:
        raise UnsupportedModelError(
            f"model {label}: expected one input of images, its input is {excerpt(repr(shape))}; log a model "
            "of images alone"
        )
    program = {"format": "attrail.keras/1", "config": config, "library": keras.__version__}
    found = Classifier(
        name, version, KerasNetwork(model).eval(), batch_size=shape[0], program_digest=digest_of(program)
    )
    kind = str(model.inputs[0].dtype)
    require_known_numbers(label, kind)
    return found.declared(kind) if kind == PIXELS else found  # floats: Keras makes them of any numbers
