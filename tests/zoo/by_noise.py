"""The verdict over stand-ins: matched noise for a floor, or surrogates.

The factors between stand-ins and honest versions come from all families but the pair's own, so that the rates are those
of a user whose models the zoo has never seen.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

from detectors import Audit, score
from factors import Move, Place, change_of, spreads
from making import Zoo
from pairs import Pair
from processes import shared_out
from slices import IMAGES
from tqdm import tqdm
from versions import stand_ins, version

from attrail_explainers.errors import AttrailError
from attrail_monitoring.comparison import compare
from attrail_monitoring.floor.calibration import Calibration
from attrail_monitoring.floor.factors import Factor
from attrail_monitoring.maps.strata import is_class
from attrail_monitoring.verdict.policy import Policy

DECIDING = ("edit", "fine-tune")  # changes of which the noise may say DRIFT; of the others it notices
NOTICE = "times as far as"
Factors = Mapping[Place, Factor]


@dataclass(frozen=True)
class ByNoise:
    """What attrail says of a pair over its stand-ins alone; ``noticed`` where a statistic moved beyond them.

    ``score`` as ``detectors.score`` gives it.
    """

    pair: Pair
    word: str
    reason: str
    noticed: bool
    score: float = 0.0

    @property
    def change(self) -> str:
        return change_of(self.pair)


def judge_by_noise(
    zoo: Zoo, moves: Sequence[Move], pairs: Sequence[Pair], workers: int, deciding: Sequence[str] = DECIDING
) -> list[ByNoise]:
    """Every pair, with the factors of the other families; DRIFT may be said of changes that are ``deciding``."""
    families = dict.fromkeys(pair.family for pair in pairs)
    others = {family: [each for each in moves if each.pair.family != family] for family in families}
    known = {family: factors_of(each, deciding) for family, each in others.items()}
    work = [(pair, known[pair.family]) for pair in pairs]
    found = shared_out(partial(judge_one, zoo), work, workers)
    return list(tqdm(found, total=len(work), desc="by stand-ins", smoothing=0.05))


def factors_of(moves: Sequence[Move], deciding: Sequence[str] = DECIDING) -> dict[Place, Factor]:
    """The factors that honest candidates show, as the library takes them."""
    return {
        place: Factor(seen.log_mean, seen.log_sd, seen.freedom, seen.lowest, seen.highest, decides=place[0] in deciding)
        for place, seen in spreads(moves).items()
    }


def judge_one(zoo: Zoo, work: tuple[Pair, Factors | None]) -> ByNoise:
    """One pair by attrail's default policy, instrument checks included; without factors with those of the library."""
    pair, factors = work
    reference, candidate, head = (version(zoo, each, pair.slice, IMAGES) for each in pair.members[:3])
    audit = Audit(reference, candidate, head, stand_ins(zoo, pair), pair.source, change_of(pair))
    try:
        calibration = audit.calibration if factors is None else _with(audit.calibration, factors, audit.change)
        report = compare(reference, candidate, calibration, Policy())
    except AttrailError as error:  # what an audit would stop with
        return ByNoise(pair, "error", str(error), noticed=False)
    noticed = any(NOTICE in each.reason for each in report.findings if each.measurement.primary)
    return ByNoise(pair, str(report.verdict), report.reason, noticed, score(report))


def _with(calibration: Calibration, factors: Factors, change: str) -> Calibration:
    """A calibration with these factors in place of those that the library has."""
    floors = {
        place: replace(
            floor,
            factor=None if is_class(place.stratum) else factors.get((change, "each", place.statistic)),
            joint=None if is_class(place.stratum) else factors.get((change, "together", place.statistic)),
        )
        for place, floor in calibration.floors.items()
    }
    return replace(calibration, floors=floors)
