"""Commands that ask something of one version: explain, check, windows."""

from pathlib import Path

import click

from attrail_flows.console.options import CONFIG, quiet_console, say


@click.command()
@click.argument("model_uri")
@CONFIG
@click.option("--slice", "slice_name", required=True, help="Name of a [[slice]] of the configuration.")
@click.option("--explainer", "explainer_name", required=True, help="Name of an explainer: attrail list explainers.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the files.")
def explain(model_uri: str, config_file: Path, slice_name: str, explainer_name: str, out: Path) -> None:
    """Explain one model version on one slice: maps as arrays, overlays as PNG."""
    quiet_console()
    from attrail_flows.configuration import read_config
    from attrail_flows.flow_runs.preconditions import require_writable
    from attrail_flows.inputs.preflight import preflight_version

    config = read_config(config_file)
    say(f"explain {model_uri}: looking at the version and the slice first")
    require_writable(out, "the folder", "name another one")
    preflight_version(config.narrowed(explainer_name, slice_name), model_uri)
    from attrail_flows.one_version.explain import explain_to_folder

    for line in explain_to_folder(config, model_uri, slice_name, explainer_name, out):
        click.echo(line)


@click.command()
@click.argument("model_uri")
@CONFIG
@click.option("--slice", "slice_name", required=True, help="Name of a [[slice]] of the configuration.")
@click.option("--explainer", "explainer_name", required=True, help="Name of an explainer: attrail list explainers.")
@click.option("--check", "checks", multiple=True, help="Name of a check, may be given again; all when left out.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), required=True, help="Folder for the files.")
def check(
    model_uri: str, config_file: Path, slice_name: str, explainer_name: str, checks: tuple[str, ...], out: Path
) -> None:
    """Does the explanation hold? Check one explainer on one model version: numbers as JSON, curves as PNG."""
    quiet_console()
    from attrail_flows.configuration import read_config
    from attrail_flows.flow_runs.preconditions import require_writable
    from attrail_flows.inputs.preflight import preflight_version

    config = read_config(config_file)
    say(f"check {explainer_name} of {model_uri}: looking at the version and the slice first")
    require_writable(out, "the folder", "name another one")
    preflight_version(config.narrowed(explainer_name, slice_name), model_uri)
    from attrail_flows.console.check_tables import print_assessment
    from attrail_flows.one_version.check import check_to_folder
    from attrail_mlflow.signing.keyless_process import call_apart, must_be_apart

    apart = must_be_apart(allow_pickle=config.policy.allow_pickle)
    arguments = (config, model_uri, slice_name, explainer_name, out, checks or None)
    print_assessment(call_apart(apart, check_to_folder, *arguments))
    click.echo(
        f"written: {', '.join(str(path) for path in (out / 'checks.json', out / 'curves.png') if path.exists())}"
    )


@click.command()
@click.argument("model_uri")
@CONFIG
@click.option("--first", required=True, help="Name of the [[slice]] with the earlier window.")
@click.option("--second", required=True, help="Name of the [[slice]] with the later window.")
@click.option("--explainer", "explainer_name", required=True, help="Name of an explainer: attrail list explainers.")
def windows(model_uri: str, config_file: Path, first: str, second: str, explainer_name: str) -> None:
    """Are one version's maps distributed alike on two windows of images? A weaker, unpaired question."""
    quiet_console()
    from attrail_flows.configuration import read_config
    from attrail_flows.inputs.preflight import preflight_version

    config = read_config(config_file)
    say(f"windows of {model_uri}: looking at the version and the slices first")
    preflight_version(config.narrowed(explainer_name, first, second), model_uri, labelled=False)
    from attrail_flows.one_version.windows import window_lines

    for line in window_lines(config, model_uri, (first, second), explainer_name):
        click.echo(line)
