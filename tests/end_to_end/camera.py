"""Pictures of what people see of the services in a browser: an audit's run in Prefect and MLflow, the sign-off."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Run
from services import Services

from promotion_pictures import ASSISTANT, HIDE_PATH, Page, browser

TEXT = "document.body.innerText.includes({text!r})"
REPORT = "attrail/report.html"
HIGH = {"width": 1280, "height": 1040, "deviceScaleFactor": 1, "mobile": False}


@dataclass(frozen=True)
class Camera:
    """Takes pictures into a folder; without one, none."""

    services: Services
    folder: Path | None

    def take(self, name: str, act: Callable[[Page, Services], None]) -> None:
        """A picture of what an act leaves in the window."""
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with browser() as page:
            act(page, self.services)
            page.picture(self.folder / f"{name}.png")
        self.services.say(f"took the picture {name}.png")


def artifacts(run: str) -> Callable[[Page, Services], None]:
    """A flow's run in Prefect, with its artifacts."""

    def act(page: Page, services: Services) -> None:
        _open(page, services, run)
        page.click(".p-tab", "Artifacts")
        _settle(page)

    return act


def sign_off_form(run: str, *texts: str) -> Callable[[Page, Services], None]:
    """The form of a promotion that waits."""

    def act(page: Page, services: Services) -> None:
        _open(page, services, run)
        page.click("button", "Resume")
        _settle(page, *texts)

    return act


def _open(page: Page, services: Services, run: str) -> None:
    page.ask("Emulation.setDeviceMetricsOverride", **HIGH)
    page.open(f"{services.prefect.removesuffix('/api')}/runs/flow-run/{run}")


def _settle(page: Page, *texts: str) -> None:
    for text in texts:
        page.wait(TEXT.format(text=text))
    time.sleep(5)  # until what folds and fades has done so


def report(run: Run) -> Callable[[Page, Services], None]:
    """The report among the artifacts of an audit's run in MLflow."""
    info = run.info

    def act(page: Page, services: Services) -> None:
        page.open(f"{services.mlflow}/#/experiments/{info.experiment_id}/runs/{info.run_id}/artifacts/{REPORT}")
        page.wait("[...document.querySelectorAll('iframe')].some(each => each.clientHeight > 100)")
        _settle(page)
        page.run(f"document.querySelector({ASSISTANT!r})?.click()")
        page.run(f"{HIDE_PATH}?.style.setProperty('visibility', 'hidden')")  # where this machine keeps the file
        _settle(page)

    return act
