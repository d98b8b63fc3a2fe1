"""Policy: the only place where a threshold is read, and the judgement it makes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import ConfigError, UnknownNameError
from attrail_explainers.parameters import require_choice, require_number, require_share, require_whole
from attrail_monitoring.floor.sanity import ExplainerSanity
from attrail_monitoring.inference.multiplicity import e_benjamini_hochberg, e_values_of, holm
from attrail_monitoring.inference.prediction_bound import FEWEST
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import make_statistic, statistic_names
from attrail_monitoring.maps.version_maps import MapKey
from attrail_monitoring.verdict.agreement import Agreement, agreements_of, groups_of
from attrail_monitoring.verdict.findings import Finding, Verdict
from attrail_monitoring.verdict.measurement import Measurement
from attrail_monitoring.verdict.moved_images import Displacement, MovedImages, moved_on_slices
from attrail_monitoring.verdict.open_question import (
    TOO_WIDE,
    Open,
    fewer_unexplained,
    more_images,
    more_models,
    on_the_limit,
)

FEW = 200  # hypotheses up to which Holm asks for less than e-BH, whose e-values come from p-values


Judged = tuple[Verdict, str, str]  # with the reason and the next step


@dataclass(frozen=True)
class Policy:
    """What counts as drift, fixed before the run.

    ``alpha`` is the chance of a false flag the whole audit may take. ``moved_share`` of it goes to single images that
    moved and, where there are two explainers or more, ``together_share`` to what they see together. Of what is left,
    ``class_share`` goes to hypotheses about single classes, the rest to the primary hypotheses of each explainer.
    Within each family it is shared by Holm's method, among many class hypotheses by e-BH. ``margins`` is, per
    statistic, a distance too small to matter; the noise floor's bound is used where it is larger. ``moved_margin`` is
    the share of an image's evidence that may leave what reference and retrains show. ``strict`` times alpha is the
    level at which one explainer alone blocks.
    ``undefined_limit`` is the share of images without a map, and ``fewest_images`` the number of images, beyond and
    below which nothing can be concluded. ``repeat_limit`` is the share of the floor by which an explainer's own draws
    may change a distance. ``targets`` is the class explained: the slice's "label" or the "reference" version's own top
    class.
    """

    alpha: float = 0.05
    strict: float = 0.1
    class_share: float = 0.2
    together_share: float = 0.4
    moved_share: float = 0.4
    margins: Mapping[str, float] = field(default_factory=lambda: {"coherent_shift": 0.05, "rank_distance": 0.05})
    moved_margin: float = 0.05
    undefined_limit: float = 0.05
    fewest_images: int = 16
    repeat_limit: float = 0.1
    targets: Literal["label", "reference"] = "label"
    settings: Settings = field(default_factory=Settings)

    def __post_init__(self) -> None:
        for name in ("alpha", "strict", "class_share", "together_share", "moved_share"):
            require_share(f"policy: {name}", getattr(self, name))
        if self.together_share + self.moved_share >= 1:
            given = f"{self.together_share} + {self.moved_share}"
            raise ConfigError(f"policy: together_share and moved_share must leave some of alpha, got {given}")
        for name in ("moved_margin", "undefined_limit", "repeat_limit"):
            require_number(f"policy: {name}", getattr(self, name), "lie in 0..1", lambda share: 0 <= share <= 1)
        require_whole("policy: fewest_images", self.fewest_images, 0)
        require_choice("policy: targets", self.targets, ("label", "reference"))
        for statistic, margin in self.margins.items():
            _require_margin(statistic, margin)

    @property
    def digest(self) -> str:
        return digest_of(asdict(self))

    def level(self, hypotheses: int, together: bool = False, moved: bool = False) -> float:
        """The primary hypotheses' alpha divided by their number (Bonferroni): the level of the bounds shown.

        ``together`` and ``moved`` say whether the audit has such hypotheses too.
        """
        return self._apart(together, moved) * (1 - self.class_share) / max(1, hypotheses)

    def _apart(self, together: bool, moved: bool) -> float:
        """What is left of alpha for each explainer by itself."""
        return self.alpha * (1 - self.together_share * together - self.moved_share * moved)

    def move(self, findings: Sequence[Finding], displacements: Sequence[Displacement]) -> tuple[MovedImages, ...]:
        """The images of each slice that moved, by the explainers that can measure there."""
        fit = {(each.measurement.slice, each.measurement.explainer) for each in findings if _fit(each)}
        groups: dict[str, list[Displacement]] = {}
        for each in displacements:
            if (each.slice, each.explainer) in fit:
                groups.setdefault(each.slice, []).append(each)
        return moved_on_slices(groups, self.alpha * self.moved_share, self.alpha, self.moved_margin)

    def agree(self, findings: Sequence[Finding]) -> tuple[Agreement, ...]:
        """What the explainers that can measure see together."""
        joined = [each.measurement for each in findings if self._joins(each)]
        found, at_worst = (self._agreements(each) for each in (joined, [_with_lost_moved(each) for each in joined]))
        pairs = zip(found, at_worst, strict=True)
        return tuple(replace(each, hides=worst.flagged and not each.flagged) for each, worst in pairs)

    def _agreements(self, measurements: Sequence[Measurement]) -> tuple[Agreement, ...]:
        groups = groups_of(measurements)
        margins = [self.margins.get(group[0].statistic, 0.0) for group in groups]
        return agreements_of(groups, self.alpha * self.together_share, margins)

    def _joins(self, finding: Finding) -> bool:
        measured = finding.measurement
        return measured.primary and not finding.unfit and self._missing(measured, measured) is None

    def judge(
        self,
        measurements: Sequence[Measurement],
        instruments: Mapping[MapKey, ExplainerSanity] | None = None,
        moved: bool = False,
    ) -> tuple[Finding, ...]:
        """A finding for each measurement; a headline stratum comes before the other strata of its slice.

        ``moved`` says that ``move`` takes its share of alpha.
        """
        found = self._judged(measurements, instruments or {}, moved)
        if not any(each.localised and each.lost for each in measurements):
            return found
        lost_moved = [_with_lost_moved(each) if each.localised else each for each in measurements]
        at_worst = self._judged(lost_moved, instruments or {}, moved)
        flags = [each.measurement.localised and each.verdict is Verdict.DRIFT for each in at_worst]
        return tuple(
            replace(finding, hides=flag and finding.verdict is not Verdict.DRIFT)
            for finding, flag in zip(found, flags, strict=True)
        )

    def _judged(
        self, measurements: Sequence[Measurement], instruments: Mapping[MapKey, ExplainerSanity], moved: bool
    ) -> tuple[Finding, ...]:
        headlines = _headlines(measurements)
        unfit = [self._unfit(each, instruments.get((each.slice, each.explainer))) for each in headlines]
        missing = [self._missing(*each) for each in zip(measurements, headlines, strict=True)]
        counted = [each for each, why in zip(measurements, unfit, strict=True) if each.primary and why is None]
        whole = [each for each, why in zip(counted, _at(missing, measurements, counted), strict=True) if why is None]
        together = bool(groups_of(whole))
        level = self.level(len(counted), together, moved)
        adjusted = self._adjusted(measurements, unfit, missing, self._apart(together, moved) / self.alpha)
        return tuple(
            self._finding(measured, unfit[place], missing[place], level, adjusted.get(place))
            for place, measured in enumerate(measurements)
        )

    def _adjusted(
        self,
        measurements: Sequence[Measurement],
        unfit: Sequence[Open | None],
        missing: Sequence[Open | None],
        apart: float,
    ) -> dict[int, float]:
        """Adjusted p-values, times what makes them comparable with alpha, of primary and of class hypotheses.

        ``apart`` is the share of alpha that both have.

        A class that cannot be flagged is no hypothesis; primary ones are fixed before the run.
        """
        found: dict[int, float] = {}
        for primary, share in ((True, apart * (1 - self.class_share)), (False, apart * self.class_share)):
            places = [
                place
                for place, each in enumerate(measurements)
                if unfit[place] is None and (each.primary if primary else each.localised and missing[place] is None)
            ]
            chances = [_chance(measurements[place]) for place in places]
            known = [(place, chance) for place, chance in zip(places, chances, strict=True) if chance is not None]
            values = [chance for _, chance in known]
            many = not primary and len(values) > FEW
            family = e_benjamini_hochberg(e_values_of(values)) if many else holm(values)
            found |= {place: min(1.0, float(p) / share) for (place, _), p in zip(known, family, strict=True)}
        return found

    def _finding(
        self, measured: Measurement, unfit: Open | None, missing: Open | None, level: float, adjusted: float | None
    ) -> Finding:
        margin = self.margins.get(measured.statistic)
        bound = measured.floor.bound(self.alpha * self.class_share if measured.localised else level)
        limit = max((number for number in (margin, bound) if number is not None), default=None)
        p_value = None if math.isnan(measured.value) else measured.floor.p_value(measured.value)
        why = unfit or missing
        judged = (Verdict.INCONCLUSIVE, *why) if why else self._verdict(measured, limit, adjusted, level)
        verdict, reason, step = judged
        strict = verdict is Verdict.DRIFT and adjusted is not None and adjusted <= self.strict * self.alpha
        left_out = unfit is not None
        return Finding(measured, bound, margin, limit, p_value, adjusted, verdict, strict, reason, left_out, step=step)

    def _verdict(self, measured: Measurement, limit: float | None, adjusted: float | None, level: float) -> Judged:
        if limit is None:
            models = len(measured.floor.distances)
            reason = f"no margin is set and {models} reference retrains are no floor"
            return Verdict.INCONCLUSIVE, f"{reason}: give {FEWEST} or more, or a margin", ""
        if limit >= measured.ceiling:
            return (
                Verdict.INCONCLUSIVE,
                TOO_WIDE,
                more_models(measured, measured.ceiling, level),
            )
        margin = self.margins.get(measured.statistic, 0.0)
        if adjusted is None:
            beyond_floor = measured.lower > limit
        else:
            beyond_floor = adjusted <= self.alpha and measured.lower > max(measured.floor.distances)
        if measured.lower > margin and beyond_floor:
            return Verdict.DRIFT, _beyond(measured, limit), ""
        return _within(measured, limit, level)

    def _missing(self, measured: Measurement, headline: Measurement) -> Open | None:
        """Why there is too little evidence for any verdict, None when there is enough."""
        images = measured.n + measured.undefined
        if measured.n < max(1, self.fewest_images):
            reason = f"only {measured.n} images with maps in both versions; {self.fewest_images} needed"
            return Open(reason, more_images(measured, max(1, self.fewest_images)))
        if measured.undefined > self.undefined_limit * images:
            reason = f"{measured.undefined} of {images} images have no map in one of the versions"
            return Open(reason, fewer_unexplained(measured))
        if measured.lost_p <= self.alpha:
            return Open(
                f"the candidate loses the maps of more images than the reference (McNemar's exact p = "
                f"{measured.lost_p:.2g})",
                fewer_unexplained(measured),
            )
        if measured.floor.tier == "0" and headline.floor.tier != "0":
            models = len(measured.floor.distances)
            reason = f"only {models} of the floor's models have enough such images: no floor for {measured.stratum}"
            return Open(reason, "")
        return None

    def _unfit(self, measured: Measurement, instrument: ExplainerSanity | None) -> Open | None:
        """Why this explainer cannot measure this statistic on this slice, None when it can or was not inspected."""
        if instrument is None or measured.floor.mean is None:
            return None
        noise, forgot = (each.get(measured.statistic) for each in (instrument.repeat, instrument.random_head))
        if noise is not None and noise > self.repeat_limit * measured.floor.mean:
            return Open(
                f"the explainer's own draws change the distance by {noise:.2g}, more than {self.repeat_limit:.0%} of "
                f"the floor ({measured.floor.mean:.2g}): give it more evaluations",
                f"give {measured.explainer} more evaluations, or use another explainer",
            )
        if forgot is not None and forgot <= max(measured.floor.distances):
            return Open(
                f"on this slice the explainer does not notice a random head (distance {forgot:.2g}, retrains reach "
                f"{max(measured.floor.distances):.2g}): it is left out",
                f"use another explainer beside {measured.explainer}: attrail list explainers",
            )
        return None


def _fit(finding: Finding) -> bool:
    return finding.measurement.primary and not finding.unfit


def _at(
    values: Sequence[Open | None], measurements: Sequence[Measurement], chosen: Sequence[Measurement]
) -> list[Open | None]:
    """The values that belong to chosen measurements."""
    places = {id(each): place for place, each in enumerate(measurements)}
    return [values[places[id(each)]] for each in chosen]


def _headlines(measurements: Sequence[Measurement]) -> list[Measurement]:
    """For each measurement the one on the stratum that the verdict rests on."""
    first: dict[tuple[str, str, str], Measurement] = {}
    return [first.setdefault((each.slice, each.explainer, each.statistic), each) for each in measurements]


def _with_lost_moved(measured: Measurement) -> Measurement:
    """The measurement if every map that the candidate lost had moved as far as the statistic allows.

    Each explainer's own limit is held with those maps at their worst; classes and agreements are only ever flagged, and
    must not escape by losing some.
    """
    if not measured.lost:
        return measured
    images = measured.n + measured.lost
    kept = measured.n * measured.value if measured.n else 0.0
    end = (kept + measured.lost * measured.ceiling) / images
    left = measured.undefined - measured.lost
    at_worst = replace(measured, value=end, lower=end, upper=end, worst=end)
    return replace(at_worst, n=images, undefined=left, lost=0, lost_p=1.0)


def _chance(measured: Measurement) -> float | None:
    """The floor's p-value at the lower end of the interval: the images' uncertainty counts for the candidate."""
    return None if math.isnan(measured.lower) else measured.floor.p_value(measured.lower)


def _beyond(measured: Measurement, limit: float) -> str:
    """Holm's method may flag within the limit shown, which is Bonferroni's, once other hypotheses are flagged."""
    if measured.floor.tier == "0":
        return f"moved further than the policy's margin {limit:g}, its whole interval; {measured.floor.lacking}"
    if measured.lower > limit:
        return "moved further than the limit, its whole interval"
    return "moved further than the floor, its whole interval, at the level that the other flags leave (Holm)"


def _within(measured: Measurement, limit: float, level: float) -> Judged:
    """Whether the whole interval lies within the limit."""
    if measured.worst < limit:
        if measured.floor.tier == "0":
            within = f"stayed within the policy's margin {limit:g}, its whole interval; {measured.floor.lacking}"
            return Verdict.PASS, within, ""
        return Verdict.PASS, "stayed within the limit, its whole interval", ""
    if measured.upper < limit:
        reason = f"the {measured.undefined} images without a map could have moved beyond the limit"
        return Verdict.INCONCLUSIVE, reason, fewer_unexplained(measured)
    if measured.lower > limit:
        reason = "moved beyond the limit, but not clearly enough among this many hypotheses"
        return Verdict.INCONCLUSIVE, reason, more_models(measured, measured.lower, level)
    return Verdict.INCONCLUSIVE, *on_the_limit(measured, limit, level)


def _require_margin(statistic: str, margin: object) -> None:
    if statistic not in statistic_names():
        raise UnknownNameError.of("statistic in policy margins", statistic, statistic_names())
    most = make_statistic(statistic).upper
    wanted = f"lie in 0..{most:g}"
    require_number(f"policy: the margin of {statistic}", margin, wanted, lambda distance: 0 <= distance <= most)
