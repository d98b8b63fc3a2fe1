"""``make bench-audit``: two versions, 256 photographs, Grad-CAM, SHAP and LIME, from decoded images to all maps."""

import argparse
import os
import sys
import time

import torch
from real import lite0, photographs, pruned
from tqdm import tqdm

from attrail_explainers.explainer import make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.model.classifier import Classifier
from attrail_explainers.slice import Slice

METHODS = ("gradcam", "shap", "lime")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--images", type=int, default=256)
    given = arguments.parse_args()
    model = lite0()
    source, images, targets = photographs(model, given.images)
    slice_ = Slice("whole", images, targets, tuple(str(row) for row in range(len(images))))
    methods = [make_explainer(name) for name in METHODS]
    started = time.perf_counter()
    with tqdm(total=2 * len(images) * len(methods), file=sys.stderr, mininterval=10) as bar:
        for version, module in enumerate((model, pruned(model, 0.2))):
            explain_slice(Classifier("lite0", str(version), module), slice_, methods, targets, 0, bar.update)
    minutes = (time.perf_counter() - started) / 60
    print(
        f"2 versions x {len(images)} {source} x {', '.join(METHODS)}, 256 evaluations: {minutes:.1f} minutes on "
        f"{os.cpu_count()} cores, {torch.get_num_threads()} threads"
    )


if __name__ == "__main__":
    main()
