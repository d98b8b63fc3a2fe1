"""Decode image files into what a model takes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import timm
from numpy.typing import NDArray
from PIL import Image
from timm.data import create_transform, resolve_data_config

from attrail_explainers.errors import SliceError, UnknownNameError
from attrail_explainers.files.channels import OtherChannelsError
from attrail_explainers.files.index_mask import read_indices
from attrail_explainers.files.picture_file import read_picture
from attrail_explainers.files.picture_source import Picture
from attrail_explainers.slice import Preprocessing

WHITE = 0.5  # of the largest number of a type: what is lighter is marked by a mask


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
    data = resolve_data_config(dict(overrides or {}), pretrained_cfg=stated)
    return Preprocessing(
        size=tuple(data["input_size"][1:]),
        mean=tuple(data["mean"]),
        std=tuple(data["std"]),
        interpolation=data["interpolation"],
        crop=data["crop_pct"],
        crop_mode=data["crop_mode"],
    )


def decode(pictures: Sequence[Picture], preprocessing: Preprocessing) -> NDArray[np.float32]:
    """Images (N,C,H,W) float32, turned upright, resized, cropped and normalised by timm's evaluation transform.

    Pictures of 8 bits go through it as they are. Deeper ones, TIFF files with any number of channels and NumPy's .npy
    arrays (H,W) or (H,W,C) go through it channel by channel as floating-point numbers. Grayscale is repeated over
    three channels where the model takes three. Transparency is a channel like others: it is for models with four, and
    never dropped. ``picture_file`` has the rules in full. Raises SliceError naming the first file that cannot be read
    or has another number of channels.
    """
    images = np.empty((len(pictures), preprocessing.channels, *preprocessing.size), dtype=np.float32)
    whole = _transform(preprocessing, preprocessing.mean, preprocessing.std)
    plane = _transform(preprocessing, (0.0,), (1.0,))
    mean, std = (np.reshape(each, (-1, 1, 1)) for each in (preprocessing.mean, preprocessing.std))
    for row, picture in enumerate(pictures):
        pixels = read_picture(picture, preprocessing.channels, preprocessing.orientation)
        if isinstance(pixels, Image.Image):
            images[row] = whole(pixels).numpy()
        else:
            planes = [plane(Image.fromarray(each)).numpy()[0] for each in np.moveaxis(pixels, -1, 0)]
            images[row] = (np.stack(planes) - mean) / std
    return images


def decode_masks(pictures: Sequence[Picture], preprocessing: Preprocessing) -> NDArray[np.bool_]:
    """Where masks are white (N,H,W), resized and cropped as ``preprocessing`` does to images.

    Raises SliceError naming a mask with more channels than one, or one whose file holds nothing lighter than half of
    white, as class numbers in 8 bits do: it would be black.
    """
    transform = _transform(preprocessing, (0.0,), (1.0,))
    masks = np.empty((len(pictures), *preprocessing.size), dtype=np.bool_)
    for row, picture in enumerate(pictures):
        try:
            pixels = read_picture(picture, 1, preprocessing.orientation)
        except OtherChannelsError as error:
            raise SliceError(
                f"mask {picture} has {error.found} channels ({error.kind}), a mask has one: save it as grayscale, "
                "white on the object, black elsewhere"
            ) from error
        # The lightest of the file: what is resized or cut off may leave less.
        if isinstance(pixels, Image.Image):
            mask, lightest = pixels, np.asarray(pixels).max() / 255
        else:
            mask, lightest = Image.fromarray(pixels[:, :, 0]), pixels.max()
        if 0 < lightest <= WHITE:
            raise SliceError(
                f"mask {picture} holds nothing lighter than {lightest:.2g} of white: write the largest number of "
                "its type (255 in 8 bits) where the evidence belongs, and 0 elsewhere"
            )
        masks[row] = transform(mask).numpy()[0] > WHITE
    return masks


def placed_boxes(
    boxes: NDArray[np.float64], size: tuple[int, int], preprocessing: Preprocessing
) -> NDArray[np.float64]:
    """Where boxes (B,4) in pixels of a picture of a size (height, width) lie in what the model sees of it.

    As shares of its width and height: below 0 and above 1 is what was cropped.
    """
    cropped = preprocessing.size
    resized = _resized(size, preprocessing)
    starts = [round((whole - kept) / 2.0) for whole, kept in zip(resized, cropped, strict=True)]  # torchvision's
    place = [
        (boxes[:, axis::2] * whole / own - start) / kept
        for axis, whole, own, start, kept in zip((1, 0), resized, size, starts, cropped, strict=True)
    ]
    return np.stack([place[1][:, 0], place[0][:, 0], place[1][:, 1], place[0][:, 1]], axis=1)


def _resized(size: tuple[int, int], preprocessing: Preprocessing) -> tuple[int, int]:
    """Height and width of a picture of a size before it is cropped, as timm's evaluation transform resizes it."""
    wanted = tuple(math.floor(side / preprocessing.crop) for side in preprocessing.size)
    if preprocessing.crop_mode == "squash":
        return wanted[0], wanted[1]
    if wanted[0] == wanted[1]:  # torchvision's resize of the shorter side
        height, width = (int(wanted[0] * side / min(size)) for side in size)
        return height, width
    ratio = min(side / want for side, want in zip(size, wanted, strict=True))
    return round(size[0] / ratio), round(size[1] / ratio)


def decode_zones(masks: Sequence[tuple[Picture, int]], preprocessing: Preprocessing) -> NDArray[np.bool_]:
    """Where masks hold a number (N,H,W), each its own, resized to the nearest and cropped as images are.

    Raises what ``read_indices`` raises.
    """
    transform = _transform(replace(preprocessing, interpolation="nearest"), (0.0,), (1.0,))
    zones = np.empty((len(masks), *preprocessing.size), dtype=np.bool_)
    known: tuple[Picture, Any] | None = None
    for row, (picture, number) in enumerate(masks):
        if known is None or known[0] is not picture:  # rows about one image stand together
            indices = read_indices(picture, preprocessing.orientation).astype(np.float32)
            known = picture, transform(Image.fromarray(indices)).numpy()[0]
        zones[row] = known[1] == number
    return zones


def _transform(preprocessing: Preprocessing, mean: tuple[float, ...], std: tuple[float, ...]) -> Any:
    """The evaluation transform of timm, from a picture to a normalised tensor (C,H,W)."""
    return create_transform(
        input_size=(len(mean), *preprocessing.size),
        interpolation=preprocessing.interpolation,
        mean=mean,
        std=std,
        crop_pct=preprocessing.crop,
        crop_mode=preprocessing.crop_mode,
    )
