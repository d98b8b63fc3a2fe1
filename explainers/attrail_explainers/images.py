"""Decode image files into what a model takes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from timm.data import create_transform, resolve_data_config

from attrail_explainers.errors import ConfigError, SliceError, UnknownNameError
from attrail_explainers.slice import Preprocessing

INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming")


def timm_preprocessing(model_name: str, overrides: Mapping[str, Any] | None = None) -> Preprocessing:
    """The preprocessing timm's data configuration states for one of its models."""
    if not timm.is_model(model_name):
        raise UnknownNameError.of("timm model", model_name, ["those of timm.list_models()"])
    try:
        configuration = timm.get_pretrained_cfg(model_name)
    except RuntimeError as error:  # the architecture is known, the tag after the dot is not
        known = timm.list_pretrained(f"{model_name.partition('.')[0]}.*")
        raise UnknownNameError.of("timm model", model_name, known) from error
    stated = configuration.to_dict() if configuration else {}
    found = resolve_data_config(dict(overrides or {}), pretrained_cfg=stated)
    return Preprocessing(
        size=tuple(found["input_size"][1:]),
        mean=tuple(found["mean"]),
        std=tuple(found["std"]),
        interpolation=found["interpolation"],
        crop=found["crop_pct"],
    )


def decode(paths: Sequence[Path], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Images (N,C,H,W) float32, resized, cropped and normalised by timm's evaluation transform.

    Grayscale files are repeated over three channels where the model takes three. Raises SliceError naming the first
    file that cannot be read or has another number of channels, ConfigError for an unknown interpolation.
    """
    if preprocessing.interpolation not in INTERPOLATIONS:
        raise ConfigError(
            f"unknown interpolation {preprocessing.interpolation!r}: known are {', '.join(INTERPOLATIONS)}"
        )
    transform: Any = create_transform(
        input_size=(preprocessing.channels, *preprocessing.size),
        interpolation=preprocessing.interpolation,
        mean=preprocessing.mean,
        std=preprocessing.std,
        crop_pct=preprocessing.crop,
    )
    images = np.empty((len(paths), preprocessing.channels, *preprocessing.size), dtype=np.float32)
    for row, path in enumerate(paths):
        images[row] = transform(_open(path, preprocessing.channels)).numpy()
    return images


def _open(path: Path, channels: int) -> Image.Image:
    try:
        with Image.open(path) as file:
            image = file.convert("RGB") if file.mode == "P" else file.copy()
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SliceError(f"image {path} cannot be read: {error}; replace the file or drop its row") from error
    if channels == 3 and image.mode in ("1", "L"):
        return image.convert("RGB")
    if channels == 1 and image.mode == "1":
        return image.convert("L")
    if image.mode not in {1: ("L",), 3: ("RGB",), 4: ("RGBA", "CMYK")}.get(channels, ()):
        raise SliceError(
            f"image {path} has {len(image.getbands())} channels ({image.mode}), the model takes {channels}: "
            "convert the file, or set [preprocessing] mean and std to the model's channels"
        )
    return image
