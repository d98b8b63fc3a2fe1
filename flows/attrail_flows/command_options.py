"""Options that several commands share."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from attrail_flows.configuration import AuditConfig

CONFIG = click.option(
    "--config", "config_file", type=click.Path(path_type=Path), required=True, help="The attrail.toml to use."
)
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
