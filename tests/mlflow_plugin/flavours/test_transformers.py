"""Hugging Face models: what their processors do to a picture, and weights that are exactly the model's."""

import json
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest
import safetensors.torch
import torch
import transformers
from PIL import Image

from attrail_explainers import explain, make_task
from attrail_explainers.errors import RegistryError, UnsupportedModelError
from attrail_explainers.images import decode
from attrail_explainers.slice import Preprocessing
from attrail_mlflow.flavours.transformers import Transformers
from attrail_mlflow.registry.model_folder import checked_folder

WHAT = "model pets/1"
NAMES = {0: "cat", 1: "dog", 2: "owl"}
LABELS: dict[str, Any] = {"id2label": NAMES, "label2id": {name: number for number, name in NAMES.items()}}
SQUARE, LARGER = {"height": 64, "width": 64}, {"height": 72, "width": 72}


def vit() -> torch.nn.Module:
    torch.manual_seed(0)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    config = transformers.ViTConfig(**small, image_size=32, patch_size=16, **LABELS)
    return transformers.ViTForImageClassification(config).eval()


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "pets"
    whole = {"model": vit(), "image_processor": transformers.ViTImageProcessor(size={"height": 32, "width": 32})}
    mlflow.transformers.save_model(whole, str(folder), task="image-classification", pip_requirements=["transformers"])
    return folder


@pytest.fixture
def folder(logged: Path, tmp_path: Path) -> Path:
    for path in logged.rglob("*"):
        if path.is_file():
            target = tmp_path / path.relative_to(logged)
            target.parent.mkdir(exist_ok=True, parents=True)
            target.write_bytes(path.read_bytes())
    return tmp_path


def change(path: Path, **keys: Any) -> None:
    found = json.loads(path.read_text()) | keys
    path.write_text(json.dumps({key: value for key, value in found.items() if value is not None}))


def load(folder: Path) -> Any:
    found = checked_folder(folder, WHAT)
    return found.flavour.classifier(found.path, "pets", "1")


def stated(processor: Any, tmp_path: Path) -> Preprocessing | None:
    """The preprocessing that a processor's own file says."""
    processor.save_pretrained(tmp_path / "components" / "image_processor")
    found = Transformers().facts(tmp_path, "model", WHAT).get("preprocessing")
    return None if found is None else Preprocessing(**{key: _plain(value) for key, value in found.items()})


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def test_it_says_its_preprocessing_and_class_names(folder: Path) -> None:
    facts = checked_folder(folder, WHAT).mlmodel.metadata["attrail"]
    assert facts["classes"] == ["cat", "dog", "owl"]
    half = [0.5, 0.5, 0.5]
    assert facts["preprocessing"] == {
        **{"size": (32, 32), "crop": 1.0, "crop_mode": "squash"},
        **{"mean": half, "std": half, "interpolation": "bilinear"},
    }


def test_what_was_logged_with_the_model_counts_more(folder: Path) -> None:
    mlmodel = folder / "MLmodel"
    mlmodel.write_text(mlmodel.read_text() + "metadata: {attrail: {classes: [a, b, c]}}\n")
    facts = checked_folder(folder, WHAT).mlmodel.metadata["attrail"]
    assert facts["classes"] == ["a", "b", "c"]
    assert facts["preprocessing"]["size"] == (32, 32)


