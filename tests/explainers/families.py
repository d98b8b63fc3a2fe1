"""Families of image classifiers that the explainers are held to: the smallest member of each, with random weights.

``make families`` runs every explainer on every family and writes ``explainers/FAMILIES.md``, ``families.py NAME`` one
explainer alone; ``test_families.py`` holds the file to what its own, shorter run finds.
"""

import dataclasses
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

import numpy as np
import timm
import torch
import torchvision
from families_page import PAGE, first_part, with_first_part

from attrail_explainers.errors import ExplanationError, UnsupportedModelError
from attrail_explainers.explainer import Explainer, explainer_class, explainer_names, make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.layers.target_layer import target_layer
from attrail_explainers.model import working_copy
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.slice import Slice

TABLE = PAGE
COMMAND = "make families"
WORKS, FAILED = "works", "failed"
# Run by the command alone: members that take seconds, of families that have others or are rare.
HEAVY = {"convnext_tiny", "davit_tiny", "efficientnetv2_rw_t", "focalnet_tiny_srf", "gcvit_xxtiny", "inception_v3"}
HEAVY |= {"mvitv2_tiny", "nest_tiny", "repvit_m0_9", "res2net50_14w_8s", "resnext50_32x4d", "swin_t", "tiny_vit_5m_224"}
HEAVY |= {"twins_svt_small", "vgg11", "visformer_tiny", "vit_b_16", "volo_d1_224", "xception41"}
CLASSES = 7
FEW = {"segments": 6, "evaluations": 24, "steps": 4, "samples": 4, "window": 0.5, "stride": 0.5}


@dataclass(frozen=True)
class Family:
    """``model`` of ``library`` with ``options``, run on images of ``size`` (H,W)."""

    name: str
    library: str
    model: str
    size: tuple[int, int] = (96, 96)
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Name of its own: some models come twice, with other options."""
        return " ".join(filter(None, (self.library, self.model, self.options.get("global_pool"))))

    def build(self) -> torch.nn.Module:
        """The family's member under a fixed seed, in evaluation mode."""
        torch.manual_seed(0)
        if self.library == "torchvision":
            net = getattr(torchvision.models, self.model)(num_classes=CLASSES, **self.options)
        else:
            net = timm.create_model(self.model, num_classes=CLASSES, **self.options)
        return _enlivened(net, self.size)


def _enlivened(net: torch.nn.Module, size: tuple[int, int]) -> torch.nn.Module:
    """Batch norms that have seen images, and no weights that are zero: as random as it is, training starts worse."""
    norms = [each for each in net.modules() if isinstance(each, torch.nn.modules.batchnorm._BatchNorm)]
    for norm in norms:
        norm.momentum = None
    for weight in net.parameters():
        if not weight.any() and weight.ndim > 1:
            torch.nn.init.normal_(weight, std=0.02)
    with torch.no_grad():
        if norms:
            net.train()(torch.randn(4, 3, *size))
    return net.eval()


def _timm(name: str, model: str, side: int = 96, **options: Any) -> Family:
    return Family(name, "timm", model, (side, side), options)


def _vision(name: str, model: str, side: int = 96, **options: Any) -> Family:
    return Family(name, "torchvision", model, (side, side), options)


