"""``attrail baseline``: the evidence for a first champion, which has nothing to be compared with.

The version is explained on every slice, and each explainer is asked whether it can measure anything there: enough
images have maps, and it notices when the classification layer is replaced by a random one (Adebayo et al., NeurIPS
2018), by more than the policy calls too little to matter.
"""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path

from attrail_explainers.attributions import Attributions
from attrail_flows.audit_steps.record import environment, shown_config
from attrail_flows.audit_steps.rehearsals import Rehearsing
from attrail_flows.configuration import AuditConfig
from attrail_flows.engine.serial_engine import explaining_in_turn
from attrail_flows.flow_runs.progress import progress_of
from attrail_flows.inputs.slices import read_slices
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.audit_run import audit_run
from attrail_mlflow.runs.baseline_run import BaselineEvidence, keep_baseline
from attrail_mlflow.statements.baseline import Baseline, InstrumentCheck
from attrail_monitoring.floor.calibration import Rehearsal, calibrate
from attrail_monitoring.floor.sanity import ExplainerSanity
from attrail_monitoring.maps.version_maps import MapKey
from attrail_monitoring.verdict.policy import Policy


def baseline(config: AuditConfig, model_uri: str) -> Baseline:
    """Explain a version on the configuration's slices, check the explainers, and keep it all in MLflow.

    Raises what an audit raises.
    """
    policy = config.policy.to_policy()
    registry = Registry(config.registry.tracking_uri)
    version = registry.resolve(config.registry.model, model_uri)
    with explaining_in_turn(registry, config) as session:
        slices = session.asking(version, read_slices(config, version))
        maps = sum(len(each) for each in slices) * len(config.explainers)
        with progress_of(f"explain {version.label}", 2 * maps) as advance:
            explained = session.explain(version, slices, None, advance)
            head = Rehearsing(session, slices, explained, advance).random_head()
    found = calibrate(explained.version_maps, [], policy.settings, rehearsal=Rehearsal(head))
    evidence = BaselineEvidence(
        maps=explained.maps,
        slices={each.name: each.digest for each in slices},
        checks=tuple(_checks(explained.version_maps.by_subject, found.instruments, policy)),
        policy=asdict(policy),
        policy_digest=policy.digest,
        config=shown_config(config, registry),
        environment=environment(),
    )
    with (
        audit_run(registry, config.registry.experiment, f"baseline of {version.label}") as run,
        tempfile.TemporaryDirectory(prefix="attrail-") as folder,
    ):
        return keep_baseline(run, version, explained.weights_digest, evidence, Path(folder))


def _checks(
    maps: Mapping[MapKey, Attributions], instruments: Mapping[MapKey, ExplainerSanity], policy: Policy
) -> Iterator[InstrumentCheck]:
    for (slice_name, explainer), each in maps.items():
        images, undefined = len(each.sample_ids), len(each.undefined)
        enough = images - undefined >= policy.fewest_images and undefined <= policy.undefined_limit * images
        numbers = {"images": images, "undefined": undefined}
        yield InstrumentCheck(slice_name, explainer, "maps_defined", enough, numbers)
        distances = instruments[slice_name, explainer].random_head
        judged = {name: distances[name] for name in policy.margins if name in distances}
        if judged:
            noticed = all(distance > policy.margins[name] for name, distance in judged.items())
            yield InstrumentCheck(slice_name, explainer, "random_head", noticed, judged)
