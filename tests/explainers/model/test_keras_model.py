"""Keras models: their layers explained as torch's, and nothing loaded that is not Keras' own."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import torch
from scipy.special import softmax

from attrail_explainers import make_task
from attrail_explainers.errors import UnsupportedModelError
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.keras_model import classifier_from_keras
from attrail_explainers.model.weight_noise import WeightNoise, noised
from attrail_explainers.slice import Preprocessing, Slice

IMAGES = np.random.default_rng(0).uniform(0, 255, size=(4, 3, 16, 16)).astype(np.float32)
SLICE = Slice("noise", IMAGES, np.arange(4), tuple("abcd"))


def network() -> Any:
    keras.utils.set_random_seed(0)
    images = keras.Input((16, 16, 3))
    found = keras.layers.Rescaling(1 / 255)(images)
    found = keras.layers.Conv2D(8, 3, activation="relu", name="first")(found)
    found = keras.layers.BatchNormalization()(found)
    inner = [keras.layers.Conv2D(8, 3, activation="relu", name="first"), keras.layers.Dropout(0.5)]
    found = keras.Sequential(inner, name="inner")(found)
    found = keras.layers.GlobalAveragePooling2D()(found)
    return keras.Model(images, keras.layers.Dense(4, activation="softmax")(found))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    path, model = tmp_path_factory.mktemp("keras") / "model.keras", network()
    model.save(path)
    return path, model


def test_a_segmenters_classes_come_first(tmp_path: Path) -> None:
    """Keras has them last, as an image's channels."""
    images = keras.Input((16, 16, 3))
    found = keras.layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(images)
    model = keras.Model(images, keras.layers.Conv2D(5, 1, activation="softmax")(found))
    model.save(tmp_path / "model.keras")
    loaded = classifier_from_keras(tmp_path / "model.keras", "net", "1").for_task(make_task("segmentation"))
    shares = softmax(loaded.logits(IMAGES / 255, SLICE.sample_ids), axis=1)
    expected = model.predict(IMAGES.transpose(0, 2, 3, 1) / 255, verbose=0).transpose(0, 3, 1, 2)
    assert shares == pytest.approx(expected, abs=1e-6)


@pytest.fixture
def changed(saved: tuple[Path, Any], tmp_path: Path) -> Callable[[Callable[[dict[str, Any]], object]], Path]:
    """The saved model after a change of its description."""

    def change(how: Callable[[dict[str, Any]], object]) -> Path:
        with zipfile.ZipFile(saved[0]) as source, zipfile.ZipFile(tmp_path / "model.keras", "w") as target:
            for name in source.namelist():
                content = source.read(name)
                if name == "config.json":
                    config = json.loads(content)
                    how(config)
                    content = json.dumps(config).encode()
                target.writestr(name, content)
        return tmp_path / "model.keras"

    return change


def test_it_answers_and_is_explained_as_keras_has_it(saved: tuple[Path, Any]) -> None:
    path, model = saved
    found = classifier_from_keras(path, "net", "1")
    probabilities = softmax(found.logits(IMAGES, SLICE.sample_ids), axis=1)
    expected = model.predict(IMAGES.transpose(0, 2, 3, 1), verbose=0)
    assert probabilities == pytest.approx(expected, abs=1e-6)
    explainers = [make_explainer(name, {}) for name in ("gradcam", "shap", "integrated_gradients", "deeplift", "lrp")]
    for maps in explain_slice(found, SLICE, explainers, SLICE.labels, seed=0):
        assert set(maps.undefined.values()) <= {"no positive evidence for the target"}
        assert len(maps.undefined) < len(IMAGES)
        if maps.explainer == "gradcam":
            assert maps.parameters["layer"] == "inner"


def test_layers_of_one_name_are_told_apart(saved: tuple[Path, Any]) -> None:
    names = set(dict(classifier_from_keras(saved[0], "net", "1").module.named_children()))
    assert {"first", "first__1", "inner"} <= names


def test_loaded_again_it_is_the_same_model(saved: tuple[Path, Any]) -> None:
    first, again = (classifier_from_keras(saved[0], "net", "1") for _ in range(2))
    assert first.identity == again.identity