FAMILIES = (
    _timm("ResNet", "resnet10t"),
    _vision("ResNet", "resnet18"),
    _timm("ResNeXt", "resnext26ts"),
    _vision("ResNeXt", "resnext50_32x4d"),
    _timm("RegNet", "regnetx_002"),
    _vision("RegNet", "regnet_y_400mf", 128),
    _timm("EfficientNet", "efficientnet_b0", 160),
    _vision("EfficientNet", "efficientnet_b0", 160),
    _timm("EfficientNet-lite", "tf_efficientnet_lite0", 192),
    _timm("EfficientNet v2", "efficientnetv2_rw_t", 160),
    _timm("MobileNet v2", "mobilenetv2_035", 160),
    _vision("MobileNet v2", "mobilenet_v2", 128),
    _timm("MobileNet v3", "mobilenetv3_small_050", 160),
    _vision("MobileNet v3", "mobilenet_v3_small", 160),
    _timm("MobileNet v4", "mobilenetv4_conv_small_050", 160),
    _timm("ConvNeXt", "test_convnext"),
    _vision("ConvNeXt", "convnext_tiny"),
    _timm("DenseNet", "densenet121"),
    _vision("DenseNet", "densenet121"),
    _timm("VGG", "vgg11"),
    _vision("VGG", "vgg11_bn"),
    _timm("Inception", "inception_v3", 192),
    _vision("Inception", "googlenet", 128, init_weights=False, aux_logits=False),
    _timm("Xception", "xception41", 160),
    _timm("GhostNet", "ghostnet_050", 128),
    _timm("NFNet", "test_nfnet"),
    _timm("DPN", "dpn48b"),
    _timm("HRNet", "hrnet_w18_small"),
    _timm("RepVGG", "repvgg_a0", 160),
    _vision("SqueezeNet", "squeezenet1_1"),
    _vision("ShuffleNet", "shufflenet_v2_x0_5", 160),
    _timm("MNASNet", "mnasnet_small", 160),
    _timm("Res2Net", "res2net50_14w_8s"),
    _timm("ResNeSt", "resnest14d"),
    _timm("SKNet", "skresnet18"),
    _timm("VovNet", "ese_vovnet19b_slim_dw"),
    _timm("ViT", "test_vit", img_size=96),
    _timm("ViT", "test_vit", 96, img_size=96, global_pool="avg"),
    _vision("ViT", "vit_b_16", image_size=96),
    _vision(
        "ViT",
        "VisionTransformer",
        image_size=96,
        patch_size=16,
        num_layers=3,
        num_heads=3,
        hidden_dim=96,
        mlp_dim=192,
    ),
    _timm("DeiT", "deit_tiny_patch16_224", img_size=96, depth=4),
    _timm("DeiT distilled", "deit_tiny_distilled_patch16_224", img_size=96, depth=4),
    _timm("DINOv2 with registers", "vit_small_patch14_reg4_dinov2", 98, img_size=98, depth=4),
    _timm("SigLIP", "vit_base_patch16_siglip_224", img_size=96, depth=3, embed_dim=192, num_heads=3),
    _timm("EVA-02", "eva02_tiny_patch14_224", 98, img_size=98, depth=4),
    _timm("BEiT", "beit_base_patch16_224", img_size=96, depth=4, embed_dim=192, num_heads=3),
    _timm("CaiT", "cait_xxs24_224", img_size=96, depth=4),
    _timm("XCiT", "xcit_nano_12_p16_224", img_size=96, depth=4),
    _timm("Swin", "swin_tiny_patch4_window7_224", 128, img_size=128, window_size=4, depths=(2, 2, 2, 2), embed_dim=48),
    _vision("Swin", "swin_t", 128),
    _vision(
        "Swin",
        "SwinTransformer",
        128,
        patch_size=[4, 4],
        embed_dim=48,
        depths=[2, 2, 2, 2],
        num_heads=[3, 6, 12, 24],
        window_size=[4, 4],
    ),
    _timm("Swin v2", "swinv2_tiny_window8_256", 128, img_size=128, window_size=4, depths=(2, 2, 2, 2), embed_dim=48),
    _timm("MaxViT", "maxvit_pico_rw_256", 128, img_size=128),
    _timm("CoAtNet", "test_coatnet", 160),
    _timm("PVT v2", "pvt_v2_b0"),
    _timm("EfficientFormer", "efficientformer_l1", 224),
    _timm("MLP-Mixer", "mixer_s32_224", 128, img_size=128),
    _timm("ResMLP", "resmlp_12_224", img_size=96),
    _timm("gMLP", "gmlp_ti16_224", img_size=96),
    _timm("Hiera", "hiera_tiny_224", 224, embed_dim=48),
    _timm("LeViT", "levit_128s", 224),
    _timm("PiT", "pit_ti_224", 224),
    _timm("PoolFormer", "poolformer_s12"),
    _timm("MobileViT", "mobilevit_xxs"),
    _timm("EdgeNeXt", "edgenext_xx_small"),
    _timm("FastViT", "fastvit_t8"),
    _timm("TinyViT", "tiny_vit_5m_224", 224),
    _timm("FocalNet", "focalnet_tiny_srf"),
    _timm("GCViT", "gcvit_xxtiny", 224),
    _timm("DaViT", "davit_tiny", 224, depths=(1, 1, 1, 1)),
    _timm("RepViT", "repvit_m0_9", 128),
    _timm("VOLO", "volo_d1_224", 96, img_size=96),
    _timm("TNT", "tnt_s_patch16_224", 96, img_size=96, depth=4),
    _timm("Twins", "twins_svt_small", 96, img_size=96),
    _timm("Nest", "nest_tiny", 128, img_size=128),
    _timm("Visformer", "visformer_tiny", 224),
    _timm("EfficientViT", "efficientvit_b0", 224),
    _timm("MambaOut", "mambaout_femto"),
    _timm("MViT v2", "mvitv2_tiny", 96, img_size=96),
)


def noise(family: Family, count: int = 2) -> np.ndarray:
    """Images (N,3,H,W) of the family's size, coarse enough to have superpixels."""
    coarse = torch.randn(count, 3, 6, 6, generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, family.size, mode="bicubic").numpy()


def cheap(name: str) -> Explainer:
    """The explainer with parameters that make it fast: whether it applies does not depend on them."""
    fields = {each.name for each in dataclasses.fields(explainer_class(name))}
    return make_explainer(name, {key: value for key, value in FEW.items() if key in fields})


