"""A calibration: the noise floor of one reference on its slices, measured once and used by every audit after it.

It stays good until the slice, the recipe, an explainer or a setting changes: its ``key`` holds all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

from numpy.typing import NDArray

from attrail_explainers.attributions import Attributions
from attrail_explainers.digest import digest_of
from attrail_explainers.errors import IncomparableError, RecordError
from attrail_monitoring.floor.decision_floors import DecidedAt, DecisionFloor, decision_floors
from attrail_monitoring.floor.envelope import Envelope
from attrail_monitoring.floor.factors import Factor, factors_of
from attrail_monitoring.floor.noise_floor import MEASURED, NoiseFloor, Source
from attrail_monitoring.floor.sanity import ExplainerSanity, sanity_of
from attrail_monitoring.floor.spreads import spreads_of
from attrail_monitoring.inference.prediction_bound import FEWEST
from attrail_monitoring.inference.shared_spread import SharedSpread, shared_spread
from attrail_monitoring.maps.pair import Pair, Side
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import make_statistic, statistic_names
from attrail_monitoring.maps.strata import ALL, BOTH_RIGHT, HEADLINES, Stratum, is_class
from attrail_monitoring.maps.version_maps import MapKey, VersionInput, VersionMaps, version_maps

FORMAT = "attrail.calibration/3"


class MeasuredAt(NamedTuple):
    """Where a distance was measured."""

    slice: str
    explainer: str
    statistic: str
    stratum: str


@dataclass(frozen=True)
class Calibration:
    """Distances of K models from the reference at every place, the instruments, and the envelopes.

    ``subjects`` holds, for each slice and explainer, a digest of the reference, images, targets and parameters that it
    was made for. ``envelopes``, what each image's evidence shows in reference and floor, are there where the floor has
    four models or more, and ``decisions`` the floors of what the versions decided, where that is known::

        calibration = calibrate(champion_maps, retrain_maps)
        reports = [compare(champion_maps, each, calibration) for each in candidates_maps]
    """

    source: Source = "retrains"
    floors: Mapping[MeasuredAt, NoiseFloor] = field(default_factory=dict)
    instruments: Mapping[MapKey, ExplainerSanity] = field(default_factory=dict)
    models: tuple[str, ...] = ()
    subjects: Mapping[MapKey, str] = field(default_factory=dict)
    envelopes: Mapping[MapKey, Envelope] = field(default_factory=dict)
    decisions: Mapping[DecidedAt, DecisionFloor] = field(default_factory=dict)

    def require_made_for(self, reference: Attributions) -> None:
        """Raise IncomparableError when its models were compared with other maps: other model, images or parameters."""
        subject = (reference.slice_name, reference.explainer)
        if self.models and self.subjects.get(subject) != _identity(reference):
            raise IncomparableError(
                f"the calibration was not made for {reference.explainer} on slice {reference.slice_name!r} with the "
                f"reference {reference.model}: another model, other images, targets or parameters; calibrate anew"
            )

    def floor(self, place: MeasuredAt) -> NoiseFloor:
        """The floor at a place, empty where none was measured; it knows of models without a distance there."""
        found = self.floors.get(place, NoiseFloor(source=self.source))
        others = len(self.models) - len(found.distances)
        return replace(found, others=others, others_lack=_lack(place.stratum)) if others else found

    def decides(self, statistic: str) -> bool:
        """Whether a verdict rests on a statistic: on those with factors where some are known, else on the primary."""
        return statistic in self._calibrated if self._calibrated else make_statistic(statistic).primary

    @cached_property
    def _calibrated(self) -> frozenset[str]:
        return frozenset(place.statistic for place, floor in self.floors.items() if floor.factor is not None)

    def decision_floor(self, place: DecidedAt) -> DecisionFloor:
        """The floor of decisions at a place, an empty one where none was measured."""
        return self.decisions.get(place, DecisionFloor(source=self.source))

    @property
    def arrays(self) -> dict[str, NDArray[Any]]:
        """The envelopes' arrays, the contents of envelopes.safetensors; ``document`` holds their digests."""
        return {
            f"{place}.{name}": array
            for place, envelope in enumerate(self.envelopes.values())
            for name, array in envelope.arrays.items()
        }

    def document(self) -> dict[str, Any]:
        """Plain values, the contents of calibration.json."""
        return {
            "format": FORMAT,
            "source": self.source,
            "models": list(self.models),
            "subjects": [
                {"slice": slice_name, "explainer": explainer, "identity": digest}
                for (slice_name, explainer), digest in self.subjects.items()
            ],
            "floors": [
                {
                    **place._asdict(),
                    "distances": list(floor.distances),
                    "models": list(floor.models),
                    "shared": None if floor.shared is None else asdict(floor.shared),
                    "factor": None if floor.factor is None else asdict(floor.factor),
                    "joint": None if floor.joint is None else asdict(floor.joint),
                }
                for place, floor in self.floors.items()
            ],
            "instruments": [
                {"slice": slice_name, "explainer": explainer, **asdict(each)}
                for (slice_name, explainer), each in self.instruments.items()
            ],
            "envelopes": [
                {"slice": slice_name, "explainer": explainer, "digest": each.digest}
                for (slice_name, explainer), each in self.envelopes.items()
            ],
            "decisions": [place._asdict() | floor.row() for place, floor in self.decisions.items()],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> "Calibration":
        """The calibration in calibration.json and envelopes.safetensors; RecordError naming what is wrong."""
        if document.get("format") != FORMAT:
            raise RecordError(f"calibration: expected format {FORMAT}, got {document.get('format')!r}")
        try:
            source = document["source"]
            floors = {
                MeasuredAt(*(row[name] for name in MeasuredAt._fields)): NoiseFloor(
                    tuple(row["distances"]),
                    tuple(row["models"]),
                    source,
                    None if row["shared"] is None else SharedSpread(**row["shared"]),
                    *(Factor(**row[name]) if row.get(name) else None for name in ("factor", "joint")),
                )
                for row in document["floors"]
            }
            instruments = {
                (row["slice"], row["explainer"]): ExplainerSanity(
                    **{key: value for key, value in row.items() if key not in ("slice", "explainer")}
                )
                for row in document["instruments"]
            }
            subjects = {(row["slice"], row["explainer"]): row["identity"] for row in document["subjects"]}
            envelopes = {
                (row["slice"], row["explainer"]): Envelope.read(_at(arrays, place), row["digest"])
                for place, row in enumerate(document["envelopes"])
            }
            decisions = {
                DecidedAt(*(row[name] for name in DecidedAt._fields)): DecisionFloor.read(row, source)
                for row in document.get("decisions", ())  # there were none before they were measured
            }
            return cls(source, floors, instruments, tuple(document["models"]), subjects, envelopes, decisions)
        except (KeyError, TypeError, ValueError) as error:
            raise RecordError(f"calibration: an entry is missing or unknown: {error}") from error


@dataclass(frozen=True, eq=False)
class Rehearsal:
    """Versions that were explained only to see what the explainers can do.

    ``random_head`` is the reference with a random classification layer; ``again`` the reference and the first retrain
    with all draws made anew, for explainers that draw.
    """

    random_head: VersionMaps | None = None
    again: tuple[VersionMaps, VersionMaps] | None = None


def calibrate(
    reference: VersionInput,
    floor: Sequence[VersionInput],
    settings: Settings | None = None,
    source: Source = "retrains",
    rehearsal: Rehearsal | None = None,
    change: str = "retrain",
) -> Calibration:
    """Measure how far the floor's versions are from the reference, and return it for every comparison after this one.

    By every statistic, on every slice, explainer and stratum. ``reference`` and each of ``floor`` are the maps of one
    model version, as ``compare`` takes them; ``source`` says what the floor's models are (``NoiseFloor``).
    ``rehearsal`` holds maps that show whether the explainers can measure at all, ``change`` is the declared one, which
    says how much further honest versions move than stand-ins do (``factors_of``). Raises IncomparableError when the
    maps are not of the same images, targets, explainers and parameters::

        calibration = calibrate(champion_maps, retrain_maps)
        report = compare(champion_maps, candidate_maps, calibration)
    """
    base, versions = version_maps(reference), [version_maps(each) for each in floor]
    settings = settings or Settings()
    decisions = decision_floors(base, versions, settings, source)
    floors: dict[MeasuredAt, NoiseFloor] = {}
    instruments: dict[MapKey, ExplainerSanity] = {}
    for subject in base.by_subject:
        first = _side(base, subject, settings)
        others = [_side(each, subject, settings) for each in versions]
        floors |= _floors(subject, [Pair(first, other) for other in others], settings, source, change)
        if rehearsal is not None:
            instruments[subject] = _instrument(subject, first, others, rehearsal, settings)
    models = tuple(each.maps[0].model for each in versions)
    envelopes = {
        subject: Envelope.of(maps, [each.of(subject) for each in versions], settings)
        for subject, maps in base.by_subject.items()
        if len(versions) >= FEWEST and source not in MEASURED  # they leave single images nearer than honest versions do
    }
    subjects = {subject: _identity(maps) for subject, maps in base.by_subject.items()}
    return Calibration(source, floors, instruments, models, subjects, envelopes, decisions)


def _lack(stratum: Stratum) -> str:
    """What a model has not got that has no distance in a stratum."""
    if is_class(stratum):
        return "too few images of this class with maps of both"
    if stratum == BOTH_RIGHT:
        return "no image that they and the reference both decided rightly, with maps of both"
    return "no image with maps of both" if stratum == ALL else f"no image of the kind {stratum!r}"


def _at(arrays: Mapping[str, NDArray[Any]], place: int) -> dict[str, NDArray[Any]]:
    """The arrays of one envelope."""
    front = f"{place}."
    return {name.removeprefix(front): array for name, array in arrays.items() if name.startswith(front)}


def _identity(reference: Attributions) -> str:
    """What must be the same; not the values, which another machine rounds differently."""
    model = {"weights": reference.weights_digest, **reference.optional}
    return digest_of({"maps": reference.comparability, **model})


def _side(version: VersionMaps, subject: MapKey, settings: Settings) -> Side:
    return Side.of(version, subject, settings.grid)


def _floors(
    subject: MapKey, pairs: Sequence[Pair], settings: Settings, source: Source, change: str
) -> dict[MeasuredAt, NoiseFloor]:
    found: dict[MeasuredAt, list[tuple[str, float]]] = {}
    for pair in pairs:
        strata = list(pair.strata(settings.class_images))
        for name in statistic_names():
            statistic = make_statistic(name)
            if pair.reference.seen_by(statistic) is None:
                continue
            terms = pair.terms(statistic)
            for stratum, rows in strata:
                used = rows & pair.defined
                if used.sum() >= (settings.class_images if is_class(stratum) else 1):
                    value = float(statistic.value(terms[used].mean(axis=0)))
                    found.setdefault(MeasuredAt(*subject, name, stratum), []).append((pair.other.source.model, value))
    known = {place: spreads_of(source).get(place.statistic) for place in found if place.stratum in HEADLINES}
    shared = known | _shared({place: tuple(value for _, value in each) for place, each in found.items()})
    factors, joint = factors_of(source, change), factors_of(source, change, "together")
    return {
        place: NoiseFloor(
            tuple(value for _, value in each),
            tuple(model for model, _ in each),
            source,
            shared.get(place),
            # classes were not calibrated
            *(None if is_class(place.stratum) else each.get(place.statistic) for each in (factors, joint)),
        )
        for place, each in found.items()
    }


def _shared(found: Mapping[MeasuredAt, Sequence[float]]) -> dict[MeasuredAt, SharedSpread]:
    """The spread that a statistic's floors share over classes, by place; classes that lack a model do not take part."""
    most = max((len(distances) for distances in found.values()), default=0)
    whole = [place for place, each in found.items() if is_class(place.stratum) and len(each) == most >= FEWEST]
    spreads: dict[MeasuredAt, SharedSpread] = {}
    for name in {place.statistic for place in whole}:
        places = [place for place in whole if place.statistic == name]
        spread = shared_spread([found[place] for place in places])
        if spread is not None:
            spreads |= dict.fromkeys(places, spread)
    return spreads


def _instrument(
    subject: MapKey, reference: Side, others: Sequence[Side], rehearsal: Rehearsal, settings: Settings
) -> ExplainerSanity:
    head, again = rehearsal.random_head, rehearsal.again
    has_head = head is not None and subject in head.by_subject
    redrawn = None
    if again is not None and all(subject in each.by_subject for each in again):
        redrawn = (_side(again[0], subject, settings), _side(again[1], subject, settings))
    return sanity_of(
        reference,
        _side(head, subject, settings) if head is not None and has_head else None,
        others[0] if others else None,
        redrawn,
    )
