"""Commands of the flows beside the audit: promote, sign off, watch, and audit a whole registry."""

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import click

from attrail_explainers.errors import ConfigError, TrainingError
from attrail_flows.commands.floor import ask_for_floor
from attrail_flows.console.options import CONFIG, RUNNER, WORKERS, Computing, computing, quiet_console, say

NOT_DONE, UNSURE = 1, 3


@click.command()
@click.argument("flow_run", type=UUID)
@click.option("--approve/--reject", "approved", default=None, help="The decision.")
@click.option("--by", required=True, help="Who decides: a name that can be asked later.")
@click.option("--why", required=True, help="What was looked at, and why it is enough or not.")
def signoff(flow_run: UUID, approved: bool | None, by: str, why: str) -> None:
    """Sign off a version that waits to be promoted: FLOW_RUN is the id of its promotion's run in Prefect.

    An approval lets the gate decide. The decision is written into the flow's journal.
    """
    if approved is None:
        raise ConfigError("nothing was decided: give --approve or --reject")
    from attrail_flows.sign_off.answer import answer

    name = answer(flow_run, "approve" if approved else "reject", by, why)
    click.echo(f"{'approved' if approved else 'rejected':9} {name}, by {by}")


@click.command()
@CONFIG
@click.option("--candidate", help="Alias, version or models:/ URI; instead of registry.candidate.")
@click.option("--alias", default="champion", show_default=True, help="The alias to give.")
@click.option(
    "--ask",
    type=click.Choice(["terminal", "form", "nobody"]),
    default="terminal",
    show_default=True,
    help="Who signs off before the gate is asked: you, here; whoever fills in Prefect's form or uses signoff; nobody.",
)
@click.option("--hours", type=click.IntRange(1, 24 * 30), default=72, show_default=True, help="How long a form waits.")
@computing
def promote(
    config_file: Path,
    candidate: str | None,
    alias: str,
    ask: str,
    hours: int,
    computed: Computing,
) -> None:
    """Audit a version, have it signed off, and give it an alias through the gate, all of it in this process.

    Exit status: 0 promoted, 1 not promoted and the verdict is DRIFT, 3 not promoted for another reason, 2 as for audit.
    """
    quiet_console()
    from attrail_flows.configuration import read_config

    config = computed(read_config(config_file))
    say(f"promotion of {config.registry.model}: looking at versions, slices and servers first")
    from attrail_flows.flow_runs.preconditions import require_folders, require_server

    require_folders()
    from attrail_flows.inputs.preflight import preflight_audit

    ask_for_floor(config.with_candidate(candidate))
    preflight_audit(config.with_candidate(candidate))
    require_server()
    from attrail_flows.promote import promote as flow

    state = flow(config, candidate, alias, ask, hours, return_state=True)
    found: Any = state.result(raise_on_failure=False)
    if isinstance(found, Exception):
        raise found
    click.echo(f"{str(state.name).lower():9} {state.message}", err=not state.is_completed())
    if not state.is_completed():
        sys.exit(NOT_DONE if found["verdict"] == "DRIFT" else UNSURE)


@click.command()
@CONFIG
@click.option("--reference", help="Alias, version or models:/ URI; instead of registry.reference.")
@click.option(
    "--times", type=click.IntRange(1, 1000), default=5, show_default=True, help="With how many seeds, those before too."
)
@RUNNER
@WORKERS
def retrain(config_file: Path, reference: str | None, times: int, runner: str | None, workers: int | None) -> None:
    """Train the reference anew with other seeds by its [recipe]: retrains for a noise floor, never to be promoted.

    Exit status: 0 all of them are there, 2 as for audit, or a seed failed.
    """
    quiet_console()
    from attrail_flows.configuration import read_config

    config = read_config(config_file, reference).run_by_command(runner, workers)
    say(f"retraining of {config.registry.model}: looking at the recipe, the reference and servers first")
    from attrail_flows.flow_runs.preconditions import require_folders, require_server

    require_folders()
    from attrail_flows.inputs.preflight import preflight_version
    from attrail_flows.inputs.retrain_versions import configured_recipe

    configured_recipe(config)
    preflight_version(config, config.registry.reference)
    require_server()
    from attrail_flows.retrain import retrain as flow
    from attrail_monitoring.inference.prediction_bound import FEWEST

    state: Any = flow(config, times, return_state=True)
    rows: Any = state.result(raise_on_failure=False)
    if isinstance(rows, Exception):
        raise rows
    for row in rows:
        click.echo(f"{row['outcome']:14} seed {row['seed']}: {row['retrain'] or row['error']}")
    if not state.is_completed():
        raise TrainingError(str(state.message))
    click.echo(state.message)
    if len(rows) < FEWEST:
        click.echo(f"next: a floor needs {FEWEST} of them, attrail retrain --times {FEWEST}")
    elif config.registry.floor not in ((), "retrains"):
        click.echo('next: set registry.floor = "retrains", which lists other versions')
    else:
        click.echo("next: attrail calibrate, or attrail audit")


