"""Policy: every threshold there is; ``judgement`` alone reads them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal

from attrail_explainers.digest import digest_of
from attrail_explainers.errors import ConfigError, UnknownNameError
from attrail_explainers.parameters import plain, require_choice, require_number, require_share, require_whole, settle
from attrail_monitoring.floor.noise_floor import NoiseFloor
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.maps.statistic import make_statistic, statistic_names

# the last is about what one cell of a 14 x 14 grid has of evidence that lies evenly
MARGINS = {"coherent_shift": 0.05, "rank_distance": 0.05, "peak_shift": 0.005}
DECISION_MARGINS = ("accuracy_margin", "churn_margin", "calibration_margin")


@dataclass(frozen=True)
class Policy:
    """What counts as drift, fixed before the run.

    ``alpha`` is the chance of a false flag the whole audit may take. ``decision_share`` of it goes to decisions, where
    they are known, the rest to evidence: ``moved_share`` of that to single images that moved and, where there are two
    explainers or more, ``together_share`` to what they see together. Of what is left, ``class_share`` goes to
    hypotheses about single classes, the rest to the primary hypotheses of each explainer; decisions share theirs with
    single classes likewise. Within each family it is shared by Holm's method, among many class hypotheses by e-BH.
    ``margins`` is, per statistic, a distance too small to matter; the noise floor's bound is used where it is larger.
    ``accuracy_margin``, ``churn_margin`` and ``calibration_margin``, 0..1, are the same for a loss of accuracy, the
    share of changed predictions and a rise of the calibration error. ``moved_margin`` is the share of an image's
    evidence that may leave what reference and retrains show. ``strict`` times alpha is the level at which one explainer
    alone blocks, or a loss of accuracy without a floor.
    ``undefined_limit`` is the share of images without a map, and ``fewest_images`` the number of images, beyond and
    below which nothing can be concluded. ``repeat_limit`` is the share of the floor by which an explainer's own draws
    may change a distance. ``targets`` is the class explained: the slice's "label" or the "reference" version's own top
    class. ``margins_decide`` lets a move be DRIFT where no noise floor may decide, although honest retrains move
    further than any small margin. ``looks`` are numbers of images after which an audit stops if it knows by then
    (``looks.planned_looks``). Raises ConfigError for a value that cannot be, UnknownNameError for a margin of an
    unknown statistic::

        compare(champion_maps, candidate_maps, retrain_maps, Policy(alpha=0.01, fewest_images=64))
    """

    alpha: float = 0.05
    strict: float = 0.1
    class_share: float = 0.2
    together_share: float = 0.4
    moved_share: float = 0.4
    margins: Mapping[str, float] = field(default_factory=lambda: dict(MARGINS))
    moved_margin: float = 0.05
    undefined_limit: float = 0.05
    fewest_images: int = 16
    repeat_limit: float = 0.1
    targets: Literal["label", "reference"] = "label"
    margins_decide: bool = False
    looks: tuple[int, ...] = ()
    settings: Settings = field(default_factory=Settings)
    decision_share: float = 0.2
    accuracy_margin: float = 0.02
    churn_margin: float = 0.1
    calibration_margin: float = 0.05

    def __post_init__(self) -> None:
        for name in ("alpha", "strict", "class_share", "together_share", "moved_share", "decision_share"):
            require_share(f"policy: {name}", getattr(self, name))
        if self.together_share + self.moved_share >= 1:
            given = f"{self.together_share} + {self.moved_share}"
            raise ConfigError(f"policy: together_share and moved_share must leave some of alpha, got {given}")
        for name in ("moved_margin", *DECISION_MARGINS, "undefined_limit", "repeat_limit"):
            require_number(f"policy: {name}", getattr(self, name), "lie in 0..1", lambda share: 0 <= share <= 1)
        require_whole("policy: fewest_images", self.fewest_images, 0)
        if not isinstance(self.margins_decide, bool):
            raise ConfigError(f"policy: margins_decide must be true or false, not {self.margins_decide!r}")
        _require_looks(self.looks)
        require_choice("policy: targets", self.targets, ("label", "reference"))
        if not isinstance(self.margins, Mapping):
            raise ConfigError(f"policy: margins must give a distance for each statistic by name, not {self.margins!r}")
        for statistic, margin in self.margins.items():
            _require_margin(statistic, margin)
        if not isinstance(self.settings, Settings):
            raise ConfigError(f"policy: settings must be Settings, not {self.settings!r}")
        settle(self)
        object.__setattr__(self, "looks", tuple(plain(each) for each in self.looks))
        object.__setattr__(self, "margins", {statistic: plain(margin) for statistic, margin in self.margins.items()})

    @property
    def digest(self) -> str:
        """The digest of every value of the policy: two policies are one when it is equal."""
        return digest_of(asdict(self))

    def may_flag(self, floor: NoiseFloor) -> bool:
        """Whether a move beyond limits that stand on this floor may be called DRIFT."""
        return floor.may_flag or (self.margins_decide and floor.tier != "D")

    def level(self, hypotheses: int, together: bool = False, moved: bool = False, decided: bool = False) -> float:
        """The primary hypotheses' alpha divided by their number (Bonferroni): the level of the bounds shown.

        ``together``, ``moved`` and ``decided`` say whether the audit has hypotheses of what explainers see together,
        of single images and of decisions too.
        """
        return self.apart(together, moved, decided) * (1 - self.class_share) / max(1, hypotheses)

    def apart(self, together: bool, moved: bool, decided: bool = False) -> float:
        """What is left of alpha for each explainer by itself."""
        return self.evidence(decided) * (1 - self.together_share * together - self.moved_share * moved)

    def evidence(self, decided: bool) -> float:
        """What is left of alpha for evidence, where decisions have their share."""
        return self.alpha * (1 - self.decision_share * decided)

    def decision_margin(self, key: str) -> float:
        """The margin of a statistic of decisions that names this key, 0 where it names none."""
        return float(getattr(self, key)) if key else 0.0


def _require_looks(looks: object) -> None:
    if not isinstance(looks, Sequence) or isinstance(looks, str):
        raise ConfigError(f"policy: looks must be a list of numbers of images, not {looks!r}")
    for each in looks:
        require_whole("policy: looks", each, 1)
    if sorted(set(looks)) != list(looks):
        raise ConfigError(f"policy: looks must be numbers of images that grow, got {list(looks)}")


def _require_margin(statistic: str, margin: object) -> None:
    if statistic not in statistic_names():
        raise UnknownNameError.of("statistic in policy margins", statistic, statistic_names())
    most = make_statistic(statistic).upper
    wanted = f"lie in 0..{most:g}"
    require_number(f"policy: the margin of {statistic}", margin, wanted, lambda distance: 0 <= distance <= most)
