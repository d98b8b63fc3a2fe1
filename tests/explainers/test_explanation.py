"""The engine: progress adds up, image by image where the method works so."""

import numpy as np
import pytest
import torch

from attrail_explainers import explain
from attrail_explainers.classifier import Classifier
from attrail_explainers.explainer import explainer_names, make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.slice import Slice


def test_progress_counts_every_map_once(pictures, small_net) -> None:
    labels = np.zeros(len(pictures), dtype=np.int64)
    slice_ = Slice("photographs", pictures, labels, tuple(f"image {row}" for row in range(len(pictures))))
    explainers = [make_explainer(name) for name in explainer_names()]
    steps: list[int] = []
    explain_slice(Classifier("net", "1", small_net()), slice_, explainers, labels, 0, steps.append)
    assert sum(steps) == len(pictures) * len(explainers)
    assert steps.count(1) >= 2 * len(pictures)


@pytest.mark.parametrize("name", explainer_names())
def test_works_under_the_callers_own_inference_mode(name: str, pictures, small_net) -> None:
    outside = explain(small_net(), pictures, [0] * len(pictures), name)
    net = small_net()
    with torch.inference_mode():
        inside = explain(net, pictures, [0] * len(pictures), name)
    assert inside.digest == outside.digest
