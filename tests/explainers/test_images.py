"""Image files become what a model takes."""

import io

import numpy as np
import pytest
import timm
from PIL import Image

from attrail_explainers.errors import ConfigError, SliceError, UnknownNameError
from attrail_explainers.images import decode, timm_preprocessing
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
        ("I;16", COLOUR, 1),
        ("RGB", GRAY, 3),
        ("RGBA", GRAY, 4),
    ],
)
def test_other_channels_are_refused_with_the_file(photograph, saved, mode, preprocessing, channels):
    image = Image.new("I;16", (64, 64)) if mode == "I;16" else photograph.convert(mode)
    path = saved(image, "strange.tif")
    with pytest.raises(SliceError, match=rf"strange\.tif has {channels} channels \({mode}\)") as error:
        decode([saved(photograph.convert("L")), path], preprocessing)
    assert f"takes {preprocessing.channels}" in str(error.value)


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


def test_unknown_interpolation_is_named(photograph, saved):
    with pytest.raises(ConfigError, match="unknown interpolation 'cubic': known are nearest, bilinear"):
        decode([saved(photograph)], Preprocessing((64, 64), MEAN, STD, interpolation="cubic"))


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
