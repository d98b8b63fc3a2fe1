"""Options that several commands share, and what their console shows."""

import logging
import os
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from attrail_flows.configuration import AuditConfig

CONFIG = click.option(
    "--config",
    "config_file",
    type=click.Path(path_type=Path),
    default=Path("attrail.toml"),
    show_default=True,
    help="The attrail.toml to use.",
)
TRACKING = click.option("--tracking-uri", envvar="MLFLOW_TRACKING_URI", help="Where MLflow is.")
RUNNER = click.option(
    "--runner",
    type=click.Choice(["auto", "threads", "processes", "ray", "dask"]),
    help="What computes; instead of run.runner.",
)
WORKERS = click.option("--workers", type=click.IntRange(min=1), help="How many at once; instead of run.workers.")
FRESH = click.option("--fresh", is_flag=True, help="Compute anew what is kept from earlier audits.")


Computing = Callable[["AuditConfig"], "AuditConfig"]


def computing(command: Callable[..., Any]) -> Callable[..., Any]:
    """A command with the options that say how maps are computed; its ``computed`` puts them over a configuration's."""

    @RUNNER
    @WORKERS
    @FRESH
    @wraps(command)
    def called(*, runner: str | None, workers: int | None, fresh: bool, **others: Any) -> Any:
        return command(computed=lambda config: config.run_by_command(runner, workers, fresh), **others)

    return called


def quiet_console() -> None:
    """Our own progress on the terminal; Prefect's and MLflow's log lines go to their stores."""
    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")
    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # two lines more where the home cannot be written to
    own = logging.getLogger("attrail")
    own.setLevel(logging.INFO)
    if not own.handlers:
        own.addHandler(logging.StreamHandler())


def say(text: str) -> None:
    """Say on standard error what is done now: the first line comes before anything slow."""
    click.echo(text, err=True)
