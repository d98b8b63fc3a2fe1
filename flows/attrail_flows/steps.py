"""The steps of an audit as plain functions; the flow's tasks call one each."""

import logging
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.errors import ConfigError, IncomparableError, SliceError
from attrail_explainers.explainer import Explainer, make_explainer
from attrail_explainers.explanation import explain_slice
from attrail_explainers.images import decode, timm_preprocessing
from attrail_explainers.slice import Preprocessing, Slice
from attrail_flows.configuration import AuditConfig
from attrail_flows.roomy import decoded
from attrail_mlflow.floor_maps import floor_maps
from attrail_mlflow.registry import RegisteredVersion, Registry
from attrail_mlflow.sequence_run import find_sequence
from attrail_monitoring.audit_record import AuditRecord, CalibrationFacts, ModelFacts, SliceFacts
from attrail_monitoring.calibration import Calibration
from attrail_monitoring.clusters import clusters_of
from attrail_monitoring.comparison import displace
from attrail_monitoring.expectations import Validation, validate_attributions, validate_slice_table
from attrail_monitoring.measurement import Measurement, measure
from attrail_monitoring.most_moved import most_moved
from attrail_monitoring.moved import Displacement
from attrail_monitoring.policy import Policy
from attrail_monitoring.rule_table import rules_of, validate_measurements
from attrail_monitoring.sequence import STATISTIC as SEQUENTIAL
from attrail_monitoring.sequence import Sequence as Sequence_
from attrail_monitoring.sequence import advance
from attrail_monitoring.slice_table import MASK, SliceTable, label_indices, read_slice_table
from attrail_monitoring.stratum import BOTH_RIGHT, OUTCOMES, outcomes
from attrail_monitoring.verdict import DriftReport
from attrail_monitoring.version_maps import VersionMaps

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

logger = logging.getLogger("attrail.audit")


@dataclass(frozen=True)
class Versions:
    """A reference and the versions of its noise floor."""

    reference: RegisteredVersion
    floor: tuple[RegisteredVersion, ...]

    @property
    def every(self) -> tuple[RegisteredVersion, ...]:
        return (self.reference, *self.floor)


@dataclass(frozen=True)
class ComparedVersions(Versions):
    """The versions an audit compares."""

    candidate: RegisteredVersion

    @property
    def every(self) -> tuple[RegisteredVersion, ...]:
        return (self.reference, self.candidate, *self.floor)


@dataclass(frozen=True, eq=False)
class Tables:
    """Validated slice tables with their class indices, and what Great Expectations said of them."""

    tables: tuple[SliceTable, ...]
    labels: tuple[pd.Series, ...]
    validations: tuple[Validation, ...]


@dataclass(frozen=True, eq=False)
class Explained:
    """One version's evidence: maps per slice and explainer; per slice predictions, targets and ``right``, all (N,).

    ``made_in`` says for maps, as slice/explainer/label, how many shards of them each MLflow run holds.
    """

    version: RegisteredVersion
    weights_digest: str
    classes: int
    maps: tuple[Attributions, ...]
    predictions: Mapping[str, NDArray[np.int64]]
    targets: Mapping[str, NDArray[np.int64]]
    right: Mapping[str, NDArray[np.bool_]]
    regions: Mapping[str, NDArray[np.bool_]]
    made_in: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    @property
    def accuracy(self) -> dict[str, float]:
        return {name: float(right.mean()) for name, right in self.right.items()}

    @property
    def version_maps(self) -> VersionMaps:
        return VersionMaps(self.maps, self.right, self.regions)


def resolve(registry: Registry, config: AuditConfig) -> ComparedVersions:
    """Find every version in the registry and refuse what can be seen to be wrong before a model is loaded."""
    section = config.registry
    if section.candidate is None:
        raise ConfigError("no candidate: set registry.candidate in the configuration or give --candidate")
    base, candidate = resolve_floor(registry, config), registry.resolve(section.model, section.candidate)
    if candidate.label in [each.label for each in base.floor]:
        raise ConfigError(
            f"{candidate.label} is compared and in the noise floor as well: take it out of registry.floor"
        )
    _require_same_classes(base.reference.label, base.reference.classes, candidate.label, candidate.classes)
    return ComparedVersions(base.reference, base.floor, candidate)


