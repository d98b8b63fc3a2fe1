"""Image files become what a model takes."""

import io
import os
import struct
import tempfile
import zlib

import numpy as np
import pytest
import tifffile
import timm
import torch
from PIL import Image, ImageOps
from torchvision.transforms import InterpolationMode, v2

from attrail_explainers.errors import ConfigError, SliceError, UnknownNameError
from attrail_explainers.files.picture_file import size_of
from attrail_explainers.files.picture_source import EmbeddedPicture, suffixes
from attrail_explainers.images import decode, decode_masks, placed_boxes, timm_preprocessing
from attrail_explainers.slice import Preprocessing

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
COLOUR = Preprocessing((64, 64), MEAN, STD)
GRAY = Preprocessing((64, 64), (0.5,), (0.25,))


@pytest.fixture
def photograph(pictures):
    return Image.fromarray(((pictures[0] + 1) * 127.5).round().astype(np.uint8).transpose(1, 2, 0))


@pytest.fixture
def saved(tmp_path):
    def save(image, name="picture.png", **options):
        path = tmp_path / name
        image.save(path, **options)
        return path

    return save


def normalised(image, mean=MEAN, std=STD):
    """The textbook formula: scale to 0..1, subtract the mean, divide by the deviation."""
    pixels = np.asarray(image, dtype=np.float64) / 255
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    return ((pixels - mean) / std).transpose(2, 0, 1)


def test_colour_is_normalised(photograph, saved):
    found = decode([saved(photograph)], COLOUR)
    assert found.dtype == np.float32
    assert found[0] == pytest.approx(normalised(photograph), abs=1e-5)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest", "lanczos"])
def test_resized_as_pillow_does(photograph, saved, name):
    large = photograph.resize((150, 150), Image.Resampling.BICUBIC)
    small = large.resize((64, 64), Image.Resampling[name.upper()])
    found = decode([saved(large)], Preprocessing((64, 64), MEAN, STD, interpolation=name))
    assert found[0] == pytest.approx(normalised(small), abs=1e-5)


def test_centre_is_kept(photograph, saved):
    """At crop 0.5 the 64 pixels of the file become 64, of which the model's 32 in the middle stay."""
    found = decode([saved(photograph)], Preprocessing((32, 32), MEAN, STD, crop=0.5))
    assert found[0] == pytest.approx(normalised(photograph.crop((16, 16, 48, 48))), abs=1e-5)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grayscale_is_repeated_over_three_channels(photograph, saved, mode):
    gray = photograph.convert(mode)
    found = decode([saved(gray)], COLOUR)
    one = np.asarray(gray.convert("L"))
    assert found[0] == pytest.approx(normalised(np.repeat(one[..., None], 3, axis=2)), abs=1e-5)


@pytest.mark.parametrize("mode", ["L", "1"])
def test_grayscale_models_take_one_channel(photograph, saved, mode):
    gray = photograph.convert(mode)
    found = decode([saved(gray)], GRAY)
    assert found[0] == pytest.approx(normalised(gray.convert("L"), (0.5,), (0.25,)), abs=1e-5)


def test_palettes_become_colour(photograph, saved):
    palette = photograph.quantize(32)
    assert palette.mode == "P"
    for name in ("picture.png", "picture.gif"):
        found = decode([saved(palette, name)], COLOUR)
        assert found[0] == pytest.approx(normalised(palette.convert("RGB")), abs=1e-5)


def test_four_channels_for_models_that_take_them(photograph, saved):
    photograph.putalpha(77)
    four = Preprocessing((64, 64), (*MEAN, 0.5), (*STD, 0.5))
    assert decode([saved(photograph)], four)[0] == pytest.approx(normalised(photograph, four.mean, four.std), abs=1e-5)


