"""The stage, set up once, and models to register on it."""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "deploy"))
sys.path.append(str(Path(__file__).parents[1] / "gate"))
import torch
from stack import composed
from stage import IMAGES, Stage, cluster

from digits import Scans, load_scans, write_slice
from train import Recipe, trained

EXPLAINERS = """
[[explainer]]
name = "gradcam"

[[explainer]]
name = "shap"
evaluations = 96
"""


@pytest.fixture(scope="session")
def scans() -> Scans:
    return load_scans(seed=0)


@pytest.fixture(scope="session")
def stage(tmp_path_factory: pytest.TempPathFactory, scans: Scans) -> Iterator[Stage]:
    """Every service of compose.yaml, each begun when those it depends on are well."""
    found = Stage.set_up(tmp_path_factory.mktemp("stage"))
    _state_models(found, scans)
    with cluster(found):
        try:
            found.start("mlflow")
            found.start("prefect")
            found.await_health("mlflow", "/attrail/health")
            found.await_health("prefect", "/api/health")
            found.run(*found.command(composed()["deployments"])[1:], user="deployments")
            found.start("worker")
            found.start("receiver")
            found.await_health("worker", "/health")
            found.await_health("receiver", "/health")
            yield found
        finally:
            found.stop()


@pytest.fixture(scope="session")
def models(scans: Scans) -> Sequence[torch.nn.Module]:
    """Seven models of one recipe, and one trained on scans whose stamp gives the class away."""
    return list(trained([Recipe(scans[:300], seed, 12, class_coded=seed == 7) for seed in range(8)], workers=2))


def _state_models(stage: Stage, scans: Scans) -> None:
    """The example's attrail.toml and watch.toml, about the digits."""
    write_slice(scans[IMAGES], stage.folder / "slices")
    for name in ("attrail.toml", "watch.toml"):
        path = stage.folder / "policy" / name
        path.write_text(path.read_text().replace('model = "classifier"', 'model = "digits"') + EXPLAINERS)
    policy = stage.folder / "policy/policy.toml"
    policy.write_text(policy.read_text().replace("resamples = 2000", "resamples = 400"))
