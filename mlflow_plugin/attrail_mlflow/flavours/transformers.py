"""Hugging Face models as ``save_pretrained`` writes them: safetensors and plain descriptions, none of it code."""

import json
import math
import re
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar

from attrail_explainers.errors import RegistryError, UnsupportedModelError
from attrail_explainers.excerpt import excerpt
from attrail_explainers.parameters import is_number, is_whole

if TYPE_CHECKING:
    from attrail_explainers.model.classifier import Classifier
    from attrail_explainers.model_files.export_archive import ArchivedState

PROCESSORS = tuple(f"components/{name}/preprocessor_config.json" for name in ("image_processor", "feature_extractor"))
WEIGHTS = re.compile(r"model(-[0-9]{5}-of-[0-9]{5})?\.safetensors|model\.safetensors\.index\.json")
INSIDE = "preprocessor_config.json"  # the processor, in the folder of the model itself
UNREAD = {INSIDE, ".gitattributes", "README.md", "generation_config.json", "training_args.bin"}  # in such a folder
BESIDE = {"LICENSE.txt", "model_card.md", "model_card_data.yaml", *PROCESSORS}
RESAMPLING = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")  # by Pillow's numbers
UNNAMED = re.compile(r"LABEL_[0-9]+")
PLAIN = {"Beit", "Bit", "CLIP", "DeiT", "EfficientNet", "MobileNetV1", "MobileNetV2", "MobileViT", "Segformer"}
PLAIN |= {"Siglip", "ViT"}  # processors that resize, crop and normalise as their fields say, tried by the tests
CONVNEXT, UNCROPPED = "ConvNext", 384  # which crops by ``crop_pct`` below so many pixels, and warps from there on


class Transformers:
    """What ``mlflow.transformers.log_model`` writes for an image model, alone or in a pipeline."""

    name: ClassVar[str] = "transformers"
    title: ClassVar[str] = "transformers"
    keys: ClassVar[frozenset[str]] = frozenset(
        {
            *("code", "components", "feature_extractor_type", "framework", "image_processor_type", "instance_type"),
            *("model_binary", "pipeline_model_type", "source_model_name", "task", "torch_dtype"),
            "transformers_version",
        }
    )
    data_key: ClassVar[str] = "model_binary"
    loader: ClassVar[str] = "mlflow.transformers"
    pyfunc_data: ClassVar[bool] = False
    runs_code: ClassVar[bool] = False
    log_again: ClassVar[str] = (
        "log it with mlflow.transformers.log_model, a model with its image processor, its weights in safetensors "
        "(save_pretrained=True) and without code_paths"
    )
    members: ClassVar[tuple[str, ...]] = ("{data}/config.json",)
    describing: ClassVar[tuple[str, ...]] = ("{data}/config.json", f"{{data}}/{INSIDE}", *PROCESSORS)

    def may_have(self, name: str, data: str) -> bool:
        """Weights in one file or several, the processor, and what says where the model came from."""
        folder, _, file = name.rpartition("/")
        return name in BESIDE or (folder == data and bool(WEIGHTS.fullmatch(file)))

    def require_known(self, folder: Path, data: str, what: str) -> None:
        """There are weights, and the configuration asks for no code and no other library to read them."""
        for name in sorted(
            path.name for path in (folder / data).iterdir() if path.is_file()
        ):  # transformers looks for files by itself
            if name != "config.json" and name not in UNREAD and not WEIGHTS.fullmatch(name):
                raise RegistryError(
                    f"{what} has the file {excerpt(f'{data}/{name}')} beside its model; {self.log_again}"
                )
        if not (folder / data / "model.safetensors").exists():
            index = folder / data / "model.safetensors.index.json"
            if not index.exists():
                raise RegistryError(f"{what} lacks the file {data}/model.safetensors; {self.log_again}")
            _require_shards(index, what, self.log_again)
        config = _read(folder / data / "config.json", what)
        for key in ("auto_map", "custom_pipelines", "quantization_config"):
            if config.get(key):
                raise RegistryError(
                    f"{what} has {key} in its config.json, which needs code or libraries that are not loaded here: "
                    f"{excerpt(repr(config[key]))}; log it as a model of transformers itself, in floating point"
                )

    def inside(self, names: Collection[str]) -> Mapping[str, str]:
        """Folders of ``save_pretrained``: a configuration with weights beside it."""
        folders = {str(PurePosixPath(name).parent) for name in names if WEIGHTS.fullmatch(PurePosixPath(name).name)}
        return {f"{each}/config.json": each for each in folders if f"{each}/config.json" in names}

    def facts(self, folder: Path, data: str, what: str) -> Mapping[str, Any]:
        """Preprocessing by the image processor and class names by ``id2label``, where the files say so."""
        config = folder / data / "config.json"
        classes = _class_names(_read(config, what)) if config.exists() else []
        processors = _processors(folder / data)
        preprocessing = _preprocessing(_read(processors[0], what)) if processors else None
        return {key: found for key, found in (("classes", classes), ("preprocessing", preprocessing)) if found}

    def state(self, model: Path, label: str) -> "ArchivedState | None":
        """As ``safetensors_state`` reads it from the files beside the configuration."""
        from attrail_explainers.model_files.safetensors_state import safetensors_state  # noqa: PLC0415 - it loads NumPy

        return safetensors_state(sorted(model.parent.glob("*.safetensors")), label)

    def classifier(self, model: Path, name: str, version: str) -> "Classifier":
        """As ``classifier_from_pretrained`` reads it; UnsupportedModelError when it is not as it must be."""
        try:
            from attrail_explainers.model.pretrained import classifier_from_pretrained  # noqa: PLC0415 - it loads torch
        except ModuleNotFoundError as error:
            raise UnsupportedModelError(
                f"model {name}/{version} is one of transformers: {error}; install attrail with it, pip install "
                "'attrail[transformers]'"
            ) from error
        what = f"model {name}/{version}"
        turned = any(_read(each, what).get("do_flip_channel_order") for each in _processors(model.parent))
        return classifier_from_pretrained(model.parent, name, version, turned=turned)