@pytest.mark.parametrize(
    ("mode", "preprocessing", "channels"),
    [
        ("RGBA", COLOUR, 4),
        ("LA", COLOUR, 2),
        ("CMYK", COLOUR, 4),
        ("RGB", GRAY, 3),
        ("RGBA", GRAY, 4),
    ],
)
def test_other_channels_are_refused_with_the_file(photograph, saved, mode, preprocessing, channels):
    path = saved(photograph.convert(mode), "strange.tif")
    with pytest.raises(SliceError, match=rf"strange\.tif has {channels} channels \({mode}\)") as error:
        decode([saved(photograph.convert("L")), path], preprocessing)
    assert f"takes {preprocessing.channels}" in str(error.value)
    assert ("flatten its alpha channel" in str(error.value)) is ("A" in mode)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n"])
def test_unreadable_files_are_named(tmp_path, content):
    path = tmp_path / "broken.png"
    path.write_bytes(content)
    with pytest.raises(SliceError, match=r"broken\.png cannot be read"):
        decode([path], COLOUR)


def test_broken_png_chunks_are_named(photograph, saved):
    """Pillow raises SyntaxError when picture data end early and no chunk follows."""
    path = saved(photograph)
    before, data, after = path.read_bytes().partition(b"IDAT")
    path.write_bytes(before[:-4] + (1000).to_bytes(4, "big") + data + after[:1004] + b"\0\0\0\xff" * 20)
    with pytest.raises(SliceError, match=r"picture\.png cannot be read"):
        decode([path], COLOUR)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(SliceError, match=r"nothing\.png cannot be read"):
        decode([tmp_path / "nothing.png"], COLOUR)


@pytest.mark.parametrize("form", ["png", "jpeg", "bmp", "gif", "tiff", "webp"])
def test_damaged_files_are_named_or_decoded(photograph, tmp_path, form):
    """Whatever Pillow raises for a file that was cut or altered, the reader hears which file it is."""
    stream = io.BytesIO()
    photograph.save(stream, form)
    whole, path = stream.getvalue(), tmp_path / f"damaged.{form}"
    generator, refused = np.random.default_rng(0), []
    for _ in range(60):
        damaged = bytearray(whole[: generator.integers(1, len(whole) + 1)])
        for place in generator.integers(0, len(damaged), generator.integers(0, 4)):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            assert np.isfinite(decode([path], COLOUR)).all()
        except SliceError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(f"damaged.{form}" in reason for reason in refused)


@pytest.mark.parametrize("name", ["resnet18", "resnet18.tv_in1k", "test_vit", "efficientnet_b0"])
def test_preprocessing_is_what_timm_states(name):
    stated = timm.get_pretrained_cfg(name)
    found = timm_preprocessing(name)
    assert (found.size, found.mean, found.std) == (tuple(stated.input_size[1:]), stated.mean, stated.std)
    assert (found.interpolation, found.crop) == (stated.interpolation, stated.crop_pct)


def test_decoded_as_timm_does(photograph, saved):
    """The whole transform that timm itself builds for the model gives the same pixels."""
    preprocessing = timm_preprocessing("test_efficientnet")
    model = timm.create_model("test_efficientnet")
    expected = timm.data.create_transform(**timm.data.resolve_model_data_config(model))(photograph).numpy()
    assert (decode([saved(photograph)], preprocessing)[0] == expected).all()


def test_overrides_win():
    found = timm_preprocessing("resnet18", {"input_size": (1, 32, 48), "mean": (0.5,), "std": (0.1,), "crop_pct": 1.0})
    assert found == Preprocessing((32, 48), (0.5,), (0.1,), timm_preprocessing("resnet18").interpolation, 1.0)


@pytest.mark.parametrize("name", ["resnet_eighteen", "resnet18.no_such_tag"])
def test_unknown_timm_models_are_named(name):
    with pytest.raises(UnknownNameError, match=name):
        timm_preprocessing(name)


def test_known_tags_are_listed():
    with pytest.raises(UnknownNameError, match=r"known are .*resnet18\.tv_in1k"):
        timm_preprocessing("resnet18.no_such_tag")


