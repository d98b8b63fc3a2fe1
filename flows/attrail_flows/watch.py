"""The watch flow: whether one version's maps are distributed alike on windows of production images.

Unpaired and weaker than an audit: other images move maps as well as another model does. It says where to look.
"""

import logging
from datetime import date
from typing import Any

from prefect import flow, runtime, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from prefect.events import emit_event

from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.session import explaining
from attrail_flows.flow_runs.artifact_key import artifact_key
from attrail_flows.flow_runs.late_runs import newest_when_late
from attrail_flows.flow_runs.progress import progress_of
from attrail_flows.flow_runs.retries import DELAYS, RETRIES, may_help
from attrail_flows.inputs.preflight import preflight_version
from attrail_flows.inputs.slices import read_windows
from attrail_flows.inputs.window_dates import windows_of, with_dates
from attrail_mlflow.registry.registry import RegisteredVersion
from attrail_monitoring.maps.version_maps import VersionMaps
from attrail_monitoring.windows import QUESTION, compare_windows

MOVED = "attrail.window.moved"

logger = logging.getLogger("attrail.watch")


def run_name() -> str:
    """The flow run's name: model, version, the newest window and the day."""
    parameters = runtime.flow_run.parameters
    windows = parameters["windows"] or [each.name for each in parameters["config"].slices]
    watched = f"watch-{parameters['config'].registry.model}-{parameters['version']}"
    return f"{watched}-{windows[-1]}-{day_of(parameters['day'])}"


def day_of(day: date | None) -> date:
    """The day itself, else the one that the flow's run was planned for (UTC)."""
    return day or runtime.flow_run.scheduled_start_time.date()


@flow(name="attrail-watch", flow_run_name=run_name, validate_parameters=True)
@newest_when_late
def watch(
    config: AuditConfig,
    version: str = "champion",
    windows: tuple[str, ...] = (),
    day: date | None = None,
) -> dict[str, Any]:
    """Compare one version's maps on the newest window of images with those on every window before it.

    The maps are for the classes that the version predicts; the windows' tables need no labels.

    Args:
        config: What ``attrail.toml`` holds; its slices are the windows.
        version: Alias, version number or models:/ URI of the version that is watched.
        windows: Names of the slices to compare, the newest last; all slices of the configuration when empty.
        day: The date for {day}, {day-1}, ... in the slices' source and where; the run's planned day (UTC) when empty.

    Returns:
        One row per earlier window, explainer and statistic, and whether any of them moved.
    """
    logging.getLogger("attrail").setLevel(logging.INFO)
    chosen = with_dates(windows_of(config, windows), day_of(day)).of_predictions()
    found, maps = explain_windows(chosen, version, str(runtime.flow_run.id or ""))
    rows = compared(chosen, maps)
    show(found, chosen, rows)
    return {"version": found.label, "moved": any(row["moved"] for row in rows), "rows": rows}


@task(
    name="explain windows",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=may_help,
)
def explain_windows(config: AuditConfig, version: str, flow_run: str) -> tuple[RegisteredVersion, VersionMaps]:
    """The version's maps on every window; what was kept before is not computed again."""
    registry, found = preflight_version(config, version, labelled=False)
    with explaining(registry, config, flow_run) as session:
        slices = session.asking(found, read_windows(config, found))
        total = sum(len(each) for each in slices) * len(config.explainers)
        with progress_of(f"explain {found.label}", total) as advance:
            return found, session.explain(found, slices, None, advance).version_maps


def compared(config: AuditConfig, maps: VersionMaps) -> list[dict[str, Any]]:
    """Every earlier window against the newest, by every explainer and statistic.

    ``moved`` holds the p-value against alpha shared over all rows (Bonferroni), so that a quiet day stays quiet.
    """
    *earlier, newest = (each.name for each in config.slices)
    settings = config.policy.to_policy().settings
    found = [
        (window, explainer.name, each)
        for window in earlier
        for explainer in config.explainers
        for each in compare_windows(maps.of((window, explainer.name)), maps.of((newest, explainer.name)), settings)
    ]
    return [
        {
            "earlier": window,
            "newest": newest,
            "explainer": explainer,
            "statistic": each.statistic,
            "value": each.value,
            "p_value": each.p_value,
            "images": list(each.used),
            "undefined": list(each.undefined),
            "moved": each.p_value <= config.policy.alpha / len(found),
        }
        for window, explainer, each in found
    ]


def show(version: RegisteredVersion, config: AuditConfig, rows: list[dict[str, Any]]) -> None:
    """Show the rows in Prefect, and emit ``attrail.window.moved`` when one of them moved."""
    moved = [row for row in rows if row["moved"]]
    newest = config.slices[-1].name
    key = artifact_key(f"attrail-watch-{version.label}")
    create_markdown_artifact(markdown=_markdown(version, newest, rows), key=key, description="Maps over windows")
    if not moved:
        logger.info("%s: no window's maps differ from those of %s", version.label, newest)
        return
    emit_event(
        event=MOVED,
        resource={
            "prefect.resource.id": f"attrail.model.{version.label.replace('/', '.')}",
            "attrail.model": version.label,
            "attrail.window": newest,
            "attrail.severity": "low",
        },
        payload={"moved": moved},
    )


def _markdown(version: RegisteredVersion, newest: str, rows: list[dict[str, Any]]) -> str:
    lines = [
        f"# {version.label} on {newest}",
        "",
        QUESTION,
        "",
        "| earlier window | explainer | statistic | value | p | |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [row["earlier"], row["explainer"], row["statistic"], f"{row['value']:.4g}", f"{row['p_value']:.4g}"]
        lines.append("| " + " | ".join([*cells, "moved" if row["moved"] else ""]) + " |")
    return "\n".join(lines)
