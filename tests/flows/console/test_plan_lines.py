"""``attrail plan``: sentences with the sizes an audit needs."""

import re
from collections.abc import Callable

import pytest

from attrail_monitoring.inference.power import detectable_effect, detectable_shift, images_needed, retrains_needed
from attrail_monitoring.verdict.policy import Policy

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def attrail() -> Run:
    """The command alone: a plan needs no Prefect server."""
    from click.testing import CliRunner

    from attrail_flows.cli import attrail as command

    def run(*arguments: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(command, [str(each) for each in arguments])
        return result.exit_code, result.stdout, result.stderr or str(result.exception or "")

    return run


def planned(attrail: Run, *arguments: object) -> list[str]:
    status, out, err = attrail("plan", *arguments)
    assert status == 0, err
    return out.splitlines()


def test_every_question_has_its_sentence(attrail: Run) -> None:
    """Level and numbers are those of the policy, with several explainers, and of the power calculations."""
    level = Policy().level(6, together=True, moved=True, decided=True)
    lines = planned(attrail, "--effect", 0.2, "--sd", 0.5, "--images", 256, "--shift", 5, "--retrains", 5)
    told = f"at level {level:.4f} with power 90%"
    assert lines == [
        f"a paired shift of 0.2 (SD 0.5) needs {images_needed(0.2, level, 0.9, 0.5)} images {told}",
        f"256 images show a paired shift of {detectable_effect(256, level, 0.9, 0.5):.3g} {told}",
        f"a shift of 5 retrain SDs needs {retrains_needed(5, level, 0.9)} reference retrains {told}",
        f"5 reference retrains show a shift of {detectable_shift(5, level, 0.9):.3g} retrain SDs {told}",
    ]


def test_only_what_was_asked_is_answered(attrail: Run) -> None:
    (line,) = planned(attrail, "--images", 100)
    assert line.startswith("100 images show")


def test_more_hypotheses_need_more_images(attrail: Run) -> None:
    def images(*arguments: object) -> int:
        (line,) = planned(attrail, "--effect", 0.3, *arguments)
        return int(re.search(r"needs (\d+) images", line)[1])

    few, usual, many = (images("--hypotheses", count) for count in (1, 6, 60))
    assert few < usual < many
    assert images("--power", 0.5) < usual < images("--alpha", 0.01)


def test_what_an_audit_would_use_is_the_level(attrail: Run) -> None:
    (line,) = planned(attrail, "--images", 100, "--hypotheses", 1, "--alpha", 0.02)
    assert f"at level {Policy(alpha=0.02).level(1, together=True, moved=True, decided=True):.4f}" in line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "nothing to plan for: give --effect, --shift, --images or --retrains"),
        (("--effect", 0), "effect above 0"),
        (("--images", 1), "at least 2 images"),
        (("--retrains", 3), "3 reference retrains are no floor, whatever the shift: plan for 4 or more"),
        (("--shift", 1), "by any number of retrains"),
        (("--images", 100, "--hypotheses", 0), "0 is not in the range"),
        (("--images", 100, "--alpha", 1.5), "alpha must lie between 0 and 1"),
        (("--images", 100, "--power", 0), "power between 0 and 1"),
    ],
)
def test_questions_without_an_answer_say_why(attrail: Run, arguments: tuple[object, ...], said: str) -> None:
    status, _, err = attrail("plan", *arguments)
    assert status != 0
    assert said in err