def resolve_floor(registry: Registry, config: AuditConfig) -> Versions:
    """Find the reference and its noise floor's versions, and refuse a floor that can be seen to be none."""
    section = config.registry
    if section.floor and section.change in ("architecture", "same-function"):
        why = {
            "architecture": "retrains of one architecture say nothing of another; set [policy.margins]",
            "same-function": "where the function stays the same only the explainers' own draws may move maps",
        }
        raise ConfigError(
            f"registry.floor cannot be used with change = {section.change!r}: {why[section.change]}; leave floor empty"
        )
    reference, *floor = (registry.resolve(section.model, each) for each in (section.reference, *section.floor))
    labels = [each.label for each in floor]
    if reference.label in labels:
        raise ConfigError(
            f"{reference.label} is compared and in the noise floor as well: take it out of registry.floor"
        )
    if len(set(labels)) < len(labels):
        raise ConfigError("registry.floor names a version twice: every reference retrain counts once")
    for each in floor:
        _require_same_classes(reference.label, reference.classes, each.label, each.classes)
    return Versions(reference, tuple(floor))


def read_tables(config: AuditConfig, reference: RegisteredVersion) -> Tables:
    """Read every slice's table and hold it against Great Expectations, before any model is loaded."""
    tables = tuple(read_slice_table(each.name, each.source, each.where, each.limit) for each in config.slices)
    names = reference.facts.get("classes") or ()
    labels = tuple(label_indices(table, names) for table in tables)
    pairs = zip(tables, labels, strict=True)
    validations = tuple(validate_slice_table(table, found, reference.classes) for table, found in pairs)
    return Tables(tables, labels, validations)


def preprocessing_of(config: AuditConfig, versions: Sequence[RegisteredVersion]) -> Preprocessing:
    """The preprocessing: the configuration's, else what the reference was logged with, else its timm data config.

    Raises ConfigError when none of them says, or when the versions say different things.
    """
    if config.preprocessing is not None:
        return _fitting(config.preprocessing.value(), versions[0])
    stated = [_stated_preprocessing(each) for each in versions]
    if stated[0] is None:
        raise ConfigError(
            f"{versions[0].label} does not say how its images are preprocessed: set [preprocessing] size, mean and std"
        )
    for each, found in zip(versions, stated, strict=True):
        if found is not None and found != stated[0]:
            raise ConfigError(
                f"{each.label} was logged with another preprocessing than {versions[0].label}: versions can only be "
                "compared on the same pixels; set [preprocessing] if one setting fits both"
            )
    return _fitting(stated[0], versions[0])


def load_slices(tables: Tables, preprocessing: Preprocessing) -> tuple[Slice, ...]:
    """Decode the images of every slice."""
    slices = []
    for table, labels in zip(tables.tables, tables.labels, strict=True):
        images = decoded([Path(path) for path in table.rows["path"]], partial(decode, preprocessing=preprocessing))
        ids = tuple(str(image) for image in table.rows["image"])
        regions = _regions(table, preprocessing)
        slices.append(Slice(table.name, images, labels.to_numpy(dtype=np.int64), ids, preprocessing, regions))
    return tuple(slices)


def _regions(table: SliceTable, preprocessing: Preprocessing) -> NDArray[np.bool_] | None:
    """Where the evidence belongs (N,H,W), from masks that are resized and cropped as the images are."""
    if MASK not in table.rows:
        return None
    plain = replace(preprocessing, mean=(0.0,), std=(1.0,))
    return np.asarray(decode([Path(path) for path in table.rows["mask_path"]], plain)[:, 0] > 0.5)


