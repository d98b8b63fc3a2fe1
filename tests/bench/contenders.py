"""Each way to explain, ours and the libraries', as a user would call it."""

from dataclasses import dataclass

import numpy as np
import shap
import torch
from captum.attr import LayerGradCam
from lime.lime_image import LimeImageExplainer
from numpy.typing import NDArray
from pytorch_grad_cam import GradCAM
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

from attrail_explainers.baselines import baseline_of
from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.model.log_odds import target_log_odds
from attrail_explainers.slice import Slice
from attrail_explainers.superpixels.evaluations import Evaluations

LAYER = "bn2"  # the last activations before the pooling, for every Grad-CAM


@dataclass(frozen=True, eq=False)
class Bench:
    """A model with photographs (N,3,224,224) and the class of each that is explained."""

    model: torch.nn.Module
    classifier: Classifier
    images: NDArray[np.float32]
    targets: NDArray[np.int64]

    def slice(self, rows: slice) -> Slice:
        ids = tuple(str(row) for row in range(len(self.images)))[rows]
        return Slice("bench", self.images[rows], self.targets[rows], ids)


def plain_inference(bench: Bench, rows: slice) -> None:
    with torch.inference_mode():
        bench.model(torch.from_numpy(bench.images[rows]))


def our_gradcam(bench: Bench, rows: slice) -> None:
    explain_slice(bench.classifier, bench.slice(rows), [make_explainer("gradcam")], bench.targets[rows], seed=0)


def captum_gradcam(bench: Bench, rows: slice) -> None:
    layer = bench.model.get_submodule(LAYER)
    images, targets = torch.from_numpy(bench.images[rows]), torch.from_numpy(bench.targets[rows])
    LayerGradCam(bench.model, layer).attribute(images, targets, relu_attributions=True)


def grad_cam_gradcam(bench: Bench, rows: slice) -> None:
    with GradCAM(bench.model, [bench.model.get_submodule(LAYER)]) as cam:
        cam(torch.from_numpy(bench.images[rows]), [ClassifierOutputTarget(int(each)) for each in bench.targets[rows]])


def our_lime_and_shap(bench: Bench, row: int, seed: int, evaluations: int) -> tuple[NDArray, NDArray]:
    """Maps (H,W) of lime and shap from one set of evaluations."""
    methods = [make_explainer(name, {"evaluations": evaluations}) for name in ("lime", "shap")]
    rows = slice(row, row + 1)
    lime, shapley = explain_slice(bench.classifier, bench.slice(rows), methods, bench.targets[rows], seed)
    return lime.values[0], shapley.values[0]


def predict(bench: Bench, images: NDArray) -> NDArray:
    """Probabilities of images (N,H,W,3), as the libraries hand them over."""
    with torch.inference_mode():
        return bench.model(torch.from_numpy(images).permute(0, 3, 1, 2).float()).softmax(dim=1).numpy()


def lime_library(bench: Bench, row: int, seed: int, samples: int) -> NDArray:
    """lime's own explanation with its defaults: weights by superpixel."""
    pixels = bench.images[row].transpose(1, 2, 0).astype(np.float64)
    target = int(bench.targets[row])
    explanation = LimeImageExplainer(random_state=seed).explain_instance(
        pixels,
        lambda images: predict(bench, images),
        labels=(target,),
        top_labels=None,
        num_samples=samples,
        random_seed=0,  # of the segmentation only: superpixels must be the same to be compared
    )
    weights = dict(explanation.local_exp[target])
    return np.array([weights[segment] for segment in sorted(weights)])


def shap_partition(bench: Bench, row: int, evaluations: int) -> NDArray:
    """shap's Partition explainer with its blur masker: values (H,W)."""
    pixels = bench.images[row].transpose(1, 2, 0)
    masker = shap.maskers.Image("blur(56,56)", pixels.shape)
    target = int(bench.targets[row])

    def log_odds(images: NDArray) -> NDArray:
        with torch.inference_mode():
            logits = bench.model(torch.from_numpy(images).permute(0, 3, 1, 2).float())
        return target_log_odds(logits, target).numpy()

    explainer = shap.PartitionExplainer(log_odds, masker)
    found = explainer(pixels[None], max_evals=evaluations, batch_size=50, silent=True)
    return np.asarray(found.values[0].sum(axis=-1))


def shap_kernel(
    bench: Bench, row: int, seed: int, evaluations: int, like: Evaluations, model: torch.nn.Module
) -> NDArray:
    """shap's Kernel explainer on the same superpixels, blur and log odds as ours."""
    image, target = torch.from_numpy(bench.images[row]), int(bench.targets[row])
    baseline, place = baseline_of(image, "blur"), torch.from_numpy(like.segments)

    def log_odds(rows: NDArray) -> NDArray:
        found = []
        with torch.inference_mode():
            for part in torch.from_numpy(rows > 0.5).split(32):
                logits = model(torch.where(part[:, place].unsqueeze(1), image, baseline))
                found.append(target_log_odds(logits, target).numpy())
        return np.concatenate(found)

    count = int(like.segments.max()) + 1
    np.random.seed(seed)  # where shap draws from
    explainer = shap.KernelExplainer(log_odds, np.zeros((1, count)), link="identity")
    found = explainer.shap_values(np.ones(count), nsamples=evaluations, l1_reg=False, silent=True)
    return np.asarray(found)
