"""The facts of an audit as one record."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.model.task import SINGLE_LABEL
from attrail_explainers.slice import Slice
from attrail_flows.audit_steps.calibration import Calibrated
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import Explained, explainer_facts, model_facts
from attrail_flows.inputs.remarks import remarks_of, wrapped
from attrail_flows.inputs.slices import Tables, first, first_images
from attrail_flows.inputs.versions import ComparedVersions
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.audit_run import AuditRun
from attrail_mlflow.runs.floor_maps import floor_maps
from attrail_monitoring.audit_record import AuditRecord, CalibrationFacts, PolicyFacts, SliceFacts
from attrail_monitoring.clusters.clusters import clusters_of
from attrail_monitoring.expectations.inputs import Validation
from attrail_monitoring.maps.strata import BOTH_RIGHT, OUTCOMES, outcomes
from attrail_monitoring.slices.class_order import other_order
from attrail_monitoring.slices.slice_table import SliceTable
from attrail_monitoring.verdict.findings import DriftReport
from attrail_monitoring.verdict.looks import Look
from attrail_monitoring.verdict.most_moved import most_moved
from attrail_monitoring.verdict.policy import Policy
from attrail_monitoring.verdict.sequence import Sequence as AuditSequence

PACKAGES = (
    "attrail",
    "torch",
    "torchvision",
    "timm",
    "captum",
    "shap",
    "lime",
    "numpy",
    "scipy",
    "scikit-image",
    "mlflow",
    "prefect",
)


@dataclass(frozen=True, eq=False)
class BegunAudit:
    """What is known of an audit before anything is computed; ``flow_run`` is the id of the flow's run."""

    config: AuditConfig
    policy: Policy
    versions: ComparedVersions
    tables: Tables
    slices: Sequence[Slice]
    run: AuditRun
    posted: PolicyFacts
    flow_run: str

    def at(self, look: Look) -> "BegunAudit":
        """The audit of the images that a look sees."""
        slices = [first_images(each, look.images) for each in self.slices]
        return replace(self, tables=first(self.tables, look.images), slices=slices)


def audit_record(
    begun: BegunAudit,
    compared: tuple[Explained, Explained],
    calibrated: Calibrated,
    report: DriftReport,
    look: Look,
    sequence: AuditSequence | None,
    rules: Sequence[Validation],
) -> AuditRecord:
    """All facts of the audit as one value; ``compared`` are the reference and the candidate."""
    config, policy = begun.config, begun.policy
    reference, candidate = compared
    facts = calibrated.facts
    models = (model_facts(reference, "reference"), model_facts(candidate, "candidate"))
    return AuditRecord(
        change=config.registry.change,
        reference=models[0],
        candidate=models[1],
        floor=facts.models,
        calibration=facts,
        instruments=tuple(
            {"slice": name, "explainer": explainer, **asdict(each)}
            for (name, explainer), each in calibrated.calibration.instruments.items()
        ),
        slices=tuple(
            _slice_facts(each, table, compared, facts, said)
            for each, table, said in zip(begun.slices, begun.tables.tables, begun.tables.cautions, strict=True)
        ),
        explainers=tuple(explainer_facts(reference)),
        classes=reference.version.class_names,
        report=report,
        policy=asdict(policy) | {"allow_pickle": config.policy.allow_pickle},
        maps={
            f"{maps.slice_name}/{maps.explainer}/{maps.model}": maps.digest for each in compared for maps in each.maps
        },
        environment=environment(),
        made_in={name: made for each in compared for name, made in each.made_in.items()},
        remarks=(
            *begun.versions.said,
            *(wrapped(each.label, each.wrapped) for each in begun.versions.every if each.wrapped is not None),
            *filter(None, [calibrated.remark]),
            *remarks_of((*models, *facts.models), len(begun.versions.floor), report),
        ),
        floor_choice=begun.versions.choice.document() if begun.versions.choice else None,
        moved=most_moved(reference.version_maps, candidate.version_maps, policy.settings),
        clusters=clusters_of(
            reference.version_maps, candidate.version_maps, partial(floor_maps, facts.run_id), policy.settings
        ),
        posted_policy=begun.posted,
        look=look.row() if look.planned > 1 else None,
        task=_task(config),
        sequence=sequence.document() if sequence else None,
        rules=tuple(asdict(check) for validation in rules for check in validation.checks),
        run={
            "run_id": begun.run.run_id,
            "time": datetime.now(UTC).isoformat(timespec="seconds"),
            "flow_run_id": begun.flow_run,
            "tracking_uri": begun.run.registry.shown,
        },
    )


def _task(config: AuditConfig) -> dict[str, Any] | None:
    """What was asked, None for one class of several."""
    if config.task.name == SINGLE_LABEL and not config.task.model_extra:
        return None
    return {"name": config.task.name, **asdict(config.task.to_task())}


def shown_config(config: AuditConfig, registry: Registry) -> dict[str, Any]:
    """The configuration for the record: no password in it."""
    document = config.model_dump(mode="json", by_alias=True)
    if _task(config) is None:  # as before there were tasks
        del document["task"]
    document["registry"]["tracking_uri"] = registry.shown
    return document


def environment() -> dict[str, str]:
    """Versions and hardware an audit ran with."""
    found = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
    found["processors"] = str(os.cpu_count())
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed as a distribution"
    return found


def _slice_facts(
    slice_: Slice,
    table: SliceTable,
    compared: tuple[Explained, Explained],
    calibration: CalibrationFacts,
    cautions: tuple[str, ...],
) -> SliceFacts:
    kinds, samples = _outcomes(slice_, compared), np.array(slice_.sample_ids)
    predictions = compared[0].predictions.get(slice_.name) if compared[0].task.asks_by == "label" else None
    label = compared[0].version.label
    order = "" if predictions is None else other_order(label, slice_.labels, predictions)
    return SliceFacts(
        name=slice_.name,
        source=str(table.source),
        digest=slice_.digest,
        images=len(slice_),
        pictures=None if slice_.image_ids is None else slice_.image_count,
        accuracy={each.version.label: each.accuracy[slice_.name] for each in compared if slice_.name in each.accuracy}
        | dict(calibration.accuracy.get(slice_.name, {})),
        flipped=_flipped(slice_, compared),
        outcomes={kind: tuple(samples[kinds == kind].tolist()) for kind in OUTCOMES if kind != BOTH_RIGHT},
        preprocessing=asdict(slice_.preprocessing) if slice_.preprocessing else {},
        cautions=(*cautions, order) if order else cautions,
    )


def _outcomes(slice_: Slice, compared: tuple[Explained, Explained]) -> NDArray[np.str_]:
    """How both versions decided about each row, "" where nobody knows what is right."""
    rights = [each.right[slice_.name] for each in compared if slice_.name in each.right]
    return np.array(outcomes(*rights) if len(rights) == len(compared) else [""] * len(slice_))


def _flipped(slice_: Slice, compared: tuple[Explained, Explained]) -> int:
    """How many decisions are others; 0 where none are made."""
    decided = [each.decisions[slice_.name] for each in compared if slice_.name in each.decisions]
    return int((~decided[0].same(decided[1])).sum()) if len(decided) == len(compared) else 0
