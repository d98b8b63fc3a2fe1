"""Decode image files into what a model takes."""

import struct
import tokenize
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import BITSPERSAMPLE, SAMPLESPERPIXEL, TiffImageFile
from tifffile import TiffFile
from timm.data import create_transform, resolve_data_config

from attrail_explainers.errors import ConfigError, SliceError, UnknownNameError
from attrail_explainers.slice import Preprocessing

# What Pillow, tifffile and NumPy raise for files that are not what they seem.
UNREADABLE = (
    OSError,
    ValueError,
    SyntaxError,
    KeyError,
    IndexError,
    TypeError,
    EOFError,
    ArithmeticError,
    MemoryError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    Image.DecompressionBombError,
)
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

    Pictures of 8 bits go through it as they are. Deeper ones, TIFF files with any number of channels and NumPy's .npy
    arrays (H,W) or (H,W,C) go through it channel by channel as floating-point numbers: whole numbers without a sign are
    divided by the largest one of their type, floating-point ones are taken as they are. Grayscale is repeated over
    three channels where the model takes three. An alpha channel is a channel like others: it is for models with
    four, and never dropped. Raises SliceError naming the first file that cannot be read or has another number of
    channels, ConfigError for an unknown interpolation.
    """
    if preprocessing.interpolation not in INTERPOLATIONS:
        raise ConfigError(
            f"unknown interpolation {preprocessing.interpolation!r}: known are {', '.join(INTERPOLATIONS)}"
        )
    images = np.empty((len(paths), preprocessing.channels, *preprocessing.size), dtype=np.float32)
    whole = _transform(preprocessing, preprocessing.mean, preprocessing.std)
    plane = _transform(preprocessing, (0.0,), (1.0,))
    mean, std = (np.reshape(each, (-1, 1, 1)) for each in (preprocessing.mean, preprocessing.std))
    for row, path in enumerate(paths):
        found = _open(path, preprocessing.channels)
        if isinstance(found, Image.Image):
            images[row] = whole(found).numpy()
        else:
            planes = [plane(Image.fromarray(each)).numpy()[0] for each in np.moveaxis(found, -1, 0)]
            images[row] = (np.stack(planes) - mean) / std
    return images


def _transform(preprocessing: Preprocessing, mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    """The evaluation transform of timm, from a picture to a normalised tensor (C,H,W)."""
    return create_transform(
        input_size=(len(mean), *preprocessing.size),
        interpolation=preprocessing.interpolation,
        mean=mean,
        std=std,
        crop_pct=preprocessing.crop,
    )


def _open(path: Path, channels: int) -> Image.Image | NDArray[np.float32]:
    """A picture of 8 bits, or an array (H,W,C), with as many channels as the model takes."""
    try:
        found = _read(path, channels)
        plain = found if isinstance(found, Image.Image) else _floats(found)
    except UNREADABLE as error:
        reason = str(error) or type(error).__name__
        raise SliceError(f"image {path} cannot be read: {reason}; replace the file or drop its row") from error
    if isinstance(plain, Image.Image):
        return _with_channels(plain, path, channels)
    if plain.shape[2] == 1 and channels == 3:
        return np.repeat(plain, 3, axis=2)
    if plain.shape[2] != channels:
        raise _other_channels(path, plain.shape[2], "an array", channels)
    return plain


def _read(path: Path, channels: int) -> Image.Image | NDArray[Any]:
    """A picture where Pillow keeps all that the file holds, else the array."""
    if path.suffix.lower() == ".npy":
        return np.asarray(np.load(path, allow_pickle=False))
    try:
        with Image.open(path) as file:
            if isinstance(file, TiffImageFile) and _beyond_pillow(file, channels):
                return _tiff(path, channels)
            if file.format == "PNG" and file.tile[0].args in ("RGB;16B", "RGBA;16B"):
                return _deep_png(path)
            picture = file.convert("RGB") if file.mode == "P" else file.copy()
    except UnidentifiedImageError:
        if path.suffix.lower() not in (".tif", ".tiff"):
            raise
        return _tiff(path, channels)
    return np.asarray(picture) if picture.mode[0] in "FI" else picture  # numbers of 16 or 32 bits


def _deep_png(path: Path) -> NDArray[np.uint16]:
    """A PNG file with 16 bits in each of several channels (H,W,C).

    Pillow keeps the high byte alone; told that the bytes come the other way round, it keeps the low one. (Torchvision's
    decoder keeps both, but dies on damaged files.)
    """
    halves = []
    for order in ("16B", "16L"):
        with Image.open(path) as file:
            file.tile = [tile._replace(args=str(tile.args).replace("16B", order)) for tile in file.tile]
            halves.append(np.asarray(file, dtype=np.uint16))
    return halves[0] * np.uint16(256) + halves[1]


def _beyond_pillow(file: TiffImageFile, channels: int) -> bool:
    """Whether Pillow would drop bits, channels or pages: it makes 8 bits of deep colour and sees one page at a time."""
    samples, bits = file.tag_v2.get(SAMPLESPERPIXEL, 1), file.tag_v2.get(BITSPERSAMPLE, (8,))
    deep = samples > 1 and max(bits) > 8
    wider = samples > len(file.getbands()) and channels > len(file.getbands())
    return bool(deep or wider or (file.n_frames > 1 and (channels == file.n_frames or channels > 4)))


def _tiff(path: Path, channels: int) -> NDArray[Any]:
    """The first series of a TIFF file as (H,W,C); pages of one series are channels."""
    with TiffFile(path) as file:
        axes, array = file.series[0].axes, file.series[0].asarray()
    others = [place for place, axis in enumerate(axes) if axis not in "YX"]
    if array.ndim - len(others) != 2 or len(others) > 1:
        raise ValueError(f"it holds an array of shape {array.shape}, not height, width and channels")
    # Q is an axis that tifffile could not name: written without a word about its channels, (H,W,C) looks like pages.
    pages = not (axes == "QYX" and array.shape[0] != channels == array.shape[2])
    return np.moveaxis(array, others, [-1] * len(others)) if pages else array


def _floats(array: NDArray[Any]) -> NDArray[np.float32]:
    """An array (H,W) or (H,W,C) as (H,W,C) float32, unsigned whole numbers on the scale of 0..1."""
    if array.ndim not in (2, 3) or 0 in array.shape:
        raise ValueError(f"it holds an array of shape {array.shape}, not (H,W) or (H,W,C)")
    if array.dtype.kind not in "buf":
        raise ValueError(f"it holds {array.dtype} values, not unsigned whole or floating-point numbers")
    largest = np.iinfo(array.dtype).max if array.dtype.kind == "u" else 1
    floats: NDArray[np.float32] = np.atleast_3d(array / largest).astype(np.float32)
    if not np.isfinite(floats).all():
        raise ValueError("it holds NaN or infinite values")
    return floats


def _with_channels(picture: Image.Image, path: Path, channels: int) -> Image.Image:
    if channels == 3 and picture.mode in ("1", "L"):
        return picture.convert("RGB")
    if channels == 1 and picture.mode == "1":
        return picture.convert("L")
    if picture.mode not in {1: ("L",), 3: ("RGB",), 4: ("RGBA", "CMYK")}.get(channels, ()):
        raise _other_channels(path, len(picture.getbands()), picture.mode, channels)
    return picture


def _other_channels(path: Path, found: int, kind: str, channels: int) -> SliceError:
    alpha = "flatten its alpha channel onto a background, " if kind in ("LA", "PA", "RGBA") else ""
    return SliceError(
        f"image {path} has {found} channels ({kind}), the model takes {channels}: {alpha}"
        "convert the file, or set [preprocessing] mean and std to the model's channels"
    )
