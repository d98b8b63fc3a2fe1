"""Families of models: the target layer is found, its places are where they seem to be, and FAMILIES.md is true."""

import dataclasses
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from attrail_explainers.errors import UnknownNameError
from attrail_explainers.explainer import explainer_names
from attrail_explainers.explanation import explain_slice
from attrail_explainers.layers.probing import Probing, locality
from attrail_explainers.layers.target_layer import target_layer
from attrail_explainers.methods.saliency import METHOD
from attrail_explainers.model import working_copy
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.loading import classifier_from_export
from attrail_explainers.slice import Slice

sys.path.append(str(Path(__file__).parent))
import families
from families import CLASSES, FAMILIES, HEAVY, TABLE, WORKS, cheap, noise, outcome, read_table

QUICK = ("gradcam", "gradcam_plus_plus", "layercam", "cam", "attention_rollout")
# Models without a convolution after their first stages: a change in one place changes that place most, exactly.
EXACT = (
    "vit",
    "visiontransformer",
    "deit",
    "beit",
    "eva02",
    "cait",
    "swin",
    "mixer",
    "resmlp",
    "gmlp",
    "hiera",
    "pit_",
    "volo",
    "tnt",
)
EXPORTED = ("resnet10t", "mobilenetv3_small_050", "deit_tiny_distilled_patch16_224", "VisionTransformer")
EXPORTED += ("swin_tiny_patch4_window7_224", "test_convnext")

UNBUILT = "failed: the model, RuntimeError: Unknown model (no_such_model)"

light = [family for family in FAMILIES if family.model not in HEAVY]


@pytest.fixture(autouse=True)
def _two_images_are_a_batch(monkeypatch):
    monkeypatch.setitem(working_copy.MOST, "cpu", 2)


@pytest.fixture(scope="module")
def table():
    return read_table()


def change(model, layer, image, row, column):
    """How much the activations (h,w) change when the image (1,C,H,W) is drawn anew in the part of one place."""
    height, width = (
        side // count for side, count in zip(image.shape[2:], (layer.places.rows, layer.places.columns), strict=True)
    )
    part = (..., slice(row * height, (row + 1) * height), slice(column * width, (column + 1) * width))
    other, kept = image.clone(), []
    other[part] = torch.randn(other[part].shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad(), model.hooks({layer.name: lambda module, given, output: kept.append(output)}):
        model.call(torch.cat([image, other]), hooked=True)
    before, after = layer.places.grid(kept[0])
    return (after - before).abs().mean(dim=0)


@pytest.mark.parametrize("family", light, ids=lambda family: family.label)
def test_family(family, table):
    """The layer is found and passes its checks; its places are local; the quick explainers do as the table says."""
    classifier, images = Classifier(family.label, "", family.build()), noise(family)
    model, image = (
        classifier.working_copy(images),
        torch.randn(1, 3, *family.size, generator=torch.Generator().manual_seed(3)),
    )
    layer = target_layer(model, torch.from_numpy(images))
    assert locality(Probing.of(model, image, [layer.name]).activations(layer.name, layer.places)) > 0.55, "0.5: turned"
    if family.model.removeprefix("test_").lower().startswith(EXACT):
        rows, columns = layer.places.rows, layer.places.columns
        for row, column in ((0, columns - 1), (rows // 2, 0), (rows - 1, columns // 2)):
            found = int(change(model, layer, image, row, column).argmax())
            assert divmod(found, columns) == (row, column)
    assert {name: outcome(classifier, images, name) for name in QUICK} == {
        name: table[family.label][name] for name in QUICK
    }


def test_table_is_of_these_families_and_explainers(table):
    """Write it anew with ``make families``."""
    assert list(table) == [family.label for family in FAMILIES]
    assert all(list(outcomes) == explainer_names() for outcomes in table.values())


def test_what_fails_is_named_and_the_others_are_written(tmp_path, monkeypatch, capsys, table):
    """A family that cannot be built, and an explainer that raises what it should not."""
    (sound,) = [family for family in FAMILIES if family.model == "resnet10t"]
    monkeypatch.setattr(families, "FAMILIES", (sound, dataclasses.replace(sound, model="no_such_model"), sound))
    monkeypatch.setattr(families, "TABLE", Path(shutil.copy(TABLE, tmp_path)))
    monkeypatch.setattr(METHOD, "attribute", lambda *_: {}["a slip"])
    assert families.main(["saliency", "gradcam"]) == 1
    written = families.read_table()
    assert written[sound.label] == table[sound.label] | {"saliency": "failed: saliency, KeyError: 'a slip'"}
    assert set(written["timm no_such_model"].values()) == {UNBUILT}
    last = capsys.readouterr().err.splitlines()[-3:]
    assert [each.partition(": failed: ")[0] for each in last] == [sound.label, "timm no_such_model", sound.label]
    with pytest.raises(UnknownNameError, match="grad-cam"):
        families.main(["grad-cam"])


def test_class_activation_works_on_every_family(table):
    assert len({family.name for family in light}) >= 40
    for label, outcomes in table.items():
        assert [outcomes[name] for name in ("gradcam", "gradcam_plus_plus", "layercam")] == [WORKS] * 3, label


@pytest.mark.parametrize(
    "family", [each for each in FAMILIES if each.model in EXPORTED], ids=lambda family: family.label
)
def test_export_has_the_same_layer_and_maps(family, tmp_path):
    net, images = family.build(), noise(family)
    program = torch.export.export(net, (torch.from_numpy(images),), dynamic_shapes=({0: torch.export.Dim("batch")},))
    torch.export.save(program, tmp_path / "net.pt2")
    ids, targets = ("a", "b"), np.array([0, CLASSES - 1])
    first, second = (
        explain_slice(each, Slice("s", images, targets, ids), [cheap("gradcam")], targets, seed=0)[0]
        for each in (Classifier("net", "1", net), classifier_from_export(tmp_path / "net.pt2", "net", "1"))
    )
    assert first.parameters == second.parameters
    assert first.undefined == second.undefined
    assert np.abs(np.nan_to_num(first.values - second.values)).max() <= 1e-5 * np.nanmax(first.values)


@pytest.mark.parametrize(
    ("model", "layer"),
    [
        ("resnet18", "layer4"),
        ("tf_efficientnet_lite0", "bn2"),
        ("densenet121", "features"),
        ("test_vit", "blocks.5.norm1"),
        ("vit_b_16", "encoder.layers.encoder_layer_11.ln_1"),
        ("deit_tiny_distilled_patch16_224", "blocks.3.norm1"),
        ("vit_base_patch16_siglip_224", "norm"),
        ("cait_xxs24_224", "blocks"),
        ("hiera_tiny_224", "blocks.11"),
    ],
)
def test_table_names_the_layer(model, layer):
    (line, *_) = [each for each in TABLE.read_text().splitlines() if f" {model} " in each and each.startswith("|")]
    assert line.split("|")[4].strip() == layer
