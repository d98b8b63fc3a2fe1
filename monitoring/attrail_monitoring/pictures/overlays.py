"""Pictures of maps: the one place where maps are scaled, coloured and encoded for the eye.

Statistics never see what is made here: a scale belongs to a picture, never to a comparison.
"""

import base64
import io
from dataclasses import dataclass

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

Pixels = NDArray[np.uint8]
Values = NDArray[np.float32] | NDArray[np.float64]

SIDE = 192  # pixels of the longer side of a picture for the eye
SIGNED, UNSIGNED = "bwr", "inferno"  # both end in bright colours, which show over dark pictures too
BACKDROP = (70, 215)  # darkest and lightest grey behind a map: colours stay readable over black and over white
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
STRONGEST = 0.8  # opacity of the largest value, so that the picture stays visible under it
EASE = 0.7  # exponent of opacity, below 1 so that weak evidence is seen as well


@dataclass(frozen=True)
class Scale:
    """A colour scale: the value of the strongest colour, and whether colours run both ways from 0.

    Maps that are looked at side by side take the same scale; otherwise a model whose evidence halved looks unchanged.
    """

    limit: float
    signed: bool


def shared_scale(*maps: Values, signed: bool | None = None) -> Scale:
    """The one scale of several maps: up to the largest finite absolute value, 0 where there is none.

    ``signed`` is for maps of a set that should all look alike; None: signed when one of these values is negative.
    """
    finite = np.concatenate([values[np.isfinite(values)].ravel() for values in maps])
    limit, lowest = (float(np.abs(finite).max()), finite.min()) if finite.size else (0.0, 0.0)
    return Scale(limit, bool(lowest < 0) if signed is None else signed)


def overlay(picture: Pixels, values: Values, scale: Scale) -> Pixels:
    """A map over its picture (H,W,3) in grey; ``values`` (h,w) may be coarser and are enlarged bilinearly.

    The stronger a value on the scale, the more opaque its colour; 0 leaves the picture bare. A map that is not finite
    is undefined and gives ``no_map``.
    """
    if not np.isfinite(values).all():
        return no_map(picture)
    height, width = picture.shape[:2]
    plain = Image.fromarray(np.asarray(values, dtype=np.float32)).resize((width, height), Image.Resampling.BILINEAR)
    share = np.asarray(plain, dtype=np.float64) / (scale.limit or 1.0)
    share = share.clip(-1 if scale.signed else 0, 1)
    opacity = STRONGEST * np.abs(share)[..., None] ** EASE
    return _rounded((1 - opacity) * _grey(picture) + opacity * _colours(share, scale))


def heatmap(values: Values, scale: Scale) -> Pixels:
    """A map (h,w) by itself in the scale's colours, (h,w,3): what is not finite is white."""
    share = np.asarray(values, dtype=np.float64) / (scale.limit or 1.0)
    colours = _colours(np.nan_to_num(share).clip(-1 if scale.signed else 0, 1), scale)
    colours[~np.isfinite(share)] = 255
    return _rounded(colours)


def no_map(picture: Pixels) -> Pixels:
    """A picture (H,W,3) in grey, hatched, with the words "no map": never to be mistaken for a map without evidence."""
    height, width = picture.shape[:2]
    grey = 0.5 * _grey(picture) + 64
    rows, columns = np.indices((height, width))
    stripe = max(1, min(height, width) // 48)
    hatched = (rows + columns) % (8 * stripe) < stripe
    image = Image.fromarray(_rounded(np.where(hatched[..., None], 225.0, grey)))
    draw = ImageDraw.Draw(image)
    font = ImageFont.load_default(size=max(8.0, min(height, width) / 8))
    centre = (width / 2, height / 2)
    left, top, right, bottom = draw.textbbox(centre, "no map", font=font, anchor="mm")
    edge = 3 * stripe
    draw.rectangle((left - edge, top - edge, right + edge, bottom + edge), fill=(32, 32, 32))
    draw.text(centre, "no map", fill=(255, 255, 255), font=font, anchor="mm")
    return np.asarray(image)


def fit(picture: Pixels, side: int = SIDE) -> Pixels:
    """A picture (H,W,3) brought to about ``side`` pixels: small ones by whole steps without smoothing, large ones less.

    Smoothing would invent detail between the pixels of a small picture; a large one only loses it.
    """
    height, width = picture.shape[:2]
    longer = max(height, width)
    if longer <= side:
        steps = side // longer
        return picture.repeat(steps, axis=0).repeat(steps, axis=1)
    size = (max(1, round(width * side / longer)), max(1, round(height * side / longer)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.LANCZOS))


def colour_bar(signed: bool, width: int = 256, height: int = 12) -> Pixels:
    """The colours of any scale (height,width,3), from its least to its largest value, as they look over mid grey."""
    grey = np.full((height, width, 3), 128, dtype=np.uint8)
    shares = np.linspace(-1 if signed else 0, 1, width)
    return overlay(grey, np.tile(shares, (height, 1)), Scale(1.0, signed))


def png(pixels: Pixels, colours: int | None = None) -> bytes:
    """A PNG file of pixels (H,W,3): the same pixels give the same bytes.

    ``colours`` 2..256 keeps that many colours only, which makes the file of a photograph less than half as large.
    """
    image = Image.fromarray(pixels)
    if colours is not None:
        image = image.quantize(colours, Image.Quantize.MEDIANCUT, kmeans=2, dither=Image.Dither.NONE)
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()


def data_uri(file: bytes) -> str:
    """A PNG file as the address of an image inside a page."""
    return "data:image/png;base64," + base64.b64encode(file).decode("ascii")


def _grey(picture: Pixels) -> NDArray[np.float64]:
    darkest, lightest = BACKDROP
    luma = picture.astype(np.float64) @ np.array(LUMA)
    return np.asarray((darkest + luma * (lightest - darkest) / 255)[..., None].repeat(3, axis=2))


def _colours(share: NDArray[np.float64], scale: Scale) -> NDArray[np.float64]:
    """Colours (H,W,3) on 0..255 of shares of the limit, -1..1 or 0..1."""
    colormap = matplotlib.colormaps[SIGNED if scale.signed else UNSIGNED]
    place = (share + 1) / 2 if scale.signed else share
    return np.asarray(colormap(place)[..., :3] * 255)


def _rounded(pixels: NDArray[np.float64]) -> Pixels:
    return pixels.clip(0, 255).round().astype(np.uint8)
