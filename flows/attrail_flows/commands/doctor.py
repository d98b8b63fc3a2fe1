"""The command that looks whether attrail can work here."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from attrail_flows.doctor.result import DoctorResult

WRONG = 1


@click.command()
def doctor() -> None:
    """Look at packages, disk, GPU, servers, gate, keys, journal and clocks as the environment names them.

    One line per check: ok, warning or wrong, and what to do. Exit status: 0 nothing is wrong, 1 something is.
    """
    from attrail_flows.doctor.result import Level

    found = []
    for each in findings(os.environ):
        click.echo(str(each))
        found.append(each.level)
    sys.exit(WRONG if Level.WRONG in found else 0)


def findings(environment: Mapping[str, str]) -> Iterator["DoctorResult"]:
    """What every check sees, in the order in which things would fail."""
    from prefect.settings import get_current_settings

    from attrail_flows.doctor import machine, servers, trail

    prefect, mlflow = get_current_settings().api.url, environment.get("MLFLOW_TRACKING_URI")
    prefect_login, mlflow_login = _logins(environment)
    there = servers.trusted_there(mlflow, mlflow_login) if mlflow and mlflow.startswith("http") else {}
    return chain(
        machine.packages(),
        machine.disk(_folders(environment)),
        machine.gpu(),
        servers.prefect(prefect, prefect_login),
        servers.mlflow(mlflow, mlflow_login),
        servers.gate(mlflow, mlflow_login),
        trail.signing_key(environment, there),
        trail.trusted_keys(environment),
        trail.journal(environment),
    )


def _folders(environment: Mapping[str, str]) -> list[Path]:
    """Where this machine writes: temporary files, and the journal if it is a file."""
    journal = environment.get("ATTRAIL_JOURNAL", "://")
    beside = [] if "://" in journal else [Path(journal).absolute().parent]
    return [Path(tempfile.gettempdir()), *beside]


def _logins(environment: Mapping[str, str]) -> tuple[tuple[str, str] | None, tuple[str, str] | None]:
    """Name and password for Prefect and for MLflow, where the environment has them as their own clients read them."""
    name, found, password = environment.get("PREFECT_API_AUTH_STRING", "").partition(":")
    user = environment.get("MLFLOW_TRACKING_USERNAME")
    mlflow = (user, environment.get("MLFLOW_TRACKING_PASSWORD", "")) if user else None
    return ((name, password) if found else None), mlflow