def test_pixels_are_given_where_the_input_or_the_signature_says_so(saved: tuple[Path, Any], tmp_path: Path) -> None:
    images, inner = keras.Input((16, 16, 3), dtype="uint8"), saved[1]
    keras.Model(images, inner(images)).save(tmp_path / "model.keras")
    path, model = saved
    pixels, by = IMAGES.round().astype(np.uint8), Preprocessing((16, 16), (0.5,) * 3, (0.25,) * 3)
    normalised = ((pixels / 255 - 0.5) / 0.25).astype(np.float32)
    expected = model.predict(pixels.transpose(0, 2, 3, 1), verbose=0)
    own = classifier_from_keras(tmp_path / "model.keras", "net", "1")
    assert own.takes == "uint8"
    for found in (own, classifier_from_keras(path, "net", "1").declared("uint8")):
        logits = found.for_images(by).logits(normalised, SLICE.sample_ids)
        assert softmax(logits, axis=1) == pytest.approx(expected, abs=1e-6)


def test_a_copy_is_its_own(saved: tuple[Path, Any]) -> None:
    found = classifier_from_keras(saved[0], "net", "1")
    before = found.logits(IMAGES, SLICE.sample_ids)
    noisy = noised(found, found.working_copy(IMAGES), WeightNoise(0, 0, 1.0))
    assert np.abs(noisy.logits(IMAGES, SLICE.sample_ids) - before).max() > 0.01
    assert np.array_equal(found.logits(IMAGES, SLICE.sample_ids), before)


def layer(config: dict[str, Any], number: int) -> dict[str, Any]:
    found: dict[str, Any] = config["config"]["layers"][number]
    return found


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda config: layer(config, 1).update({"class_name": "Lambda"}), "keras.layers.Lambda"),
        (lambda config: layer(config, 1).update({"module": "pathlib", "class_name": "PurePath"}), "pathlib.PurePath"),
        (lambda config: layer(config, 1).update({"module": "kerasown.layers"}), "kerasown.layers.Rescaling"),
        (lambda config: layer(config, 1).update({"module": None, "registered_name": "own>Scale"}), "own>Scale"),
    ],
)
def test_parts_that_are_not_keras_own_are_refused(
    how: Callable[[dict[str, Any]], object], told: str, changed: Callable[..., Path]
) -> None:
    with pytest.raises(UnsupportedModelError, match=f"has parts that are not Keras' own, .*: {told}; build it"):
        classifier_from_keras(changed(how), "net", "1")


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (lambda config: layer(config, 1).update({"class_name": "NoSuchLayer"}), "cannot be read by Keras"),
        (lambda config: config.update({"class_name": "NoSuchModel"}), "cannot be read by Keras"),
    ],
)
def test_what_keras_cannot_read_is_said(
    how: Callable[[dict[str, Any]], object], told: str, changed: Callable[..., Path]
) -> None:
    with pytest.raises(UnsupportedModelError, match=told) as error:
        classifier_from_keras(changed(how), "net", "1")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"\x89HDF", b"PK\x05\x06" + bytes(18)])
def test_another_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "model.keras").write_bytes(content)
    with pytest.raises(UnsupportedModelError, match=r"its file model.keras is no .keras file"):
        classifier_from_keras(tmp_path / "model.keras", "net", "1")


def test_what_takes_no_images_is_refused(tmp_path: Path) -> None:
    keras.Sequential([keras.Input((7,)), keras.layers.Dense(2)]).save(tmp_path / "model.keras")
    with pytest.raises(UnsupportedModelError, match=r"expected one input of images, its input is \(None, 7\)"):
        classifier_from_keras(tmp_path / "model.keras", "net", "1")


def test_training_mode_changes_nothing(saved: tuple[Path, Any]) -> None:
    module = classifier_from_keras(saved[0], "net", "1").module
    images = torch.from_numpy(IMAGES)
    with torch.no_grad():
        assert torch.equal(module.train()(images), module.eval()(images))
