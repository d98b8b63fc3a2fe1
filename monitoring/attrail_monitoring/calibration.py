"""A calibration: the noise floor of one reference on its slices, measured once and used by every audit after it.

It stays good until the slice, the recipe, an explainer or a setting changes: its ``key`` holds all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, NamedTuple

from attrail_explainers.errors import RecordError
from attrail_monitoring.floor import NoiseFloor, Source
from attrail_monitoring.instrument import Instrument, inspect
from attrail_monitoring.pair import Pair, Side
from attrail_monitoring.settings import Settings
from attrail_monitoring.statistic import make_statistic, statistic_names
from attrail_monitoring.version_maps import Subject, VersionMaps

FORMAT = "attrail.calibration/1"


class Place(NamedTuple):
    """Where a distance was measured."""

    slice: str
    explainer: str
    statistic: str
    stratum: str


@dataclass(frozen=True)
class Calibration:
    """Distances of K models from the reference at every place, how far single images moved, and the instruments.

    ``image_distances`` (K,N) per slice and explainer are NaN where an image has no map.
    """

    source: Source = "retrains"
    floors: Mapping[Place, NoiseFloor] = field(default_factory=dict)
    instruments: Mapping[Subject, Instrument] = field(default_factory=dict)
    models: tuple[str, ...] = ()

    def floor(self, place: Place) -> NoiseFloor:
        """The floor at a place, an empty one where none was measured."""
        return self.floors.get(place, NoiseFloor(source=self.source))

    def document(self) -> dict[str, Any]:
        """Plain values, the contents of calibration.json."""
        return {
            "format": FORMAT,
            "source": self.source,
            "models": list(self.models),
            "floors": [
                {**place._asdict(), "distances": list(floor.distances), "models": list(floor.models)}
                for place, floor in self.floors.items()
            ],
            "instruments": [
                {"slice": slice_name, "explainer": explainer, **asdict(each)}
                for (slice_name, explainer), each in self.instruments.items()
            ],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Calibration":
        """The calibration in calibration.json; RecordError naming what is wrong."""
        if document.get("format") != FORMAT:
            raise RecordError(f"calibration: expected format {FORMAT}, got {document.get('format')!r}")
        try:
            source = document["source"]
            floors = {
                Place(*(row[name] for name in Place._fields)): NoiseFloor(
                    tuple(row["distances"]), tuple(row["models"]), source
                )
                for row in document["floors"]
            }
            instruments = {
                (row["slice"], row["explainer"]): Instrument(
                    **{key: value for key, value in row.items() if key not in ("slice", "explainer")}
                )
                for row in document["instruments"]
            }
            return cls(source, floors, instruments, tuple(document["models"]))
        except (KeyError, TypeError) as error:
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
    reference: VersionMaps,
    floor: Sequence[VersionMaps],
    settings: Settings,
    source: Source = "retrains",
    rehearsal: Rehearsal | None = None,
) -> Calibration:
    """Measure how far the floor's versions are from the reference, everywhere.

    IncomparableError when maps are not like with like.
    """
    floors: dict[Place, NoiseFloor] = {}
    instruments: dict[Subject, Instrument] = {}
    for subject in reference.by_subject:
        first = _side(reference, subject, settings)
        others = [_side(each, subject, settings) for each in floor]
        floors |= _floors(subject, [Pair(first, other) for other in others], settings, source)
        if rehearsal is not None:
            instruments[subject] = _instrument(subject, first, others, rehearsal, settings)
    models = tuple(each.maps[0].model for each in floor)
    return Calibration(source, floors, instruments, models)


def _side(version: VersionMaps, subject: Subject, settings: Settings) -> Side:
    return Side.of(version, subject, settings.grid)


def _floors(subject: Subject, pairs: Sequence[Pair], settings: Settings, source: Source) -> dict[Place, NoiseFloor]:
    found: dict[Place, dict[str, float]] = {}
    for pair in pairs:
        strata = list(pair.strata(settings.class_images))
        for name in statistic_names():
            statistic = make_statistic(name)
            if pair.reference.seen_by(statistic) is None:
                continue
            terms = pair.terms(statistic)
            for stratum, rows in strata:
                used = rows & pair.defined
                if used.any():
                    place = Place(*subject, name, stratum)
                    value = float(statistic.value(terms[used].mean(axis=0)))
                    found.setdefault(place, {})[pair.other.source.model] = value
    return {
        place: NoiseFloor(tuple(distances.values()), tuple(distances), source) for place, distances in found.items()
    }


def _instrument(
    subject: Subject, reference: Side, others: Sequence[Side], rehearsal: Rehearsal, settings: Settings
) -> Instrument:
    head, again = rehearsal.random_head, rehearsal.again
    has_head = head is not None and subject in head.by_subject
    redrawn = None
    if again is not None and all(subject in each.by_subject for each in again):
        redrawn = (_side(again[0], subject, settings), _side(again[1], subject, settings))
    return inspect(
        reference,
        _side(head, subject, settings) if head is not None and has_head else None,
        others[0] if others else None,
        redrawn,
    )
