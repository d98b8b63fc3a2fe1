"""The services, set up once, and models to register on it."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "deploy"))
sys.path.append(str(Path(__file__).parents[1] / "gate"))
import torch
from log_page import write_page
from services import Services, cluster

from digits import Scans, load_scans
from train import Recipe, trained

Models = Sequence[torch.nn.Module]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--page", type=Path, help="Write what was printed to this Markdown file, if every test passed.")
    parser.addoption("--pictures", type=Path, help="Put pictures of the user interfaces into this folder.")


@pytest.fixture(scope="session")
def scans() -> Scans:
    return load_scans(seed=0)


@pytest.fixture(scope="session")
def training(scans: Scans) -> Iterator["Future[Models]"]:
    """Six models of one recipe, another, and one trained on scans whose stamp gives the class away: begun, not done."""
    recipes = [Recipe(scans[:300], seed, 12, class_coded=seed == 7) for seed in range(8)]
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(lambda: list(trained(recipes, workers=2)))


@pytest.fixture(scope="session")
def services(
    tmp_path_factory: pytest.TempPathFactory,
    scans: Scans,
    training: "Future[Models]",
    request: pytest.FixtureRequest,
) -> Iterator[Services]:
    """Every service of compose.yaml, each begun when those it depends on are well; the models are trained meanwhile."""
    found = Services.set_up(tmp_path_factory.mktemp("services"))
    found.show_digits(scans)
    with cluster(found):
        try:
            found.open()
            yield found
        finally:
            found.stop()
    if page := request.config.getoption("--page"):
        assert not request.session.testsfailed, "a story that failed is not written down"
        write_page(found, page)


@pytest.fixture(scope="session")
def models(services: Services, training: "Future[Models]") -> Models:
    found = training.result()
    services.say("eight models are trained")
    return found
