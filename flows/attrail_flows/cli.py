"""The command line. Heavy imports happen inside the commands, so that ``attrail --help`` answers at once."""

import errno
import json
import sys
import traceback
from pathlib import Path

import click

from attrail_explainers.errors import AttrailError
from attrail_flows.commands.deploy import deploy
from attrail_flows.commands.doctor import doctor
from attrail_flows.commands.floor import ask_for_floor, floor
from attrail_flows.commands.flows import audit_registry, promote, retrain, signoff, watch
from attrail_flows.commands.gate import baseline, caution_of_gate, gate, reconcile, serve, waive
from attrail_flows.commands.options import CONFIG, Computing, computing, quiet_console, say
from attrail_flows.commands.trail import export, journal, keys, verify

EXIT = {"PASS": 0, "DRIFT": 1, "INCONCLUSIVE": 3}
ERROR = 2
MACHINE = {errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.ENOTDIR, errno.EPERM, errno.EROFS}


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="attrail")
def attrail() -> None:
    """Did the evidence behind a model's predictions move? Audit two versions from an MLflow registry.

    Exit status: 0 PASS, 1 DRIFT, 2 usage, configuration, data or registry error, 3 INCONCLUSIVE.
    """


@attrail.command()
@CONFIG
@click.option("--reference", help="Alias, version or models:/ URI; instead of registry.reference.")
@click.option("--candidate", help="Alias, version or models:/ URI; instead of registry.candidate.")
@computing
@click.option("--json", "json_file", type=click.Path(dir_okay=False, path_type=Path), help="Write the verdict here.")
def audit(
    config_file: Path,
    reference: str | None,
    candidate: str | None,
    computed: Computing,
    json_file: Path | None,
) -> None:
    """Compare a candidate with the reference on the same images and say whether its evidence moved."""
    quiet_console()
    from attrail_flows.configuration import read_config

    config = computed(read_config(config_file, reference, candidate))
    say(f"audit of {config.registry.model}: looking at versions, slices and servers first")
    from attrail_flows.flow_runs.preconditions import require_folders, require_output, require_server

    require_folders(*([json_file.absolute().parent] if json_file else []))
    if json_file is not None:
        require_output(json_file)
    caution_of_gate("verdict")
    ask_for_floor(config)
    from attrail_flows.inputs.preflight import preflight_audit

    preflight_audit(config)
    require_server()
    from attrail_flows.audit import audit as flow

    document = flow(config)
    from attrail_flows.commands.printing import print_audit

    print_audit(document)
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1, default=dict) + "\n", encoding="utf-8")
    sys.exit(EXIT[document["verdict"]])


@attrail.command()
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


@attrail.command()
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
    from attrail_flows.commands.check_tables import print_assessment
    from attrail_flows.one_version.check import check_to_folder
    from attrail_mlflow.signing.keyless_process import call_apart, must_be_apart

    apart = must_be_apart(allow_pickle=config.policy.allow_pickle)
    arguments = (config, model_uri, slice_name, explainer_name, out, checks or None)
    print_assessment(call_apart(apart, check_to_folder, *arguments))
    click.echo(
        f"written: {', '.join(str(path) for path in (out / 'checks.json', out / 'curves.png') if path.exists())}"
    )


@attrail.command()
@CONFIG
@click.option("--reference", help="Alias, version or models:/ URI; instead of registry.reference.")
@computing
def calibrate(config_file: Path, reference: str | None, computed: Computing) -> None:
    """Measure the noise floor of the reference once and keep it; audits use it until anything it depends on changes."""
    quiet_console()
    from attrail_flows.configuration import read_config

    config = computed(read_config(config_file, reference))
    say(f"calibration of {config.registry.model}: looking at versions, slices and servers first")
    from attrail_flows.flow_runs.preconditions import require_folders, require_server

    require_folders()
    ask_for_floor(config)
    from attrail_flows.inputs.preflight import preflight_floor

    preflight_floor(config)
    require_server()
    from attrail_flows.calibrate import calibrate as flow
    from attrail_flows.commands.printing import print_calibration

    print_calibration(flow(config))


@attrail.command()
@click.option("--effect", type=float, help="Wanted paired shift, in the units of --sd.")
@click.option("--sd", type=float, default=1.0, show_default=True, help="Standard deviation over images.")
@click.option("--shift", type=float, help="Wanted shift of the floor, in SDs of the retrains' log distances.")
@click.option("--images", type=int, help="Images at hand: says what they can show.")
@click.option("--retrains", type=int, help="Retrains at hand: says what they can show.")
@click.option(
    "--hypotheses",
    type=click.IntRange(min=1),
    default=6,
    show_default=True,
    help="Explainers x primary statistics x slices.",
)
@click.option("--alpha", type=float, default=0.05, show_default=True)
@click.option("--power", type=float, default=0.9, show_default=True)
def plan(  # noqa: PLR0913, PLR0917 - one option each
    effect: float | None,
    sd: float,
    shift: float | None,
    images: int | None,
    retrains: int | None,
    hypotheses: int,
    alpha: float,
    power: float,
) -> None:
    """How many images and reference retrains a wanted effect needs, or what those at hand can show."""
    from attrail_flows.commands.plan_lines import plan_lines
    from attrail_monitoring.verdict.policy import Policy

    level = Policy(alpha=alpha).level(hypotheses, together=True, moved=True, decided=True)  # as with two explainers
    for line in plan_lines(effect, sd, shift, images, retrains, level, power):
        click.echo(line)


@attrail.command()
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


@attrail.command("list")
@click.argument("kind", type=click.Choice(["explainers", "statistics", "checks"]))
def list_(kind: str) -> None:
    """List the explainers, the statistics or the checks there are."""
    from attrail_flows.commands.check_tables import print_checks
    from attrail_flows.commands.printing import print_explainers, print_statistics

    {"explainers": print_explainers, "statistics": print_statistics, "checks": print_checks}[kind]()


COMMANDS = (
    (retrain, audit_registry, watch, promote, signoff),
    (export, journal, keys, verify),
    (gate, waive, baseline, serve, reconcile),
    (deploy, doctor),
    (floor,),
)
for _command in (each for group in COMMANDS for each in group):
    attrail.add_command(_command)


def main() -> None:
    """Run the command line; whatever goes wrong ends with status 2, never with the 1 that means DRIFT."""
    try:
        sys.exit(attrail.main(standalone_mode=False))
    except click.ClickException as error:
        error.show()
        sys.exit(ERROR)
    except (click.Abort, KeyboardInterrupt):
        click.echo("attrail: interrupted", err=True)
        sys.exit(ERROR)
    except AttrailError as error:
        click.echo(f"attrail: {error}", err=True)
        sys.exit(ERROR)
    except OSError as error:
        if error.errno not in MACHINE:
            _show_defect()
        else:
            place = f" {error.filename}" if error.filename else ""
            click.echo(
                f"attrail: this machine did not let a file be written or read:{place} {error.strerror}", err=True
            )
        sys.exit(ERROR)
    except Exception:  # noqa: BLE001 - a defect of attrail or of a library: show all of it, and do not look like a verdict
        _show_defect()
        sys.exit(ERROR)


def _show_defect() -> None:
    traceback.print_exc()
    click.echo(
        "attrail: this is a defect of attrail or of a library it uses; nothing was recorded as finished", err=True
    )