def preprocessing_of(channels, size=(64, 64), **options):
    return Preprocessing(size, (0.3,) * channels, (0.2,) * channels, **options)


def deep_of(photograph):
    """A photograph of 16 bits (64,64,3) whose low bytes are not its high bytes."""
    generator = np.random.default_rng(0)
    return np.asarray(photograph).astype(np.uint16) * 256 + generator.integers(0, 256, (64, 64, 3)).astype(np.uint16)


def png_of_16_bits(array, path):
    """Written anew from the PNG specification: Pillow cannot write deep colour."""
    height, width, channels = array.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in array)
    header = struct.pack(">IIBBBBB", width, height, 16, {1: 0, 2: 4, 3: 2, 4: 6}[channels], 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    coded = [
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    ]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(coded))


def written(array, path):
    """The array (H,W,C) in the format of the path's ending."""
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".png":
        png_of_16_bits(array, path)
    elif array.shape[2] in (1, 3, 4):
        tifffile.imwrite(path, array.squeeze(), photometric="minisblack" if array.shape[2] == 1 else "rgb")
    else:
        tifffile.imwrite(path, array, photometric="minisblack", planarconfig="contig")
    return path


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("ending", ["png", "tif", "npy"])
def test_sixteen_bits_are_scaled_by_their_range(photograph, tmp_path, ending, channels):
    """To within float32's own precision: neither clipped to white nor cut to eight bits."""
    deep = deep_of(photograph)
    array = np.concatenate([deep, deep[..., :1]], axis=2)[..., :channels]
    found = decode([written(array, tmp_path / f"deep.{ending}")], preprocessing_of(channels))
    expected = (array.transpose(2, 0, 1) / 65535 - 0.3) / 0.2
    assert found[0] == pytest.approx(expected, abs=2e-6)
    assert np.ptp(expected) > 3


@pytest.mark.parametrize("ending", ["png", "tif", "npy"])
def test_deep_grayscale_is_repeated_over_three_channels(photograph, tmp_path, ending):
    array = deep_of(photograph)[..., :1]
    found = decode([written(array, tmp_path / f"deep.{ending}")], COLOUR)
    expected = (array / 65535 - MEAN) / STD
    assert found[0] == pytest.approx(expected.transpose(2, 0, 1), abs=1e-5)