def explain_version(
    registry: Registry,
    version_: RegisteredVersion,
    slices: Sequence[Slice],
    config: AuditConfig,
    reference: Explained | None = None,
    progress: Callable[[int], object] = lambda images: None,
) -> Explained:
    """Load one version, predict and explain every slice. With ``reference``, its targets and layers are used."""
    classifier = registry.load(version_, allow_pickle=config.policy.allow_pickle)
    explainers = _explainers(config, reference)
    maps: list[Attributions] = []
    predictions, targets, right, classes = {}, {}, {}, 0
    for each in slices:
        logits = classifier.logits(each.images, each.sample_ids)
        classes = logits.shape[1]
        require_fitting(version_, classes, [each], reference)
        predictions[each.name] = logits.argmax(axis=1).astype(np.int64)
        right[each.name] = predictions[each.name] == each.labels
        source = predictions if reference is None else reference.predictions
        targets[each.name] = each.labels if config.policy.targets == "label" else source[each.name]
        maps += explain_slice(classifier, each, explainers, targets[each.name], config.policy.seed, progress)
    regions = {each.name: each.regions for each in slices if each.regions is not None}
    return Explained(version_, classifier.weights_digest, classes, tuple(maps), predictions, targets, right, regions)


def require_fitting(
    version_: RegisteredVersion, classes: int, slices: Sequence[Slice], reference: Explained | None
) -> None:
    """SliceError when a label is no class of the model, IncomparableError when the reference has other classes."""
    for each in slices:
        _require_labels(each, classes, version_.label)
    if reference is not None:
        _require_same_classes(reference.version.label, reference.classes, version_.label, classes)


def measure_versions(
    reference: Explained, candidate: Explained, calibration: Calibration, policy: Policy
) -> tuple[list[Measurement], list[Displacement], Validation]:
    """Validate all maps and measure candidate against reference."""
    validation = validate_attributions([*reference.maps, *candidate.maps])
    compared = (reference.version_maps, candidate.version_maps, calibration, policy.settings)
    return measure(*compared), displace(*compared), validation


def continue_sequence(
    registry: Registry, config: AuditConfig, report: DriftReport, reference: Explained, candidate: Explained
) -> Sequence_ | None:
    """The configured sequence after this audit, None when none is configured."""
    section = config.sequence
    if section is None:
        return None
    name = f"{reference.version.name}.{section.name}"
    found = find_sequence(registry, config.registry.experiment, name)
    before = Sequence_.from_document(found[1]) if found else None
    subject = (section.slice, section.explainer)
    maps = (reference.version_maps.of(subject), candidate.version_maps.of(subject))
    measured = next(each for each in report.findings if _counted(each.measurement, section.slice, section.explainer))
    right = reference.right[section.slice] & candidate.right[section.slice]
    after = advance(before, name, maps, right, measured, config.policy.value().settings, section.restart)
    return replace(after, previous=found[0] if found else None)


def hold_rules(config: AuditConfig, report: DriftReport) -> list[Validation]:
    """What the configuration's own rules say of the measurements; nothing without rules."""
    if not config.rules:
        return []
    rows = pd.DataFrame([finding.row() for finding in report.findings])
    return [validate_measurements(rows, rules_of(config.rules))]


def _counted(measured: Measurement, slice_name: str, explainer: str) -> bool:
    return measured.primary and (measured.slice, measured.explainer, measured.statistic) == (
        slice_name,
        explainer,
        SEQUENTIAL,
    )


def audit_record(
    config: AuditConfig,
    report: DriftReport,
    compared: tuple[Explained, Explained],
    calibrated: tuple[Calibration, CalibrationFacts],
    slices: Sequence[Slice],
    tables: Tables,
) -> AuditRecord:
    """All facts of the audit as one value; its run is added once MLflow has given it an id."""
    reference, candidate = compared
    calibration, facts = calibrated
    return AuditRecord(
        change=config.registry.change,
        reference=model_facts(reference, "reference"),
        candidate=model_facts(candidate, "candidate"),
        floor=facts.models,
        calibration=facts,
        instruments=tuple(
            {"slice": name, "explainer": explainer, **asdict(each)}
            for (name, explainer), each in calibration.instruments.items()
        ),
        slices=tuple(
            _slice_facts(each, table, compared, facts) for each, table in zip(slices, tables.tables, strict=True)
        ),
        explainers=tuple(explainer_facts(reference)),
        report=report,
        policy=asdict(config.policy.value()) | {"allow_pickle": config.policy.allow_pickle},
        maps={
            f"{maps.slice_name}/{maps.explainer}/{maps.model}": maps.digest for each in compared for maps in each.maps
        },
        environment=environment(),
        made_in={name: made for each in compared for name, made in each.made_in.items()},
        moved=most_moved(reference.version_maps, candidate.version_maps, config.policy.value().settings),
        clusters=clusters_of(
            reference.version_maps,
            candidate.version_maps,
            partial(floor_maps, facts.run_id),
            config.policy.value().settings,
        ),
    )


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


