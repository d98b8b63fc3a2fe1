"""The command that registers attrail's deployments at a Prefect server."""

from collections.abc import Iterable
from pathlib import Path

import click

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@click.option(
    "--config",
    "config_file",
    type=FILE,
    default=Path("attrail.toml"),
    show_default=True,
    help="The attrail.toml that the flows are given.",
)
@click.option("--file", "file", type=FILE, help="Another prefect.yaml than the one that is installed with attrail.")
@click.option("--only", multiple=True, help="Name of a deployment of the file; may be given again. All when left out.")
@click.option("--pool", help="Work pool; instead of the file's. It is made when there is none.")
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Runs that the pool's workers may have at once: the memory of their machine must do for all of them.",
)
@click.option("--timezone", help="Time zone of every schedule, such as Europe/Berlin; instead of the file's.")
@click.option("--dry-run", is_flag=True, help="Only say what would change.")
def deploy(
    config_file: Path,
    file: Path | None,
    only: tuple[str, ...],
    pool: str | None,
    at_once: int,
    timezone: str | None,
    dry_run: bool,
) -> None:
    """Register the deployments at the Prefect server that PREFECT_API_URL names, and say what changed.

    The work pool is made, or given the limit of --at-once, and an automation that ends runs whose process is gone.

    What needs a file beside attrail.toml that is not there, such as watch.toml, is left out unless --only or --file
    names it. The same again changes nothing. A schedule that somebody paused stays paused; a deployment that the
    file does not name is left alone. Workers must find attrail and the images under the same paths as this command.
    """
    from attrail_flows.deployment.deployments import read_deployments, register, server
    from attrail_flows.deployment.work_pool import settle_pool
    from attrail_flows.deployment.zombie_runs import settle_automation

    known = read_deployments(file, only, pool, timezone)
    optional = file is None and not only  # who names a deployment means it
    missing = [each for each in known if optional and each.config and not config_file.with_name(each.config).exists()]
    wanted = [each.to_runner(config_file) for each in known if each not in missing]
    pools = sorted({str(each.work_pool_name) for each in wanted})
    with server() as client:
        for name in pools:
            _say(settle_pool(name, at_once, client, dry_run=dry_run))
        _say(settle_automation(client, dry_run=dry_run))
        for each in wanted:
            _say(register(each, client, dry_run=dry_run))
    _say(f"left out  {each.name}: there is no {each.config} beside {config_file}" for each in missing)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)
