"""The engine: progress adds up, image by image where the method works so."""

import numpy as np

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
