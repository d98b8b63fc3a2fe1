"""What is taken as it is, but not without a word."""

import pytest

from attrail_flows.inputs.remarks import batch_size, few_models, remarks_of, wide_limits
from attrail_monitoring.audit_record import ModelFacts
from attrail_monitoring.comparison import judge
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.verdict.measurement import Measurement
from attrail_monitoring.verdict.policy import Policy

NARROW, WIDE = (0.10, 0.11, 0.12, 0.13), (0.02, 0.1, 0.6, 1.5)


def measured(floor: tuple[float, ...], *, primary: bool = True) -> Measurement:
    numbers = {"value": 1.9, "lower": 1.8, "upper": 1.95, "worst": 1.95, "ceiling": 2.0, "n": 100, "undefined": 0}
    names = {"slice": "v", "explainer": "shap", "statistic": "rank_distance"}
    return Measurement(**names, **numbers, primary=primary, floor=NoiseFloor(floor, tuple("abcd")))


@pytest.mark.parametrize(
    ("floor", "margin", "said"),
    [
        (NARROW, 0.05, []),
        (WIDE, 0.05, ["the bound of its floor of 4 models is {bound:.3g}"]),
        (NARROW, 2.0, ["the policy's margin is 2"]),
        ((), 2.0, ["the policy's margin is 2"]),
    ],
)
def test_a_limit_that_nothing_can_exceed(floor: tuple[float, ...], margin: float, said: list[str]) -> None:
    report = judge([measured(floor), measured(WIDE, primary=False)], Policy(margins={"rank_distance": margin}))
    finding = report.findings[0]
    assert (finding.verdict == "DRIFT") is (not said)
    expected = [
        f"shap, rank_distance on v can never be DRIFT: {each.format(bound=finding.bound)}, and no distance exceeds 2"
        for each in said
    ]
    assert list(wide_limits(report)) == expected
    assert not expected or f"{finding.limit:.3g}" in expected[0]


@pytest.mark.parametrize(("models", "few"), [(0, False), (1, True), (3, True), (4, False)])
def test_all_remarks_of_an_audit(models: int, few: bool) -> None:
    report = judge([measured(NARROW)], Policy())
    facts = [ModelFacts(f"m/{size}", "", "", "floor", str(size), batch_size=size) for size in (None, 1, 8)]
    expected = [few_models(models)] * few + [batch_size("m/1", 1), batch_size("m/8", 8)]
    assert list(remarks_of(facts, models, report)) == expected
    assert "one image at a time" in expected[-2]
    assert "8 images at a time" in expected[-1]
