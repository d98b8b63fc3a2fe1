"""Remarks: what an audit takes as it is, but does not take without a word; on the terminal and in the record."""

from collections.abc import Iterator, Sequence

from attrail_monitoring.audit_record import ModelFacts
from attrail_monitoring.inference.prediction_bound import FEWEST
from attrail_monitoring.verdict.findings import DriftReport, Finding


def remarks_of(models: Sequence[ModelFacts], floor: int, report: DriftReport) -> Iterator[str]:
    """All of an audit's remarks: about its models, its floor of so many models, its limits."""
    if 0 < floor < FEWEST:
        yield few_models(floor)
    yield from (batch_size(each.label, each.batch_size) for each in models if each.batch_size is not None)
    yield from wide_limits(report)


def few_models(count: int) -> str:
    return f"registry.floor names {count} of the {FEWEST} models that a floor needs at least: matched noise stands in"


def no_noise(why: str) -> str:
    return f"there is no noise floor: {why}"


def own_floor(candidate: str, reference: str) -> str:
    return f"{candidate} was chosen for the floor of {reference}, and is the candidate now: the floor is without it"


def batch_size(label: str, size: int) -> str:
    one = "one image at a time" if size == 1 else f"{size} images at a time"
    return (
        f"{label} was exported for {one}, as MLflow does with an input_example of one image: its maps take much "
        "longer; log it again with two or more example images"
    )


def wrapped(label: str, file: str) -> str:
    return (
        f"{label} is somebody's own Python around {file}: that file is explained, on images as [preprocessing] says; "
        "what the Python does before and after it is not run, and nothing is said of it"
    )


def wide_limits(report: DriftReport) -> Iterator[str]:
    """One sentence for each row of the verdict that can never be DRIFT, as its limit is no less than the largest."""
    for finding in report.findings:
        measured = finding.measurement
        if measured.primary and finding.limit is not None and finding.limit >= measured.ceiling:
            yield (
                f"{measured.explainer}, {measured.statistic} on {measured.slice} can never be DRIFT: "
                f"{_limit(finding)}, and no distance exceeds {measured.ceiling:g}"
            )


def _limit(finding: Finding) -> str:
    if finding.bound is not None and finding.bound >= (finding.margin or 0.0):
        models = len(finding.measurement.floor.distances)
        return f"the bound of its floor of {models} models is {finding.bound:.3g}"
    return f"the policy's margin is {finding.margin:g}"