@pytest.mark.parametrize("channels", [2, 5, 13])
@pytest.mark.parametrize("ending", ["tif", "npy"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_any_number_of_channels(tmp_path, ending, channels, dtype):
    generator = np.random.default_rng(channels)
    array = generator.random((64, 64, channels))
    array = array.astype(dtype) if dtype == np.float32 else (array * np.iinfo(dtype).max).astype(dtype)
    found = decode([written(array, tmp_path / f"many.{ending}")], preprocessing_of(channels))
    largest = 1 if dtype == np.float32 else np.iinfo(dtype).max
    assert found[0] == pytest.approx((array.transpose(2, 0, 1) / largest - 0.3) / 0.2, abs=1e-5)


ARRANGED = [(channels, arranged) for channels in (3, 5, 13) for arranged in ("pages", "planes", "unnamed")]
ARRANGED.remove((3, "unnamed"))  # 64 pages of 3x64 pixels: nothing tells them from a stack of gray pictures


@pytest.mark.parametrize(("channels", "arranged"), ARRANGED)
def test_tiff_channels_however_they_are_arranged(tmp_path, channels, arranged):
    """Pages, planes, and (H,W,C) written without a word, which tifffile itself reads as H pages."""
    array = np.random.default_rng(0).integers(0, 65536, (64, 64, channels)).astype(np.uint16)
    planes, path = np.ascontiguousarray(array.transpose(2, 0, 1)), tmp_path / "many.tif"
    if arranged == "planes":
        tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate")
    else:
        tifffile.imwrite(path, planes if arranged == "pages" else array, photometric="minisblack")
    found = decode([path], preprocessing_of(channels))
    assert found[0] == pytest.approx((planes / 65535 - 0.3) / 0.2, abs=2e-6)


@pytest.mark.parametrize("size", [(31, 47), (64, 64), (150, 97)])
@pytest.mark.parametrize("name", ["bilinear", "bicubic"])
def test_resized_as_torchvision_does_on_tensors(tmp_path, size, name):
    """Antialiased, on numbers that eight bits cannot hold, from odd sizes."""
    smooth = np.random.default_rng(0).random((5, 8, 8))
    planes = v2.functional.resize(torch.from_numpy(smooth), list(size), antialias=True).clamp(0, 1)
    np.save(tmp_path / "odd.npy", planes.permute(1, 2, 0).numpy())
    found = decode([tmp_path / "odd.npy"], preprocessing_of(5, (40, 40), interpolation=name, crop=0.9))
    resized = v2.functional.resize(planes, [44], interpolation=InterpolationMode(name), antialias=True)
    expected = (v2.functional.center_crop(resized, [40, 40]).numpy() - 0.3) / 0.2
    assert found[0] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("name", ["bilinear", "bicubic", "nearest", "lanczos", "box", "hamming"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_arrays_become_what_pictures_become(photograph, tmp_path, saved, name, channels):
    """Eight bits as a picture and as an array: apart by no more than the rounding of each of two passes.

    At half the contrast, because Pillow cuts off what sharp filters give below 0 and above 255. CMYK, because Pillow
    weighs the colours of RGBA by their alpha.
    """
    photograph = photograph.point(lambda value: 64 + value // 2)
    four = Image.merge("CMYK", (*photograph.split(), photograph.getchannel(0)))
    picture = {1: photograph.getchannel(1), 3: photograph, 4: four}[channels]
    np.save(tmp_path / "array.npy", np.asarray(picture))
    preprocessing = preprocessing_of(channels, (48, 40), interpolation=name, crop=0.9)
    first, second = (decode([path], preprocessing) for path in (saved(picture, "picture.tif"), tmp_path / "array.npy"))
    assert second == pytest.approx(first, abs=1.1 / 255 / 0.2)
    assert second.std() > 0.3


def test_floats_keep_their_own_units(tmp_path):
    """Metres above the sea, say: mean and std speak the same units."""
    np.save(tmp_path / "heights.npy", np.full((8, 8), 2500.0))
    assert (decode([tmp_path / "heights.npy"], Preprocessing((8, 8), (2000.0,), (250.0,))) == 2).all()


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.zeros((8, 8, 3), dtype=np.int16), r"holds int16 values"),
        (np.zeros((8, 8, 3), dtype=np.complex64), r"holds complex64 values"),
        (np.full((8, 8, 3), np.nan), r"holds NaN or infinite values"),
        (np.zeros((2, 8, 8, 3)), r"array of shape \(2, 8, 8, 3\), not"),
        (np.zeros(8), r"array of shape \(8,\), not"),
        (np.zeros((0, 8, 3)), r"array of shape \(0, 8, 3\), not"),
        (np.array([[{}]]), r"allow_pickle=False"),
    ],
)
def test_other_arrays_are_refused_with_the_file(tmp_path, array, reason):
    np.save(tmp_path / "array.npy", array)
    with pytest.raises(SliceError, match=rf"array\.npy cannot be read: .*{reason}"):
        decode([tmp_path / "array.npy"], COLOUR)


@pytest.mark.parametrize(("shape", "channels"), [((8, 8, 5), 3), ((8, 8, 4), 3), ((8, 8), 5), ((8, 8, 3), 1)])
def test_arrays_of_other_channels_are_refused_with_the_file(tmp_path, shape, channels):
    np.save(tmp_path / "array.npy", np.zeros(shape))
    found = shape[2] if len(shape) == 3 else 1
    with pytest.raises(SliceError, match=rf"array\.npy has {found} channels .*takes {channels}"):
        decode([tmp_path / "array.npy"], preprocessing_of(channels))


@pytest.mark.parametrize("form", ["tif", "npy", "png"])
def test_damaged_deep_files_are_named_or_decoded(photograph, tmp_path, form):
    array = deep_of(photograph)[:16, :16, [0, 1, 2] if form == "png" else [0, 1, 2, 0, 1]]
    whole = written(array, tmp_path / f"whole.{form}").read_bytes()
    path, preprocessing = tmp_path / f"damaged.{form}", preprocessing_of(array.shape[2], (16, 16))
    generator, refused = np.random.default_rng(0), []
    for number in range(150):
        damaged = bytearray(whole if number % 2 else whole[: generator.integers(1, len(whole))])
        for place in generator.integers(0, min(len(damaged), 400), generator.integers(1, 4)):
            damaged[place] = generator.integers(256)
        path.write_bytes(damaged)
        try:
            assert np.isfinite(decode([path], preprocessing)).all()
        except SliceError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(f"damaged.{form}" in reason for reason in refused)


@pytest.fixture
def oblong(photograph):
    """No two of its turns and mirror images are alike, nor their sizes."""
    return photograph.crop((0, 0, 48, 32))


def turned(picture, path, orientation):
    """The picture as it is, with a word about how it is to be seen; without loss where the format can."""
    if path.stem == "deep":
        deep = np.asarray(picture).astype(np.uint16) * 257
        tifffile.imwrite(path, deep, photometric="rgb", extratags=[(274, "H", 1, orientation, True)])
        return path
    exif = Image.Exif()
    exif[274] = orientation
    options = {"tiffinfo": {274: orientation}} if path.suffix == ".tif" else {"exif": exif.tobytes()}
    picture.save(path, **options, **({"lossless": True} if path.suffix == ".webp" else {"quality": 100}))
    return path


TURNED = ["turned.jpg", "turned.png", "turned.webp", "turned.avif", "turned.tif", "deep.tif"]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", TURNED)
def test_pictures_are_read_the_way_up_that_their_file_says(oblong, tmp_path, name, orientation):
    path = turned(oblong, tmp_path / name, orientation)
    turn = {
        1: oblong,
        2: oblong.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
        3: oblong.rotate(180),
        4: oblong.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        5: oblong.rotate(90, expand=True).transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        6: oblong.rotate(-90, expand=True),
        7: oblong.rotate(-90, expand=True).transpose(Image.Transpose.FLIP_TOP_BOTTOM),
        8: oblong.rotate(90, expand=True),
    }[orientation]
    width, height = turn.size
    found = decode([path], Preprocessing((height, width), MEAN, STD))
    near = 0.5 if path.suffix in {".jpg", ".avif"} else 1e-5
    assert np.abs(found[0] - normalised(turn)).mean() < near * 0.6
    assert size_of(path) == (height, width)
    stored = decode([path], Preprocessing((32, 48), MEAN, STD, orientation="stored"))
    assert np.abs(stored[0] - normalised(oblong)).mean() < near * 0.6
    assert size_of(path, "stored") == (32, 48)


@pytest.mark.parametrize("name", ["turned.jpg", "turned.png"])
def test_a_word_that_says_no_orientation_turns_nothing(oblong, tmp_path, name):
    path = turned(oblong, tmp_path / name, 9)
    assert size_of(path) == (32, 48)
    assert np.abs(decode([path], Preprocessing((32, 48), MEAN, STD))[0] - normalised(oblong)).mean() < 0.3


def test_a_deep_png_is_turned_too(oblong, tmp_path):
    """Pillow writes no deep colour, so the chunk is put into the file of 16 bits."""
    exif = Image.Exif()
    exif[274] = 6
    data = exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(data)) + b"eXIf" + data + struct.pack(">I", zlib.crc32(b"eXIf" + data))
    png_of_16_bits(np.asarray(oblong).astype(np.uint16) * 257, path := tmp_path / "deep.png")
    whole = path.read_bytes()
    path.write_bytes(whole[:33] + chunk + whole[33:])
    found = decode([path], Preprocessing((48, 32), MEAN, STD))
    assert found[0] == pytest.approx(normalised(oblong.rotate(-90, expand=True)), abs=1e-5)


def test_damaged_exif_is_refused_with_a_way_out(photograph, saved):
    path = saved(photograph, exif=b"Exif\0\0no such block")
    with pytest.raises(
        SliceError, match=r'picture\.png cannot be read: its EXIF data are damaged .*orientation = "stor'
    ):
        decode([path], COLOUR)
    decode([path], Preprocessing((64, 64), MEAN, STD, orientation="stored"))


FOUR = Preprocessing((64, 64), (*MEAN, 0.5), (*STD, 0.5))


@pytest.mark.parametrize("name", ["palette.png", "palette.gif", "colour.png"])
def test_transparency_is_a_channel_however_it_is_written(photograph, saved, name):
    kind = photograph.quantize(16) if name.startswith("palette") else photograph
    one = 3 if name.startswith("palette") else photograph.getpixel((5, 5))
    path = saved(kind, name, transparency=one)
    with pytest.raises(SliceError, match=r"has 4 channels \(RGBA\), the model takes 3: flatten its alpha channel"):
        decode([path], COLOUR)
    clear = np.asarray(kind) == one if kind.mode == "P" else (np.asarray(kind) == one).all(axis=2)
    alpha = decode([path], FOUR)[0, 3]
    assert clear.any()
    assert ((alpha < 0) == clear).all()


@pytest.mark.parametrize("mode", ["L", "1"])
def test_a_transparent_gray_is_a_channel(photograph, saved, mode):
    path = saved(photograph.convert(mode), transparency=0)
    for preprocessing in (COLOUR, GRAY):
        with pytest.raises(SliceError, match=r"has 2 channels \(LA\).*flatten its alpha channel"):
            decode([path], preprocessing)


def test_a_transparent_colour_of_16_bits_is_refused(photograph, saved):
    path = saved(Image.fromarray(deep_of(photograph)[..., 0]), transparency=5)
    with pytest.raises(SliceError, match=r"one of its colours of 16 bits is transparent"):
        decode([path], GRAY)


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "avif"])
def test_animations_are_refused(photograph, saved, ending):
    path = saved(
        photograph,
        f"moving.{ending}",
        save_all=True,
        append_images=[ImageOps.invert(photograph), ImageOps.mirror(photograph)],
    )
    with pytest.raises(SliceError, match=rf"moving\.{ending} cannot be read: it holds 3 frames, one picture is"):
        decode([path], COLOUR)


