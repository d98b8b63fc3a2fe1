"""README.md, PROMOTION.md and ``make promotion`` tell one story; ``make gate-story`` types its beginning."""

import re
from pathlib import Path

import pytest

import promotion

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PROMOTION = (ROOT / "mlflow_plugin/PROMOTION.md").read_text(encoding="utf-8")
SECTION = PROMOTION.partition("\n## ")[0]
SHORT = README.partition("## Promote only what was audited")[2].partition("\n## ")[0]


def test_the_readmes_commands_are_three_of_the_story() -> None:
    """In that order, said in the same words."""
    shown = re.findall(r"^\$ (attrail .*)$", SHORT, re.MULTILINE)
    assert len(shown) == 3
    assert "\n".join(shown) in SECTION


def test_promotions_story_is_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``make promotion`` runs these commands, and fails when one does not end as the page says."""
    shown: list[str] = []

    class Listed(promotion.Terminal):
        def run(self, *words: str, status: int = 0, said: str = "", **more: str) -> str:
            exports = "".join(f"{name}={value} " for name, value in more.items())
            shown.append(exports + " ".join(f'"{word}"' if " " in word else word for word in words))
            return ""

    monkeypatch.setattr(promotion, "weights_of", lambda folder, version: "WEIGHTS")
    terminal = Listed(tmp_path, {})
    promotion.make_keys(terminal)
    promotion.story(terminal, tmp_path, 5000)
    page = [line for line in re.findall(r"^\$ (.*)$", PROMOTION, re.MULTILINE) if not line.startswith("mlflow server")]
    page = [re.sub(r"artifacts/training/\S+?model\.pt2", "WEIGHTS", line) for line in page]
    assert page == [line for line in shown if not line.startswith("curl")]
