"""``attrail inspect``: what is inside one version, or changed inside between two, as a page, pictures and numbers."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from attrail_explainers.inspection.exhibit import EXHIBITS, Exhibit, Shown, chosen_exhibits, make_exhibit
from attrail_explainers.inspection.looking import show, view_of
from attrail_explainers.inspection.view import View
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import targets_of
from attrail_flows.flow_runs.progress import progress_of
from attrail_flows.inputs.slices import load_slices, preprocessing_of, read_tables
from attrail_flows.inputs.versions import require_same_classes
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.runs.evidence_files import slug
from attrail_monitoring.report.inside import Inside, panel_picture, render_inside


def inside_to_folder(
    config: AuditConfig, model_uri: str, against: str | None, slice_name: str, names: Sequence[str], folder: Path
) -> list[str]:
    """Write ``inspect.html`` and each exhibit's numbers and pictures into ``folder``; lines that say what was done."""
    exhibits = {name: make_exhibit(name) for name in chosen_exhibits(names)}
    registry = Registry(config.registry.tracking_uri)
    spellings = [each for each in (against, model_uri) if each is not None]
    versions = [registry.resolve(config.registry.model, each) for each in spellings]
    view = _view(config.with_slices(slice_name), registry, versions)
    shown: dict[str, Shown] = {}
    with progress_of(f"inspect {versions[-1].label}", len(exhibits)) as advance:
        for name in exhibits:
            shown[name] = show(view, exhibits, name)
            advance(1)
    labels = {role: version.label for role, version in zip(view.roles, versions, strict=True)}
    for name, each in shown.items():
        _write(folder, name, exhibits[name], each, labels)
    titled = {name: (exhibits[name].title, each) for name, each in shown.items()}
    page = Inside(labels, slice_name, len(view.rows), titled)
    (folder / "inspect.html").write_text(render_inside(page), encoding="utf-8")
    return [*_lines(shown), f"written: {folder / 'inspect.html'}"]


def _view(config: AuditConfig, registry: Registry, versions: Sequence[RegisteredVersion]) -> View:
    if len(versions) > 1:
        first, second = versions
        require_same_classes(first.label, first.classes, second.label, second.classes)
    task = config.task.to_task()
    tables = read_tables(config, versions[0])
    (slice_,) = load_slices(tables, preprocessing_of(config, versions))
    loaded = [registry.load(each, allow_pickle=config.policy.allow_pickle).for_task(task) for each in versions]
    target = targets_of(config, [slice_]).get(slice_.name)
    if target is None:
        target = task.answered(slice_, loaded[0].logits(slice_.images, slice_.sample_ids))
    return view_of(loaded, slice_, target, config.policy.seed)


def _write(folder: Path, name: str, exhibit: Exhibit, shown: Shown, labels: Mapping[str, str]) -> None:
    """``NAME.json``, ``NAME.safetensors`` where numbers were measured, and a PNG for each panel of pictures."""
    folder.mkdir(parents=True, exist_ok=True)
    panels = []
    for number, panel in enumerate(shown.panels, start=1):
        picture, file = panel_picture(panel), f"{name}/{number:04d}-{slug(panel.layer or 'model')}.png"
        if picture is not None:
            (folder / name).mkdir(exist_ok=True)
            (folder / file).write_bytes(picture)
        captions = [each.caption for each in panel.pictures]
        panels.append({"layer": panel.layer, "title": panel.title, "pictures": captions, "file": picture and file})
    document = shown.document() | {"exhibit": name, "parameters": EXHIBITS.parameters_of(exhibit), "versions": labels}
    text = json.dumps(document | {"panels": panels}, indent=1, allow_nan=False)
    (folder / f"{name}.json").write_text(text + "\n", encoding="utf-8")
    if shown.arrays:
        plain = {key: np.ascontiguousarray(array) for key, array in shown.arrays.items()}  # else as memory has them
        save_file(plain, folder / f"{name}.safetensors")


def _lines(shown: Mapping[str, Shown]) -> list[str]:
    found = []
    for name, each in shown.items():
        if each.absent is not None:
            found.append(f"{name}: not shown, {each.absent}")
        found += [f"{name}: {note}" for note in each.notes]
    return found