@pytest.mark.parametrize("pages", [2, 3])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_pages_are_refused_unless_each_is_a_channel(photograph, saved, pages, channels, mode):
    page = photograph.convert(mode)
    path = saved(page, "pages.tif", save_all=True, append_images=[page] * (pages - 1))
    if (mode, pages) == ("L", channels):
        assert decode([path], preprocessing_of(channels)).shape == (1, channels, 64, 64)
        return
    with pytest.raises(SliceError, match=rf"pages\.tif cannot be read: it holds {pages} pages, one picture"):
        decode([path], preprocessing_of(channels))


def test_reduced_copies_are_no_pages(photograph, tmp_path):
    """A pyramid's; but a thumbnail in front is what Pillow would read."""
    whole = np.asarray(photograph)
    for name, levels in (
        ("pyramid", [(whole, 0), (whole[::2, ::2], 1)]),
        ("thumbnail", [(whole[::2, ::2], 1), (whole, 0)]),
    ):
        with tifffile.TiffWriter(tmp_path / f"{name}.tif") as file:
            for pixels, kind in levels:
                file.write(pixels, photometric="rgb", subfiletype=kind)
    assert decode([tmp_path / "pyramid.tif"], COLOUR)[0] == pytest.approx(normalised(photograph), abs=1e-5)
    with pytest.raises(SliceError, match=r"thumbnail\.tif cannot be read: its first page is a reduced copy"):
        decode([tmp_path / "thumbnail.tif"], COLOUR)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"photometric": "miniswhite"}, "its numbers are MINISWHITE"),
        ({"photometric": "palette", "colormap": np.zeros((3, 65536), np.uint16)}, "its numbers are PALETTE"),
    ],
)
def test_deep_numbers_that_are_no_brightness_are_refused(photograph, tmp_path, options, reason):
    tifffile.imwrite(tmp_path / "deep.tif", deep_of(photograph)[..., 0], **options)
    with pytest.raises(SliceError, match=reason):
        decode([tmp_path / "deep.tif"], COLOUR)