def outcome(classifier: Classifier, images: np.ndarray, name: str) -> str:
    """``works``, or why the explainer does not apply to the classifier.

    Random weights need not have evidence for a class: the classes are tried in turn, the likeliest first.
    """
    ids = tuple(str(row) for row in range(len(images)))
    ranking = np.argsort(-classifier.logits(images[:1], ids[:1])[0])
    reason = ""
    for target in ranking:
        targets = np.full(len(images), target)
        try:
            (found,) = explain_slice(classifier, Slice("noise", images, targets, ids), [cheap(name)], targets, seed=0)
        except UnsupportedModelError as error:
            return _plain(str(error), classifier.label)
        except ExplanationError as error:
            reason = reason or _plain(str(error), classifier.label)
            continue
        if np.ptp(found.values[found.defined], axis=(1, 2)).any():
            return WORKS
        reason = reason or "the map is the same everywhere"
    return reason


def _plain(message: str, label: str) -> str:
    """A reason without names and advice, on one line: the same for all models that it holds for."""
    sentence = message.replace(f"model {label}", "the model").replace("slice 'noise'", "the slice").partition(";")[0]
    return re.sub(r"layer '[^']+'", "the target layer", sentence).replace("|", "/").replace("\n", " ")


def run(family: Family, names: Sequence[str]) -> tuple[str, dict[str, str]]:
    """The layer that the class-activation methods take, and the outcome of each explainer.

    What fails, by a defect of an explainer or of the model, has that for its outcome: the others are not lost with it.
    """
    try:
        classifier, images = Classifier(family.label, "", family.build()), noise(family)
        layer = target_layer(classifier.working_copy(images), torch.from_numpy(images)).name
    except Exception as error:  # noqa: BLE001 - whatever it is, it is named in the table and at the end
        return "none", dict.fromkeys(names, _failure("the model", error, family.label))
    outcomes = {}
    for name in names:
        try:
            outcomes[name] = outcome(classifier, images, name)
        except Exception as error:  # noqa: BLE001 - likewise
            outcomes[name] = _failure(name, error, family.label)
    return layer, outcomes


def _failure(what: str, error: Exception, label: str) -> str:
    return f"{FAILED}: {what}, {_plain(f'{type(error).__name__}: {error}', label)}"


def read_table() -> dict[str, dict[str, str]]:
    """The outcomes that the written table lists, by the label of the family and the name of the explainer."""
    lines = first_part(TABLE.read_text(encoding="utf-8")).splitlines()
    notes = dict(line.split(". ", 1) for line in lines if line.split(".")[0].isdigit())
    header, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line[:1] == "|"]
    table = {}
    for _, label, _, _, *cells in rows:
        table[label] = {
            name: WORKS if cell == WORKS else notes[cell] for name, cell in zip(header[4:], cells, strict=True)
        }
    return table


def _written(rows: list[tuple[Family, str, dict[str, str]]], names: Sequence[str]) -> str:
    reasons = list(dict.fromkeys(each for _, _, outcomes in rows for each in outcomes.values() if each != WORKS))
    number = {reason: str(1 + row) for row, reason in enumerate(reasons)} | {WORKS: WORKS}
    versions = ", ".join(
        f"{each} {version(each)}" for each in ("torch", "torchvision", "timm", "captum", "shap", "lime")
    )
    head = ["family", "model", "image", "target layer", *names]
    lines = [
        "# Which explainer works on which family of models",
        "",
        f"Written by `{COMMAND}` with {versions}. Each model has random weights and,",
        "where its options allow it, fewer blocks and smaller images than usual; each explainer has few evaluations.",
        "`works`: a finite map that is not the same everywhere, from a layer that passed its checks. A number: not",
        "applicable, the reason is below.",
        "",
        "| " + " | ".join(head) + " |",
        "|" + "---|" * len(head),
    ]
    for family, layer, outcomes in rows:
        cells = [family.name, family.label, "x".join(map(str, family.size)), layer]
        lines.append("| " + " | ".join([*cells, *(number[outcomes[name]] for name in names)]) + " |")
    return "\n".join([*lines, "", *(f"{number[reason]}. {reason}" for reason in reasons), ""])


def main(only: Sequence[str]) -> int:
    """Write the table; with ``only`` some explainers, the other outcomes of the families in it stay as they are.

    Returns the exit status: 1 when something failed, which is in the table and named again at the end.
    """
    working_copy.MOST["cpu"] = 2  # the two images are the whole batch
    for name in only:
        explainer_class(name)  # an unknown one is told before anything is computed
    names, started, rows, failed = explainer_names(), time.perf_counter(), [], []
    kept = read_table() if only else {}
    for family in FAMILIES:
        known = kept.get(family.label, {})
        layer, outcomes = run(family, [name for name in names if name in only or name not in known])
        rows.append((family, layer, known | outcomes))
        failed += [f"{family.label}: {each}" for each in dict.fromkeys(outcomes.values()) if each.startswith(FAILED)]
        print(f"{time.perf_counter() - started:6.0f} s  {family.label}", file=sys.stderr)
    TABLE.write_text(with_first_part(TABLE.read_text(encoding="utf-8"), _written(rows, names)), encoding="utf-8")
    for each in failed:
        print(each, file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main(sys.argv[1:]))
