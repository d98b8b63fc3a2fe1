"""The tasks of an audit, as Prefect shows and repeats them; each calls one plain function."""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from prefect import runtime, task
from prefect.cache_policies import NO_CACHE

from attrail_explainers.slice import Slice
from attrail_flows.audit_steps import calibration, matched_noise
from attrail_flows.audit_steps.calibration import Calibrated, FloorModels
from attrail_flows.audit_steps.judging import Measured, measure_versions
from attrail_flows.audit_steps.matched_noise import SliceNoise
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.explained import Explained
from attrail_flows.engine.session import ExplainSession
from attrail_flows.flow_runs.progress import progress_of
from attrail_flows.flow_runs.retries import DELAYS, RETRIES, may_help
from attrail_flows.inputs.preflight import preflight_audit, preflight_floor
from attrail_flows.inputs.slices import Tables, drawn, load_slices, preprocessing_of, read_tables
from attrail_flows.inputs.versions import ComparedVersions, Versions, require_chosen_files, warn_of_floor
from attrail_mlflow.registry.registry import RegisteredVersion, Registry
from attrail_mlflow.runs.audit_run import AuditRun, open_run
from attrail_mlflow.runs.evidence_files import Evidence
from attrail_mlflow.runs.posted_policy import post_policy
from attrail_monitoring import comparison
from attrail_monitoring.audit_record import PolicyFacts
from attrail_monitoring.expectations.inputs import Validation
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.verdict.findings import DriftReport
from attrail_monitoring.verdict.looks import Look, judged_at
from attrail_monitoring.verdict.policy import Policy

# They carry NO_CACHE: maps and models pass between them in memory, and hashing them as cache keys would be waste.


@task(name="load", cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def load(config: AuditConfig) -> tuple[Registry, ComparedVersions]:
    """Connect to MLflow and find every version, once nothing can be seen to be wrong."""
    registry, versions = preflight_audit(config)
    require_chosen_files(registry, config, versions)
    warn_of_floor(versions)
    return registry, versions


@task(
    name="load floor", cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=DELAYS, retry_condition_fn=may_help
)
def load_floor(config: AuditConfig) -> tuple[Registry, Versions]:
    """Connect to MLflow and find the reference and its noise floor's versions, once nothing can be seen to be wrong."""
    registry, versions = preflight_floor(config)
    require_chosen_files(registry, config, versions)
    warn_of_floor(versions)
    return registry, versions


@task(name="validate", cache_policy=NO_CACHE)
def validate(config: AuditConfig, versions: Versions) -> tuple[Tables, tuple[Slice, ...]]:
    """Hold the slice tables against Great Expectations, then decode their images."""
    tables = read_tables(config, versions.reference)
    if config.policy.looks:
        tables = drawn(tables, config.policy.seed)
    return tables, load_slices(tables, preprocessing_of(config, versions.every))


@task(name="ask", cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def ask(session: ExplainSession, version: RegisteredVersion, slices: Sequence[Slice]) -> tuple[Slice, ...]:
    """The slices with a row for each question; a version is asked where their tables leave open what these are."""
    return session.asking(version, slices)


@task(
    name="explain",
    task_run_name="explain-{version.label}",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=may_help,
)
def explain(
    session: ExplainSession, version: RegisteredVersion, slices: Sequence[Slice], reference: Explained | None
) -> Explained:
    """Explain one version on every slice, shard by shard; what was kept before is not computed again."""
    maps = sum(len(each) for each in slices) * len(session.config.explainers)
    with progress_of(f"explain {version.label}", maps) as advance:
        return session.explain(version, slices, reference, advance)


@task(
    name="match noise",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=may_help,
)
def match_noise(
    session: ExplainSession, slices: Sequence[Slice], reference: Explained, candidate: Explained
) -> tuple[SliceNoise, ...]:
    """Find the noise of each slice that moves the reference's answers as far as the candidate's are from them."""
    return tuple(matched_noise.match(session, each, reference, candidate) for each in slices)


@task(
    name="explain with noise",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=may_help,
)
def explain_with_noise(
    session: ExplainSession, slices: Sequence[Slice], reference: Explained, noises: Sequence[SliceNoise]
) -> tuple[Explained, ...]:
    """Explain the reference with each noise on its weights, on the slice that the noise was matched on."""
    maps = matched_noise.DRAWS * sum(len(each) for each in slices) * len(session.config.explainers)
    with progress_of(f"explain {reference.version.label} with noise", maps) as advance:
        return matched_noise.explained(session, slices, reference, noises, advance)


@task(name="calibrate", cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def find_floor(registry: Registry, config: AuditConfig, key: str) -> Calibrated | None:
    """The noise floor, where it was measured before."""
    return calibration.find(registry, config, key)


@task(
    name="measure floor",
    cache_policy=NO_CACHE,
    retries=RETRIES,
    retry_delay_seconds=DELAYS,
    retry_condition_fn=may_help,
)
def measure_floor(
    session: ExplainSession,
    slices: Sequence[Slice],
    reference: Explained,
    floor: FloorModels,
    key: str,
    settings: Settings,
) -> Calibrated:
    """Measure the noise floor and whether the explainers can measure, and keep both."""
    with progress_of("rehearse", calibration.rehearsed(floor, reference, slices)) as advance:
        return calibration.measure(session, slices, reference, floor, key, settings, advance)


@task(name="compare", cache_policy=NO_CACHE)
def compare(
    reference: Explained, candidate: Explained, calibrated: Calibrated, policy: Policy
) -> tuple[Measured, Validation]:
    """Validate the maps and measure how far they are apart."""
    return measure_versions(reference, candidate, calibrated.calibration, policy)


@task(name="judge", cache_policy=NO_CACHE)
def judge(
    measured: Measured, look: Look, policy: Policy, change: str, calibrated: Calibrated, reference: Explained
) -> DriftReport:
    """Hold the measurements of a look against the policy."""
    instruments, classes = calibrated.calibration.instruments, reference.version.class_names

    def judged(policy: Policy) -> DriftReport:
        evidence = (measured.measurements, policy, instruments, measured.displacements)
        return comparison.judge(*evidence, change, classes, measured.decisions)

    return judged_at(look, policy, judged)


@task(name="open", cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def open_audit(
    registry: Registry, config: AuditConfig, versions: ComparedVersions, policy: Policy
) -> tuple[AuditRun, PolicyFacts]:
    """Begin the audit's run, and keep the policy in it before anything is computed."""
    run = open_run(
        registry, config.registry.experiment, f"{versions.candidate.label} against {versions.reference.label}"
    )
    return run, post_policy(run, versions.candidate.name, asdict(policy), policy.digest)


@task(name="record", cache_policy=NO_CACHE, retries=RETRIES, retry_delay_seconds=DELAYS, retry_condition_fn=may_help)
def record(run: AuditRun, versions: ComparedVersions, evidence: Evidence) -> None:
    """Keep all evidence in the audit's MLflow run."""
    with tempfile.TemporaryDirectory(prefix="attrail-") as folder:
        evidence.write(Path(folder))
        run.keep(evidence.record, Path(folder), versions.reference, versions.candidate)


def flow_run() -> str:
    """The id of the flow's run."""
    return str(runtime.flow_run.id or "")
