"""Rehearsals of a reference: whether its explainers notice a random head, and what other draws alone change.

Their maps are cut, kept and computed as those of every version are.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from attrail_explainers.digest import seed_of
from attrail_explainers.explainer import Explainer, Trait
from attrail_explainers.slice import Slice
from attrail_flows.engine.explained import Explained, explainers_of
from attrail_flows.engine.session import Draw, ExplainSession, Progress
from attrail_monitoring.maps.version_maps import VersionMaps

REPEATS = 4  # explanations of the reference anew, the floor of a change that keeps the function


@dataclass(frozen=True, eq=False)
class Rehearsing:
    """A reference whose explainers are tried, on these slices."""

    session: ExplainSession
    slices: Sequence[Slice]
    reference: Explained
    progress: Progress

    def random_head(self) -> VersionMaps:
        """The reference with a random classification layer, by the explainers that look at the class."""
        aware = [each for each in explainers_of(self.reference) if Trait.UNTARGETED not in each.traits]
        seed = self.session.config.policy.seed
        draw = Draw(seed, seed_of("random head", seed))
        return self.session.rehearse(self.reference.version, self.slices, aware, self.reference, draw, self.progress)

    def again(self, retrain: Sequence[Explained]) -> tuple[VersionMaps, VersionMaps] | None:
        """Reference and one retrain with other draws, by the explainers that draw; None when there is no retrain.

        The retrain may have been explained in parts, each on slices of its own.
        """
        drawing = [each for each in explainers_of(self.reference) if Trait.RANDOM in each.traits]
        if not retrain or not drawing:
            return None
        plain = Draw(seed_of("again", self.session.config.policy.seed))
        first = self._drawn(self.reference, drawing, plain)
        seconds = [self._drawn(part, drawing, replace(plain, noise=part.noise)) for part in retrain]
        maps = tuple(maps for each in seconds for maps in each.maps)
        return first, VersionMaps(maps, self.reference.right, self.reference.regions)

    def _drawn(self, explained: Explained, explainers: Sequence[Explainer], draw: Draw) -> VersionMaps:
        slices = [each for each in self.slices if each.name in explained.targets]
        return self.session.rehearse(explained.version, slices, explainers, self.reference, draw, self.progress)

    def repeats(self) -> list[VersionMaps]:
        """The reference explained anew; explainers that draw nothing repeat themselves exactly."""
        return [self._repeat(turn) for turn in range(1, REPEATS + 1)]

    def _repeat(self, turn: int) -> VersionMaps:
        reference = self.reference
        draw = Draw(seed_of("repeat", self.session.config.policy.seed, turn))
        drawing = [each for each in explainers_of(reference) if Trait.RANDOM in each.traits]
        drawn = {}
        if drawing:
            found = self.session.rehearse(reference.version, self.slices, drawing, reference, draw, self.progress)
            drawn = found.by_subject
        maps = [drawn.get((each.slice_name, each.explainer), each) for each in reference.maps]
        as_before = [
            replace(each, model=f"repeat {turn}", parameters=before.parameters)
            for each, before in zip(maps, reference.maps, strict=True)
        ]
        return VersionMaps(tuple(as_before), reference.right, reference.regions, reference.decisions)
