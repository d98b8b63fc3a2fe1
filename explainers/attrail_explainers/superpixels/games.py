"""Games that superpixels play: what a model says of an image from which some of them are removed."""

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from attrail_explainers.baselines import Baseline, baseline_of
from attrail_explainers.errors import ExplanationError
from attrail_explainers.model.task import Target
from attrail_explainers.slice import NONE
from attrail_explainers.subject import Subject
from attrail_explainers.superpixels.masking import Mosaic
from attrail_explainers.superpixels.segmentation import Segmentation, is_grid, segment_diagnostics

Rows = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Game:
    """One image (C,H,W), the ``baseline`` (C,H,W) that replaces what is removed, its ``segments`` (H,W), its target."""

    sample_id: str
    image: torch.Tensor
    baseline: torch.Tensor
    segments: NDArray[np.int64]
    target: Target

    @property
    def players(self) -> int:
        """Return the number of superpixels."""
        return int(self.segments.max()) + 1

    @cached_property
    def mosaic(self) -> Mosaic:
        """Return image and baseline, ready to be mixed."""
        return Mosaic(self.image, self.baseline, self.segments)

    def keeping(self, rows: Rows) -> torch.Tensor:
        """Copies of the image (M,C,H,W) that keep the superpixels of each row (M,S) and replace the others."""
        return self.mosaic.keeping(rows)


@dataclass(frozen=True)
class Answers:
    """What the model says of M copies: ``log_odds`` (M,), the target's score, and ``chosen`` (M,), the class chosen.

    -1 where it chooses none, as always in a task without classes.
    """

    log_odds: NDArray[np.float64]
    chosen: NDArray[np.int64]


Result = TypeVar("Result")
Strategy = Generator[
    Rows, Answers, Result
]  # asks about rows of superpixels that stay, gets answers, ends with a result


def games_of(subject: Subject, segmentation: Segmentation, baseline: Baseline) -> list[Game]:
    """The game of each image of a subject."""
    return [
        Game(
            name,
            image,
            baseline_of(image, baseline),
            segmentation.segment(image.cpu().numpy()),
            subject.target.row(row),
        )
        for row, (name, image) in enumerate(zip(subject.sample_ids, subject.images, strict=True))
    ]


def play(subject: Subject, games: Sequence[Game], strategies: Sequence[Strategy[Result]]) -> list[Result]:
    """The result of each game's strategy; all are played side by side so that their questions fill whole batches."""
    results: dict[int, Result] = {}
    questions: dict[int, Rows] = {}

    def go_on(number: int, answers: Answers | None) -> None:
        try:
            questions[number] = strategies[number].send(answers) if answers else next(strategies[number])
        except StopIteration as end:
            results[number] = end.value
            subject.row_done()

    for number in range(len(games)):
        go_on(number, None)
    while questions:
        asked = list(questions)
        answers = _answers(subject, [(games[number], questions.pop(number)) for number in asked])
        for number, answer in zip(asked, answers, strict=True):
            go_on(number, answer)
    return [results[number] for number in range(len(games))]


def scores(outputs: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
    """Scores (M,) float64, on the CPU, of one target of one row for each of the outputs (M,...).

    Row by row: a sum over classes then never depends on which rows stand together.
    """
    return torch.cat([target.score(row[None]) for row, target in zip(outputs.cpu(), targets, strict=True)])


def _answers(subject: Subject, asked: Sequence[tuple[Game, Rows]]) -> Iterator[Answers]:
    with torch.inference_mode():
        images = (copy for game, rows in asked for row in rows for copy in game.keeping(row[None]))
        logits = _logits(subject, images)
        start = 0
        for game, rows in asked:
            own = logits[start : start + len(rows)]
            start += len(rows)
            found = scores(own, [game.target] * len(rows)).numpy()
            require_finite(subject, found, game.sample_id)
            chosen = game.target.chosen(own).numpy() if game.target.task.decides else np.full(len(rows), NONE)
            yield Answers(found, chosen)


def _logits(subject: Subject, images: Iterator[torch.Tensor]) -> torch.Tensor:
    """Outputs (M,...), on the CPU, of images made only when their batch is due."""
    parts = []
    batch = []
    for image in images:
        batch.append(image)
        if len(batch) == subject.model.batch:
            parts.append(subject.model.call(torch.stack(batch)).cpu())
            batch = []
    if batch:
        parts.append(subject.model.call(torch.stack(batch)).cpu())
    return torch.cat(parts)


def require_finite(subject: Subject, values: NDArray[np.float64], sample_id: str) -> None:
    """Raise ExplanationError when the model's answers for perturbed copies of an image are no numbers."""
    if not np.isfinite(values).all():
        raise ExplanationError(
            f"model {subject.model.label} returns NaN or infinite outputs for perturbed copies of {sample_id!r}"
        )


def worth_of(subject: Subject) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """The target's scores as captum asks for them: of the subject's images, repeated, beside their rows' numbers."""
    targets = [subject.target.row(row) for row in range(len(subject))]

    def worth(images: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        found = scores(subject.model.call(images), [targets[row] for row in rows.tolist()])
        for place, sample_id in enumerate(subject.sample_ids):
            require_finite(subject, found[place :: len(subject)].numpy(), sample_id)
        return found.to(images.device)

    return worth


def superpixel_diagnostics(games: Sequence[Game]) -> dict[str, NDArray[np.float64]]:
    """Of each image: number of ``segments``, ``smallest_segment`` in pixels, ``grid`` 1 where they follow no edge."""
    found = [segment_diagnostics(game.segments) | {"grid": float(is_grid(game.segments))} for game in games]
    return {name: np.array([each[name] for each in found]) for name in found[0]}