def test_a_fourth_sample_that_nobody_names_is_not_dropped(photograph, tmp_path):
    four = np.concatenate([np.asarray(photograph)] * 2, axis=2)[..., :4]
    tifffile.imwrite(tmp_path / "four.tif", four, photometric="rgb", extrasamples=["unspecified"])
    with pytest.raises(SliceError, match=r"has 4 channels"):
        decode([tmp_path / "four.tif"], COLOUR)


@pytest.mark.parametrize("mode", ["YCbCr", "CMYK"])
def test_other_colours_are_named(photograph, saved, mode):
    with pytest.raises(SliceError, match=rf"channels \({mode}\), the model takes 3"):
        decode([saved(photograph.convert(mode), "colours.tif")], COLOUR)


def test_every_kind_of_file_that_folders_take_is_read(photograph, tmp_path):
    """Those that Pillow can write; a file that ends early is refused."""
    written = []
    for suffix in sorted(suffixes()):
        form = Image.registered_extensions().get(suffix)
        if form not in Image.SAVE:
            continue
        stream = io.BytesIO()
        for mode in ("RGB", "L", "P", "1"):
            try:
                photograph.convert(mode).save(stream, form)
            except (OSError, ValueError):
                continue
            path = tmp_path / f"picture{suffix}"
            path.write_bytes(stream.getvalue())
            assert decode([path], COLOUR).shape == (1, 3, 64, 64)
            path.write_bytes(stream.getvalue()[: len(stream.getvalue()) // 2])
            with pytest.raises(SliceError, match=rf"picture\{suffix} cannot be read"):
                decode([path], COLOUR)
            written.append(suffix)
            break
    assert {".avif", ".jfif", ".jpg", ".png", ".tif", ".webp"} <= set(written)
    assert not {".eps", ".pdf", ".h5", ".txt"} & suffixes()


def test_a_pipe_is_no_picture(tmp_path):
    """Opening one would wait for its other end."""
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(SliceError, match=r"pipe\.png cannot be read: it is no file"):
        decode([tmp_path / "pipe.png"], COLOUR)


def test_pictures_out_of_a_table_are_read_as_files_are(photograph, tmp_path):
    deep = written(deep_of(photograph), tmp_path / "deep.tif")
    np.save(tmp_path / "array.npy", np.asarray(photograph))
    photograph.save(tmp_path / "plain.png")
    paths = [tmp_path / "plain.png", deep, tmp_path / "array.npy"]
    with tempfile.TemporaryFile() as file:
        embedded = []
        for row, path in enumerate(paths, start=1):
            start, whole = file.tell(), path.read_bytes()
            file.write(whole)
            embedded.append(EmbeddedPicture(f"row {row} of table.parquet", file, start, len(whole)))
        file.flush()
        assert (decode(embedded, COLOUR) == decode(paths, COLOUR)).all()
        with pytest.raises(SliceError, match=r"^image row 1 of table\.parquet has 3 channels \(RGB\), "):
            decode(embedded, GRAY)


HALVES = np.repeat(np.uint8([[0, 1]]), [32, 32], axis=1).repeat(64, axis=0)


@pytest.mark.parametrize("lightest", [1, 26, 64, 127])
@pytest.mark.parametrize("ending", ["png", "npy", "tif"])
def test_masks_that_would_be_black_are_refused(tmp_path, lightest, ending):
    """Class numbers, dim gray: however it is resized or cropped, none of it is lighter than half of white."""
    path = tmp_path / f"mask.{ending}"
    mask = (HALVES * lightest).astype(np.uint8)
    np.save(path, mask) if ending == "npy" else Image.fromarray(mask).save(path)
    said = rf"mask .*mask\.{ending} holds nothing lighter than {lightest / 255:.2g} of white: write .*255 in 8 bits"
    with pytest.raises(SliceError, match=said):
        decode_masks([path], Preprocessing((16, 16), (0.5,), (0.25,)))


@pytest.mark.parametrize(
    "values",
    [HALVES * np.uint8(255), HALVES * np.uint8(128), HALVES * np.uint16(65535), HALVES * np.float32(1), HALVES == 1],
    ids=lambda values: f"{values.dtype} to {values.max()}",
)
def test_masks_are_where_they_are_lighter_than_half_of_white(tmp_path, values):
    np.save(tmp_path / "mask.npy", values)
    (found,) = decode_masks([tmp_path / "mask.npy"], COLOUR)
    assert (found == (HALVES == 1)).all()


def test_a_speck_of_a_mask_that_is_resized_or_cut_away_marks_nothing(tmp_path):
    mask = np.zeros((64, 64), np.uint8)
    mask[0, 0] = mask[40, 40] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    assert not decode_masks([tmp_path / "mask.png"], Preprocessing((8, 8), MEAN, STD)).any()
    assert decode_masks([tmp_path / "mask.png"], Preprocessing((32, 32), MEAN, STD, crop=0.5)).sum() == 1


def test_sizes_of_numpy_are_sizes():
    given = Preprocessing(tuple(np.array([16, 8])), tuple(np.float32([0.5])), [np.float64(0.25)])
    assert given == Preprocessing((16, 8), (0.5,), (0.25,))
    assert given.identity == Preprocessing((16, 8), (0.5,), (0.25,)).identity
    with pytest.raises(ConfigError, match="size must be height and width in whole pixels"):
        Preprocessing((np.float64(16), 16), (0.5,), (0.25,))


@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("crop", [1.0, 0.8])
@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
@pytest.mark.parametrize("whole", [(400, 300), (210, 640)])
def test_boxes_lie_where_the_masks_of_the_same_rectangles_do(tmp_path, mode, crop, size, whole):
    """To a pixel of what the model sees; what is cropped lies outside."""
    preprocessing = Preprocessing(size, MEAN, STD, crop=crop, crop_mode=mode)
    shares = np.array([[0.1, 0.3, 0.6, 0.7], [0.45, 0.2, 0.9, 0.55]])
    boxes = (shares * [whole[1], whole[0], whole[1], whole[0]]).round()
    found = placed_boxes(boxes, whole, preprocessing)
    for row, (x0, y0, x1, y1) in enumerate(boxes.astype(int)):
        mask = np.zeros(whole, np.uint8)
        mask[y0:y1, x0:x1] = 255
        Image.fromarray(mask).save(tmp_path / "mask.png")
        (seen,) = decode_masks([tmp_path / "mask.png"], preprocessing)
        lines, columns = np.nonzero(seen)
        edges = np.array([columns.min(), lines.min(), columns.max() + 1, lines.max() + 1])
        pixels = found[row].clip(0, 1) * [size[1], size[0], size[1], size[0]]
        assert np.abs(pixels - edges).max() <= 0.75
