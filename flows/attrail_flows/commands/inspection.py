"""The command that shows what is inside a version: inspect."""

from pathlib import Path

import click

from attrail_flows.console.options import CONFIG, quiet_console, say


@click.command()
@click.argument("model_uri")
@CONFIG
@click.option("--against", help="The version to hold it against, as 7, champion or models:/digits/7.")
@click.option("--slice", "slice_name", help="Name of a [[slice]] of the configuration; its first one when left out.")
@click.option("--show", "shown", default="", help="Names of exhibits, as structure,activations; all when left out.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the files.")
def inspect(
    model_uri: str, config_file: Path, against: str | None, slice_name: str | None, shown: str, out: Path
) -> None:
    """What is inside a version, or changed inside since another one? A page, pictures, numbers; no verdict."""
    quiet_console()
    from attrail_explainers.inspection.exhibit import chosen_exhibits
    from attrail_flows.configuration import read_config
    from attrail_flows.flow_runs.preconditions import require_writable
    from attrail_flows.inputs.preflight import preflight_version

    config = read_config(config_file)
    say(f"inspect {model_uri}: looking at the version and the slice first")
    require_writable(out, "the folder", "name another one")
    names = tuple(name.strip() for name in shown.split(",") if name.strip())
    chosen_exhibits(names)
    name = slice_name or config.slices[0].name
    for each in filter(None, (against, model_uri)):
        preflight_version(config.with_slices(name), each)
    from attrail_flows.one_version.inside import inside_to_folder
    from attrail_mlflow.signing.keyless_process import call_apart, must_be_apart

    apart = must_be_apart(allow_pickle=config.policy.allow_pickle)
    for line in call_apart(apart, inside_to_folder, config, model_uri, against, name, names, out):
        click.echo(line)