def _processors(folder: Path) -> list[Path]:
    """The files that say what is done to pictures, in a model's own folder or as MLflow keeps them."""
    return [path for path in (folder / INSIDE, *(folder.parent / name for name in PROCESSORS)) if path.exists()]


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise RegistryError(f"{what}: its file {path.name} is no JSON: {excerpt(error)}") from error
    if not isinstance(found, dict):
        raise RegistryError(f"{what}: its file {path.name} holds {type(found).__name__}, expected an object")
    return found


def _require_shards(index: Path, what: str, log_again: str) -> None:
    named = _read(index, what).get("weight_map")
    files = set(named.values()) if isinstance(named, dict) else set()
    for file in sorted(map(str, files)):
        if not WEIGHTS.fullmatch(file) or not (index.parent / file).exists():
            raise RegistryError(f"{what} lacks the file {excerpt(file)}, which {index.name} names; {log_again}")


def _class_names(config: Mapping[str, Any]) -> list[str]:
    """Names in the order of the outputs; none where these are transformers' own place-holders."""
    named = config.get("id2label")
    if not isinstance(named, dict):
        return []
    names = [named.get(str(number)) for number in range(len(named))]
    known = all(isinstance(each, str) for each in names) and not all(UNNAMED.fullmatch(str(each)) for each in names)
    return [str(each) for each in names] if known else []


def _preprocessing(processor: Mapping[str, Any]) -> dict[str, Any] | None:
    """The fields of ``Preprocessing`` that do what an image processor does; None where no fields do.

    Processors that scale by the longer side, fill up, cut out more than there is or have a resize of their own are left
    to the user. transformers resizes by torchvision, here it is Pillow: the same filters, a few levels of 255 apart.
    """
    geometry = _geometry(processor)
    rescales = processor.get("do_rescale", True)  # else the model takes numbers of 0 to 255
    resample, factor = processor.get("resample"), processor.get("rescale_factor", 1 / 255) if rescales else 1.0
    normalises = processor.get("do_normalize")
    mean = _numbers(processor.get("image_mean")) if normalises else [0.0] * 3
    std = _numbers(processor.get("image_std")) if normalises else [1.0] * 3
    if geometry is None or not is_whole(resample) or resample not in range(len(RESAMPLING)) or not (mean and std):
        return None
    if not isinstance(factor, float) or (rescales and processor.get("rescale_offset")):
        return None
    if processor.get("include_top"):  # EfficientNet's, which divides twice
        std = [each**2 for each in std]
    scale = factor * 255
    given = {"mean": [each / scale for each in mean], "std": [each / scale for each in std]}
    return {**geometry, **given, "interpolation": RESAMPLING[resample]}


def _geometry(processor: Mapping[str, Any]) -> dict[str, Any] | None:
    """Size, crop and its mode."""
    size = processor.get("size")
    if not isinstance(size, dict) or not processor.get("do_resize", True):
        return None
    if set(size) == {"height", "width"}:
        resized, mode = (size["height"], size["width"]), "squash"
    elif set(size) == {"shortest_edge"}:
        resized, mode = (size["shortest_edge"],) * 2, "center"
    else:
        return None
    kind = _kind(processor)
    if kind == CONVNEXT and mode == "center":
        warped = resized[0] >= UNCROPPED
        return {"size": resized, **({"crop_mode": "squash"} if warped else {"crop": processor.get("crop_pct")})}
    inner = processor.get("crop_size") if processor.get("do_center_crop") else None
    cropped = resized if inner is None else (inner.get("height"), inner.get("width"))
    if kind not in PLAIN or not all(map(is_whole, (*resized, *cropped))) or (inner is None and mode == "center"):
        return None
    shares = {_share(*sides) for sides in zip(cropped, resized, strict=True)}
    return {"size": cropped, "crop": shares.pop(), "crop_mode": mode} if len(shares) == 1 and max(shares) <= 1 else None


def _kind(processor: Mapping[str, Any]) -> str:
    """The family that a processor is of: classes of several names are one."""
    stated = processor.get("image_processor_type") or processor.get("feature_extractor_type") or ""
    return re.sub("(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(stated))


def _share(inner: int, outer: int) -> float:
    """The share of a resized side that is kept; timm, which divides by it, must come to ``outer`` again."""
    share = inner / outer
    return share if math.floor(inner / share) == outer else math.nextafter(share, 0)


def _numbers(found: Any) -> list[float]:
    """A list of numbers, empty where it is none."""
    return found if isinstance(found, list) and all(map(is_number, found)) else []


FLAVOUR = Transformers