@click.command("audit-registry")
@CONFIG
@click.option("--matching", default="", help="MLflow's filter for models, such as \"name LIKE 'digits%'\".")
@click.option("--alias", "aliases", multiple=True, help="A protected alias; may be given again.")
@click.option("--again", is_flag=True, help="Audit again what carries a verdict against the same version.")
@computing
def audit_registry(
    config_file: Path,
    matching: str,
    aliases: tuple[str, ...],
    again: bool,
    computed: Computing,
) -> None:
    """Audit the newest version of every model against the holders of its protected aliases.

    Exit status: 0 nothing or PASS only, 1 a DRIFT, 2 an audit that could not be made, 3 INCONCLUSIVE.
    """
    quiet_console()
    from attrail_flows.configuration import read_config

    config = computed(read_config(config_file))
    say("audit of the registry: looking at its address, slices and servers first")
    from attrail_flows.flow_runs.preconditions import require_folders, require_server

    require_folders()
    from attrail_flows.inputs.preflight import preflight_registry

    preflight_registry(config)
    require_server()
    from attrail_flows.audit_registry import PROTECTED
    from attrail_flows.audit_registry import audit_registry as flow

    state = flow(config, matching, aliases or PROTECTED, again, return_state=True)
    rows: Any = state.result(raise_on_failure=False)
    if isinstance(rows, Exception):
        raise rows
    for row in rows:
        click.echo(f"{row['verdict']:13} {row['model']}/{row['candidate']} against {row['reference']}: {row['reason']}")
    click.echo(state.message)
    worst = [status for verdict, status in STATUS.items() if verdict in {row["verdict"] for row in rows}]
    sys.exit(worst[0] if worst else 0)


STATUS = {"ERROR": 2, "DRIFT": NOT_DONE, "INCONCLUSIVE": UNSURE}


@click.command()
@CONFIG
@click.option("--version", default="champion", show_default=True, help="Alias, version or models:/ URI to watch.")
@click.option("--window", "windows", multiple=True, help="Name of a [[slice]]; the newest last. All when left out.")
@click.option(
    "--day", type=click.DateTime(["%Y-%m-%d"]), help="The date for {day} in the slices; today's when left out."
)
@computing
def watch(
    config_file: Path,
    version: str,
    windows: tuple[str, ...],
    day: datetime | None,
    computed: Computing,
) -> None:
    """Compare one version's maps on the newest window of images with those on the windows before it.

    Exit status: 0 no difference shown, 1 a difference, 2 as for audit.
    """
    quiet_console()
    from attrail_flows.configuration import read_config
    from attrail_flows.inputs.window_dates import windows_of, with_dates

    config = computed(read_config(config_file))
    say(f"watch of {config.registry.model}: looking at the version, the windows and servers first")
    from attrail_flows.flow_runs.preconditions import require_folders, require_server

    require_folders()
    from attrail_flows.inputs.preflight import preflight_version

    preflight_version(
        with_dates(windows_of(config, windows), (day or datetime.now(UTC)).date()), version, labelled=False
    )
    require_server()
    from attrail_flows.watch import watch as flow

    found = flow(config, version, windows, day and day.date())
    for row in found["rows"]:
        told = "moved" if row["moved"] else "no difference shown"
        click.echo(
            f"{told:20} {row['earlier']} and {row['newest']}, {row['explainer']}, {row['statistic']}: "
            f"{row['value']:.4g}, p = {row['p_value']:.4g}"
        )
    sys.exit(NOT_DONE if found["moved"] else 0)