def _explainers(config: AuditConfig, reference: Explained | None) -> list[Explainer]:
    """The configured explainers, or exactly those the reference was explained with: same layer, same settings."""
    if reference is None:
        return [each.value() for each in config.explainers]
    return explainers_of(reference)


def explainers_of(explained: Explained) -> list[Explainer]:
    """The explainers a version was explained with: same layer, same settings."""
    return [make_explainer(each["name"], each["parameters"]) for each in explainer_facts(explained)]


def explainer_facts(explained: Explained) -> list[Mapping[str, Any]]:
    """Name and parameters of each explainer as used; the seed is the policy's, not the explainer's."""
    found = {}
    for maps in explained.maps:
        found[maps.explainer] = {key: value for key, value in maps.parameters.items() if key != "seed"}
    return [{"name": name, "parameters": parameters} for name, parameters in found.items()]


def model_facts(explained: Explained, role: str) -> ModelFacts:
    """What a record says of a version."""
    found = explained.version
    digest = explained.weights_digest
    return ModelFacts(found.label, found.uri, digest, role, found.version, found.source, found.run_id)


def _slice_facts(
    slice_: Slice, table: SliceTable, compared: tuple[Explained, Explained], calibration: CalibrationFacts
) -> SliceFacts:
    reference, candidate = (each.predictions[slice_.name] for each in compared)
    kinds = np.array(outcomes(*(each.right[slice_.name] for each in compared)))
    samples = np.array(slice_.sample_ids)
    return SliceFacts(
        name=slice_.name,
        source=str(table.source),
        digest=slice_.digest,
        images=len(slice_),
        accuracy={each.version.label: each.accuracy[slice_.name] for each in compared}
        | dict(calibration.accuracy.get(slice_.name, {})),
        flipped=int((reference != candidate).sum()),
        outcomes={kind: tuple(samples[kinds == kind].tolist()) for kind in OUTCOMES if kind != BOTH_RIGHT},
        preprocessing=asdict(slice_.preprocessing) if slice_.preprocessing else {},
    )


def _stated_preprocessing(version_: RegisteredVersion) -> Preprocessing | None:
    facts = version_.facts
    stated = facts.get("preprocessing")
    if stated:
        values: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()
        }
        return Preprocessing(**values)
    if facts.get("timm_model"):
        return timm_preprocessing(facts["timm_model"])
    return None


def _fitting(preprocessing: Preprocessing, version_: RegisteredVersion) -> Preprocessing:
    """The preprocessing, if its result has the shape the model was logged with."""
    logged, given = version_.input_shape, (preprocessing.channels, *preprocessing.size)
    if logged and any(size not in (-1, found) for size, found in zip(logged, given, strict=True)):
        raise ConfigError(
            f"preprocessing gives images of shape (C,H,W) = {given}, {version_.label} was logged for {logged}: "
            "correct [preprocessing] size, and mean and std to one number per channel"
        )
    return preprocessing


def _require_same_classes(first: str, known: int | None, second: str, other: int | None) -> None:
    if known is not None and other is not None and known != other:
        raise IncomparableError(
            f"{first} has {known} classes, {second} has {other}: only versions with the same classes can be compared"
        )


def _require_labels(slice_: Slice, classes: int, label: str) -> None:
    outside = np.flatnonzero((slice_.labels < 0) | (slice_.labels >= classes))
    if len(outside):
        row = int(outside[0])
        raise SliceError(
            f"slice {slice_.name!r}: image {slice_.sample_ids[row]!r} has the label {slice_.labels[row]}, "
            f"{label} knows 0..{classes - 1}; correct the table"
        )
