"""The gate in front of a real server: no attack gets through, every honest promotion does."""

from collections.abc import Callable

import pytest
from attacks import ATTACKS, Attack
from stories import STORIES
from workshop import Answer, Workshop


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.name)
def test_no_attack_gets_through(attack: Attack, workshop: Workshop) -> None:
    attack(workshop)


@pytest.mark.parametrize("story", STORIES, ids=lambda each: each.__name__)
def test_every_honest_promotion_does(story: Callable[[Workshop], Answer], workshop: Workshop) -> None:
    answer = story(workshop)
    assert answer.status == 200, answer


def test_there_are_at_least_fifty_attacks() -> None:
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS) >= 50