def test_place_holders_are_no_class_names(folder: Path) -> None:
    change(folder / "model" / "config.json", id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"})
    assert "classes" not in checked_folder(folder, WHAT).mlmodel.metadata["attrail"]


@pytest.mark.parametrize(
    "processor",
    [
        pytest.param(lambda: transformers.ViTImageProcessor(size=SQUARE), id="ViT"),
        pytest.param(lambda: transformers.ViTImageProcessor(size=SQUARE, do_normalize=False), id="not normalised"),
        pytest.param(lambda: transformers.ViTImageProcessor(size=SQUARE, do_rescale=False), id="not rescaled"),
        pytest.param(
            lambda: transformers.ViTImageProcessor(size=SQUARE, do_rescale=False, do_normalize=False), id="pixels"
        ),
        pytest.param(lambda: transformers.DeiTImageProcessor(size=LARGER, crop_size=SQUARE), id="DeiT"),
        pytest.param(lambda: transformers.BeitImageProcessor(size=SQUARE), id="BEiT"),
        pytest.param(lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 64}), id="ConvNeXt"),
        pytest.param(lambda: transformers.ConvNextImageProcessor(size={"shortest_edge": 384}), id="ConvNeXt, 384"),
        pytest.param(
            lambda: transformers.MobileViTImageProcessor(size={"shortest_edge": 72}, crop_size=SQUARE), id="MobileViT"
        ),
        pytest.param(lambda: transformers.SegformerImageProcessor(size=SQUARE), id="SegFormer"),
        pytest.param(lambda: transformers.BitImageProcessor(size={"shortest_edge": 72}, crop_size=SQUARE), id="BiT"),
        pytest.param(lambda: transformers.SiglipImageProcessor(size=SQUARE), id="SigLIP"),
        pytest.param(lambda: transformers.CLIPImageProcessor(size={"shortest_edge": 64}, crop_size=SQUARE), id="CLIP"),
        pytest.param(
            lambda: transformers.MobileNetV2ImageProcessor(size={"shortest_edge": 72}, crop_size=SQUARE), id="MobileNet"
        ),
        pytest.param(lambda: transformers.EfficientNetImageProcessor(size=LARGER), id="EfficientNet"),
    ],
)
def test_it_is_what_the_processor_does(processor: Any, tmp_path: Path) -> None:
    """On a smooth picture that is not square: a wrong crop, scale or order would show at once."""
    rows, columns = np.mgrid[0:90, 0:150] / 150
    smooth = np.stack([rows, columns, np.sin(6 * rows * columns) / 2 + 0.5], axis=-1)
    picture = Image.fromarray((smooth * 255).astype(np.uint8))
    picture.save(tmp_path / "picture.png")
    made = processor()
    found = stated(made, tmp_path)
    assert found is not None
    ours = decode([tmp_path / "picture.png"], found)[0]
    theirs = made(images=picture, return_tensors="np")["pixel_values"][0]
    theirs = theirs[::-1] if made.to_dict().get("do_flip_channel_order") else theirs  # which the module does here
    assert ours.shape == theirs.shape
    level = 1 / 255 / min(found.std)
    assert np.abs(ours - theirs).max() <= 5 * level


def test_a_segmenters_masks_are_explained(tmp_path: Path) -> None:
    """SegFormer, which answers on a quarter of the resolution, in a dataclass."""
    torch.manual_seed(0)
    small = {"depths": [1] * 4, "hidden_sizes": [8, 16, 32, 64], "decoder_hidden_size": 32}
    model = transformers.SegformerForSemanticSegmentation(transformers.SegformerConfig(**small, **LABELS)).eval()
    whole = {"model": model, "image_processor": transformers.SegformerImageProcessor(size={"height": 96, "width": 96})}
    more = {"task": "image-segmentation", "pip_requirements": ["transformers"]}
    mlflow.transformers.save_model(whole, str(tmp_path / "model"), **more)
    found = checked_folder(tmp_path / "model", WHAT)
    classifier = found.flavour.classifier(found.path, "pets", "1").for_task(make_task("segmentation"))
    images = np.random.default_rng(0).normal(size=(2, 3, 96, 96)).astype(np.float32)
    with torch.no_grad():
        expected = model(torch.from_numpy(images)).logits.numpy()
    assert expected.shape == (2, 3, 24, 24)
    assert classifier.logits(images, ("a", "b")) == pytest.approx(expected, abs=1e-5)
    maps = explain(classifier.module, images, [[0], [2]], "gradcam", task="segmentation")
    assert maps.parameters["layer"] == "decode_head.activation"
    assert Transformers().facts(found.path.parents[1], "model", WHAT)["classes"] == ["cat", "dog", "owl"]


@pytest.mark.parametrize(
    "processor",
    [
        pytest.param(transformers.DetrImageProcessor, id="by the longer side"),
        pytest.param(transformers.LevitImageProcessor, id="a resize of its own"),
        pytest.param(transformers.MobileViTImageProcessor, id="filled up"),
        pytest.param(lambda: transformers.EfficientNetImageProcessor(rescale_offset=True), id="an offset"),
        pytest.param(lambda: transformers.ViTImageProcessor(do_resize=False), id="any size"),
        pytest.param(lambda: transformers.BitImageProcessor(do_center_crop=False), id="not cut to one size"),
    ],
)
def test_what_no_preprocessing_does_is_left_to_the_user(processor: Any, tmp_path: Path) -> None:
    assert stated(processor(), tmp_path) is None


