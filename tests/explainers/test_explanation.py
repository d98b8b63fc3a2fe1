"""The engine: progress adds up, image by image where the method works so."""

import numpy as np
import pytest
import torch

from attrail_explainers import explain
from attrail_explainers.explainer import Need, explainer_class, explainer_names, make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.slice import Slice


def test_progress_counts_every_map_once(pictures, small_net) -> None:
    labels = np.zeros(len(pictures), dtype=np.int64)
    slice_ = Slice("photographs", pictures, labels, tuple(f"image {row}" for row in range(len(pictures))))
    names = [name for name in explainer_names() if Need.ATTENTION not in explainer_class(name).needs]
    explainers = [make_explainer(name) for name in names]
    steps: list[int] = []
    explain_slice(Classifier("net", "1", small_net()), slice_, explainers, labels, 0, steps.append)
    assert sum(steps) == len(pictures) * len(explainers)
    assert steps.count(1) >= 2 * len(pictures)


@pytest.mark.parametrize("name", explainer_names())
def test_works_under_the_callers_own_inference_mode(name: str, pictures, small_net, small_transformer) -> None:
    make = small_transformer if Need.ATTENTION in explainer_class(name).needs else small_net
    outside = explain(make(), pictures, [0] * len(pictures), name)
    net = make()
    with torch.inference_mode():
        inside = explain(net, pictures, [0] * len(pictures), name)
    assert inside.digest == outside.digest


class Crowded(torch.nn.Module):
    """Runs out of memory when asked about more than so many images at once, as a GPU or a CPU says it."""

    def __init__(self, net: torch.nn.Module, most: int, error: Exception) -> None:
        super().__init__()
        self.net, self.most, self.error = net, most, error

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if len(images) > self.most:
            raise self.error
        return self.net(images)


GPU = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
CPU = RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes.")


@pytest.mark.parametrize("error", [GPU, CPU], ids=["gpu", "cpu"])
@pytest.mark.parametrize("name", ["gradcam", "shap", "integrated_gradients"])
def test_batches_get_smaller_when_memory_runs_out(name: str, error: Exception, pictures, small_net, caplog) -> None:
    """Same draws, values within 1e-6 of the largest, and the log says so."""
    targets = [0, 1, 2, 3, 4, 0]
    settings = {"evaluations": 60} if name == "shap" else {}
    expected = explain(small_net(), pictures, targets, name, **settings)
    layer = {"layer": "net." + expected.parameters["layer"]} if name == "gradcam" else {}
    found = explain(Crowded(small_net(), 5, error), pictures, targets, name, **settings, **layer)
    largest = float(np.nanmax(np.abs(expected.values)))
    assert found.values == pytest.approx(expected.values, abs=1e-6 * largest, nan_ok=True)
    assert "going on in batches of 4 images" in caplog.text


def test_memory_for_not_even_one_image_is_an_error(pictures, small_net) -> None:
    module = Crowded(small_net(), 2, GPU)
    classifier = Classifier("net", "1", module)
    model = classifier.working_copy(pictures)
    model.module.most = 0
    with pytest.raises(torch.OutOfMemoryError):
        classifier.logits(pictures, tuple("abcdef"))


def test_a_chunk_without_any_map_keeps_the_others_diagnostics(pictures, small_net) -> None:
    """The first chunk is of flat pictures, equal to their own baselines: no Shapley value can be told of them."""
    pictures = np.array(pictures)
    pictures[:2] = 0
    found = explain(Crowded(small_net(), 3, CPU), pictures, [0] * len(pictures), "shap")
    assert set(found.undefined) == {"0", "1"}
    residuals = found.diagnostics["completeness_residual"]
    assert np.isnan(residuals[:2]).all()
    assert np.isfinite(residuals[2:]).all()
