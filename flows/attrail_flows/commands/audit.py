"""Commands that compare versions: audit, and calibrate, which measures the floor that audits need."""

import json
import sys
from pathlib import Path

import click

from attrail_flows.commands.floor import ask_for_floor
from attrail_flows.commands.gate import caution_of_gate
from attrail_flows.console.options import CONFIG, Computing, computing, quiet_console, say

EXIT = {"PASS": 0, "DRIFT": 1, "INCONCLUSIVE": 3}


@click.command()
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
    from attrail_flows.console.printing import print_audit

    print_audit(document)
    if json_file is not None:
        json_file.write_text(json.dumps(document, indent=1, default=dict) + "\n", encoding="utf-8")
    sys.exit(EXIT[document["verdict"]])


@click.command()
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
    from attrail_flows.console.printing import print_calibration

    print_calibration(flow(config))