def test_channels_that_a_processor_turns_round_are_turned_in_the_module(folder: Path) -> None:
    plain = load(folder)
    change(folder / "components" / "image_processor" / "preprocessor_config.json", do_flip_channel_order=True)
    turned = load(folder)
    images = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32))
    with torch.no_grad():
        assert torch.equal(turned.module(images).logits, plain.module(images.flip(1)).logits)
    assert turned.program_digest != plain.program_digest


def test_weights_in_several_files_are_the_same_model(folder: Path) -> None:
    one, path = load(folder), folder / "model" / "model.safetensors"
    names = set(safetensors.torch.load_file(path))
    path.unlink()
    vit().save_pretrained(folder / "model", max_shard_size="5KB")
    found = checked_folder(folder, WHAT)
    assert len(list((folder / "model").glob("model-*.safetensors"))) > 1
    assert load(folder).identity == one.identity
    state = found.flavour.state(found.path, "pets/1")
    assert state is not None
    assert set(state.tensors) == names
    lost = sorted((folder / "model").glob("model-*.safetensors"))[0]
    lost.unlink()
    with pytest.raises(RegistryError, match=f"lacks the file {lost.name}, which model.safetensors.index.json names"):
        checked_folder(folder, WHAT)


def test_the_state_is_known_without_loading(folder: Path) -> None:
    found = checked_folder(folder, WHAT)
    before = found.flavour.state(found.path, "pets/1")
    path = folder / "model" / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    tensors["classifier.bias"] += 1
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    after = found.flavour.state(found.path, "pets/1")
    assert before is not None
    assert after is not None
    assert (before.tensors, before.digest != after.digest) == (after.tensors, True)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(UnsupportedModelError, match=r"its file model.safetensors is no safetensors file"):
        found.flavour.state(found.path, "pets/1")


@pytest.mark.parametrize(
    ("name", "told"), [("classifier.weight", "lacks classifier.weight"), (None, "has classifier.more")]
)
def test_weights_that_are_missing_or_left_over_are_refused(folder: Path, name: str | None, told: str) -> None:
    """transformers draws missing ones at random, and says so in a log that nobody reads."""
    path = folder / "model" / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    if name:
        del tensors[name]
    else:
        tensors["classifier.more"] = torch.zeros(3)
    safetensors.torch.save_file(tensors, path, {"format": "pt"})
    with pytest.raises(UnsupportedModelError, match=f"model pets/1 {told}, which does not fit a ViTForImageClassif"):
        load(folder)


@pytest.mark.parametrize(
    ("keys", "told"),
    [
        ({"auto_map": {"AutoConfig": "code.Config"}}, "has auto_map in its config.json, which needs code"),
        ({"quantization_config": {"quant_method": "other"}}, "has quantization_config in its config.json"),
        ({"architectures": ["SomebodysOwn"]}, "is a SomebodysOwn, which transformers .* does not have"),
        ({"architectures": None}, "is a nothing, which transformers"),
        ({"architectures": ["BertModel"]}, "is a BertModel, which takes input_ids: attrail explains models of images"),
        ({"hidden_size": "many"}, "cannot be read by transformers"),
        ({"num_hidden_layers": 2}, "lacks vit.layers.1"),
    ],
)
def test_what_is_no_model_of_images_of_transformers_is_refused(folder: Path, keys: dict[str, Any], told: str) -> None:
    change(folder / "model" / "config.json", **keys)
    with pytest.raises((RegistryError, UnsupportedModelError), match=told) as error:
        load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("file", ["model/config.json", "components/image_processor/preprocessor_config.json"])
@pytest.mark.parametrize(("text", "told"), [("{", "is no JSON"), ("[]", "holds list, expected an object")])
def test_descriptions_that_are_none_are_refused(folder: Path, file: str, text: str, told: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(RegistryError, match=f"{Path(file).name} {told}"):
        checked_folder(folder, WHAT)


@pytest.mark.parametrize("file", ["model/pytorch_model.bin", "model/modeling_own.py", "components/own.py"])
def test_pickles_and_code_are_refused(folder: Path, file: str) -> None:
    (folder / file).write_bytes(b"no model")
    with pytest.raises(RegistryError, match=f"has the file '{file}', which no exported model needs"):
        checked_folder(folder, WHAT)


def test_a_reference_to_somebodys_hub_is_no_model(folder: Path) -> None:
    (folder / "model" / "model.safetensors").unlink()
    with pytest.raises(RegistryError, match=r"lacks the file model/model.safetensors; log it with mlflow.transformers"):
        checked_folder(folder, WHAT)
