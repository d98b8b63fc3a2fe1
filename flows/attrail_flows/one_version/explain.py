"""``attrail explain``: one version, one slice, one explainer, as files."""

from pathlib import Path

import numpy as np

from attrail_explainers.attributions import save_attributions
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.serial_engine import explained_alone
from attrail_flows.inputs.slices import read_slices
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.evidence_files import slug
from attrail_monitoring.pictures.marks import lines_of, marked
from attrail_monitoring.pictures.overlays import fit, overlay, png, shared_scale


def explain_to_folder(
    config: AuditConfig, model_uri: str, slice_name: str, explainer_name: str, folder: Path
) -> list[str]:
    """Write ``maps.safetensors`` and one PNG per image (image beside overlay) into ``folder``; say what was done."""
    chosen = config.narrowed(explainer_name, slice_name)
    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve(config.registry.model, model_uri)
    slices, explained = explained_alone(chosen, registry, version, read_slices(chosen, version))
    (maps,) = explained.maps
    save_attributions(maps, folder / "maps.safetensors")
    signed = bool((maps.values < 0).any())
    for row, picture in enumerate(slices[0].pictures()):
        shown, values = fit(picture), maps.values[row]
        drawn = overlay(shown, values, shared_scale(values, signed=signed))
        lines = lines_of(slices[0], row, (shown.shape[0], shown.shape[1]))
        name = f"{row + 1:04d}-{slug(maps.sample_ids[row])}.png"
        (folder / name).write_bytes(png(np.concatenate([marked(shown, lines), marked(drawn, lines)], axis=1)))
    what = f"{len(slices[0])} maps of {explainer_name} for {version.label} on {slice_name}"
    undefined = [f"no map for {sample}: {reason}" for sample, reason in maps.undefined.items()]
    return [f"{what}: {folder / 'maps.safetensors'}", *undefined]
