"""A declared change: what was changed, and what it does to maps anyway."""

from dataclasses import dataclass

from attrail_monitoring.floor.noise_floor import NoiseFloor, Source


@dataclass(frozen=True)
class DeclaredChange:
    """In words: what changed, the ``null`` hypothesis about a candidate that is as good as the reference, its noise."""

    meaning: str = ""
    null: str = ""
    noise: str = "this kind of change"


CHANGES = {
    "same-function": DeclaredChange(
        "the same weights exported, compiled or quantized",
        "it moved no further than explaining the reference anew, with other draws",
        "explaining it anew",
    ),
    "edit": DeclaredChange(
        "weights changed without training: pruned, quantized, merged",
        "it moved no further than other changes of the weights that move the decisions as far",
        "editing the weights",
    ),
    "retrain": DeclaredChange(
        "the same recipe, trained again",
        "it moved no further than one more training of the reference's recipe",
        "retraining",
    ),
    "refresh": DeclaredChange(
        "the same recipe on other data",
        "it moved no further than one more training of the recipe on data of the same kind",
        "refreshing the data",
    ),
    "fine-tune": DeclaredChange(
        "trained further from the reference",
        "it moved no further than one more fine-tune of the reference by the same recipe",
        "fine-tuning",
    ),
    "architecture": DeclaredChange(
        "another architecture",
        "none: no models stand for another architecture, so that the margins and a person decide",
    ),
}
NOISES: dict[Source, str] = {"history": "an approved change", "repeats": "explaining it anew"}


def declared_change(name: str, floor: NoiseFloor) -> DeclaredChange:
    """The change of an audit, and the noise that its floor holds."""
    known = CHANGES.get(name, DeclaredChange())
    return DeclaredChange(known.meaning, known.null, NOISES.get(floor.source, known.noise))
