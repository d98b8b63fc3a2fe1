"""``attrail check``: does the explanation of one version hold? One slice, one explainer, every check."""

import json
from collections.abc import Sequence
from pathlib import Path

from attrail_explainers.assessment.assessment import Assessment, assess_slice, chosen_checks
from attrail_explainers.explanation import questions_found
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import targets_of, warn_of
from attrail_flows.flow_runs.progress import progress_of
from attrail_flows.inputs.slices import asked_slice, read_slices
from attrail_mlflow.registry.registry import Registry
from attrail_monitoring.pictures.curves import CurvePanel, draw_curves

PANELS = {
    "deletion": ("deletion: lower is better", "pixels removed, largest values first (%)"),
    "insertion": ("insertion: higher is better", "pixels inserted, largest values first (%)"),
}


def check_to_folder(
    config: AuditConfig,
    model_uri: str,
    slice_name: str,
    explainer_name: str,
    folder: Path,
    check_names: Sequence[str] | None = None,
) -> Assessment:
    """Write ``checks.json`` and, where curves were measured, ``curves.png`` into ``folder``; None runs all checks."""
    checks = chosen_checks(check_names)
    chosen = config.narrowed(explainer_name, slice_name)
    explainer = chosen.explainers[0].to_explainer()
    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve(config.registry.model, model_uri)
    (slice_,) = read_slices(chosen, version)
    task = chosen.task.to_task()
    loaded = registry.load(version, allow_pickle=config.policy.allow_pickle)
    classifier = loaded.for_task(task).for_images(slice_.preprocessing)
    warn_of(version, classifier.batch_size)
    if task.leaves_open(slice_):
        slice_ = asked_slice(slice_, questions_found(classifier, slice_, version.class_names))
    outputs = classifier.logits(slice_.images, slice_.sample_ids)
    target = targets_of(config, [slice_]).get(slice_name) or task.answered(slice_, outputs)
    with progress_of(f"check {explainer_name} of {version.label}", len(slice_) * (1 + len(checks))) as advance:
        found = assess_slice(classifier, slice_, explainer, checks, target, config.policy.seed, advance)
    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps(found.document(), indent=1, allow_nan=False)
    (folder / "checks.json").write_text(document + "\n", encoding="utf-8")
    panels = _panels(found)
    if panels:
        title = f"{explainer_name}, {version.label}, {slice_name} ({len(slice_)} images)"
        (folder / "curves.png").write_bytes(draw_curves(panels, title))
    return found


def _panels(found: Assessment) -> list[CurvePanel]:
    panels = []
    for name, (title, across) in PANELS.items():
        if name in found.outcomes:
            details = found.outcomes[name].finding.details
            panels.append(CurvePanel(title, across, details["curve"], details["chance_curve"]))
    return panels
