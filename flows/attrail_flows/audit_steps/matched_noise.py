"""Matched noise: random changes of the reference's weights that move its answers as far as the candidate's are moved.

The floor of those who have two versions and nothing else: did the evidence move further than chance of that size moves
it? (Where honest versions lie beside it is measured on the zoo, ``attrail_monitoring.floor.factors``.)
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from attrail_explainers.digest import seed_of
from attrail_explainers.slice import Slice
from attrail_flows.engine.explained import Explained
from attrail_flows.engine.session import ExplainSession, Progress
from attrail_flows.engine.worker import Matched

DRAWS = 5  # for each slice, as on the zoo, where the factors to honest versions were measured
REACHED = 0.75  # of the candidate's divergence: draws with less are a floor that is too low
MATCHED_ON = 256  # images at most, evenly over the slice: the mean divergence of more is hardly another


@dataclass(frozen=True)
class SliceNoise:
    """The noise of one slice: how far the candidate's answers are from the reference's, and what ``matched`` that.

    ``divergence`` is the mean in nats and ``churn`` the share of other decisions, 0..1, on so many ``images``.
    """

    slice: str
    divergence: float
    churn: float
    images: int
    matched: Matched

    @property
    def reached(self) -> bool:
        """Whether every draw moves the answers about as far: what noise on weights can do has an end."""
        return all(each.divergence >= REACHED * self.divergence for each in self.matched.matches)

    def row(self) -> dict[str, Any]:
        """Plain values for the record."""
        draws = [
            asdict(each.noise) | {"divergence": each.divergence, "churn": each.churn} for each in self.matched.matches
        ]
        facts = {name: getattr(self, name) for name in ("slice", "divergence", "churn", "images")}
        return facts | {"tensors": list(self.matched.tensors), "draws": draws}


def match(session: ExplainSession, slice_: Slice, reference: Explained, candidate: Explained) -> SliceNoise:
    """Noise on the reference's weights that moves its answers on a slice as far as the candidate's are from them.

    Raises UnsupportedModelError for weights that no noise can be put on.
    """
    rows = np.linspace(0, len(slice_) - 1, min(len(slice_), MATCHED_ON)).round().astype(np.int64)
    part = Slice(slice_.name, slice_.images[rows], slice_.labels[rows], tuple(slice_.sample_ids[row] for row in rows))
    task = reference.task
    first, second = (each.logits[slice_.name][rows] for each in (reference, candidate))
    divergence = task.divergence(first, second)
    seed = seed_of("matched noise", session.config.policy.seed)
    found = session.match(reference.version, part, divergence, DRAWS, seed)
    return SliceNoise(slice_.name, divergence, task.churn(first, second), len(rows), found)


def explained(
    session: ExplainSession,
    slices: Sequence[Slice],
    reference: Explained,
    noises: Sequence[SliceNoise],
    progress: Progress,
) -> tuple[Explained, ...]:
    """The reference's evidence with each noise on its weights, on the slice that the noise was matched on."""
    version = reference.version
    return tuple(
        session.explain(version, [slice_], reference, progress, each.noise)
        for slice_, noise in zip(slices, noises, strict=True)
        for each in noise.matched.matches
    )
