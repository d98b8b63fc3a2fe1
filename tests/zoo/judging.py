"""Judge every pair by every detector; judgements are kept until the detector's code or the maps change."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import detectors
from cache import write_json
from detectors import NAMES, Audit, Judgement, judged
from making import Zoo
from pairs import Pair
from processes import shared_out
from slices import bases
from spreads import Family, Spreads
from tqdm import tqdm
from versions import accuracy, version

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import AttrailError
from attrail_monitoring.decisions.decision_statistic import decision_statistic_names, make_decision_statistic
from attrail_monitoring.floor import factors
from attrail_monitoring.maps.statistic import make_statistic, statistic_names
from attrail_monitoring.verdict.policy import Policy

SIZES = (256, 512)
Known = Mapping[Family, Spreads]


@dataclass(frozen=True)
class Judged:
    """A pair with ``images`` images, every detector's judgement, and both versions' accuracies on the slice."""

    pair: Pair
    images: int
    judgements: dict[str, Judgement]
    accuracies: tuple[float, float]

    @property
    def equally_accurate(self) -> bool:
        """Within two points."""
        return abs(self.accuracies[0] - self.accuracies[1]) <= 0.02 + 1e-9

    def flagged(self, detector: str) -> bool:
        return self.judgements[detector].flagged

    def score(self, detector: str) -> float:
        return self.judgements[detector].score


def judge_all(
    zoo: Zoo,
    pairs: Sequence[Pair],
    workers: int,
    sizes: Sequence[int] = SIZES,
    known: Known = MappingProxyType({}),
) -> list[Judged]:
    """Every pair with each number of images; ``known`` are the spreads that other families than its own show."""
    work = [(pair, images) for pair in pairs for images in sizes]
    one = partial(judge, zoo, {name: code_of(name) for name in NAMES}, dict(known))
    return list(tqdm(shared_out(one, work, workers), total=len(work), desc="judgements", smoothing=0.05))


def judge(zoo: Zoo, codes: Mapping[str, str], known: Known, work: tuple[Pair, int]) -> Judged:
    """One pair, by every detector whose judgement is not kept or came from other ``codes`` or spreads."""
    pair, images = work
    codes = {**codes, "attrail": code_with(codes["attrail"], known.get(pair.family))}
    path = judgement_path(zoo, pair, images)
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    stale = [name for name, code in codes.items() if kept.get(name, {}).get("code") != code]
    if stale:
        fresh = _fresh(zoo, pair, images, stale, known.get(pair.family))
        kept |= {name: asdict(each) | {"code": codes[name]} for name, each in fresh.items()}
        kept["accuracies"] = _accuracies(zoo, pair, images)
        write_json(path, kept)
    judgements = {name: Judgement(*(kept[name][key] for key in ("score", "flagged", "reason"))) for name in NAMES}
    return Judged(pair, images, judgements, tuple(kept["accuracies"]))


def _fresh(zoo: Zoo, pair: Pair, images: int, names: Sequence[str], spreads: Spreads | None) -> dict[str, Judgement]:
    reference, candidate, head, *floor = (version(zoo, member, pair.slice, images) for member in pair.members)
    audit = Audit(reference, candidate, head, tuple(floor), spreads=spreads)
    found = {}
    for name in names:
        try:
            found[name] = judged(name, audit)
        except AttrailError as error:  # what an audit would stop with is no flag
            found[name] = Judgement(0.0, False, f"error: {error}")
    return found


def _accuracies(zoo: Zoo, pair: Pair, images: int) -> list[float]:
    return [accuracy(version(zoo, member, pair.slice, images)) for member in (pair.champion, pair.candidate)]


def judgement_path(zoo: Zoo, pair: Pair, images: int) -> Path:
    """Where a pair's judgements are kept: it is another one when any of the maps is."""
    evidence = [
        [str(zoo.path(member, base).relative_to(zoo.cache.folder)) for base in bases(pair.slice)]
        for member in pair.members
    ]
    key = digest_of({"evidence": evidence, "slice": pair.slice, "images": images})
    return zoo.cache.folder / "judgements" / f"{key.removeprefix('sha256:')[:32]}.json"


def code_with(code: str, spreads: Spreads | None) -> str:
    """The code of attrail where the spreads are not those of the library."""
    return code if spreads is None else digest_of([code, {name: asdict(each) for name, each in spreads.items()}])


def code_of(detector: str) -> str:
    """What a judgement depends on beside the maps: the baselines' version; for ours the library's code and policy."""
    if detector != "attrail":
        return str(detectors.VERSION)
    for name in statistic_names():
        make_statistic(name)
    for name in decision_statistic_names():
        make_decision_statistic(name)
    modules = sorted((name, each) for name, each in sys.modules.items() if name.startswith("attrail_monitoring"))
    files = [(name, Path(each.__file__ or "")) for name, each in modules]
    measured = [(path.name, path) for path in sorted(Path(factors.__file__).parent.glob("*.toml"))]
    sources = [[name, path.read_text(encoding="utf-8")] for name, path in (*files, *measured)]
    return digest_of({"sources": sources, "policy": Policy().digest, "version": detectors.VERSION})
