"""The tables of the configuration file, each with its keys and the values that they may have."""

from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from attrail_explainers.errors import ConfigError
from attrail_explainers.explainer import Explainer, make_explainer
from attrail_explainers.files.orientation import Orientation
from attrail_explainers.model.task import Task, make_task
from attrail_explainers.slice import CropMode, Preprocessing
from attrail_monitoring.floor.noise_floor import Surrogates
from attrail_monitoring.maps.settings import Settings
from attrail_monitoring.verdict.policy import Policy

Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]+$", max_length=60)]
Version = Annotated[str, BeforeValidator(lambda given: str(given) if type(given) is int else given)]  # 7 as "7"
Change = Literal["same-function", "edit", "fine-tune", "retrain", "refresh", "architecture"]
Whole = Annotated[int, Field(strict=True, gt=0)]  # true is no number, and "16" and 16.0 are no whole ones
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Flag = Annotated[bool, Field(strict=True)]  # 1 and "yes" are neither true nor false
EXPLAINERS = ("gradcam", "shap", "lime")
FloorWord = Literal["history", "retrains"]
A_LIST, A_WORD = "<list>", "<word>"  # pydantic puts them into a key's place; no user knows them


def _floor_word(given: Any) -> Any:
    if given not in get_args(FloorWord):
        raise PydanticCustomError("floor", "Input should be a list of versions, 'history' or 'retrains'")
    return given


Floor = Annotated[
    Annotated[tuple[Version, ...], Tag(A_LIST)] | Annotated[FloorWord, BeforeValidator(_floor_word), Tag(A_WORD)],
    Discriminator(lambda given: A_WORD if isinstance(given, str) else A_LIST),
]


class Section(BaseModel):
    """A table of the file; a key that is not known is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RegistrySection(Section):
    """Which versions are compared. ``reference``, ``candidate`` and those of ``floor``: alias, version or models:/ URI.

    ``floor`` "history": earlier versions of the same recipe, once somebody chose them; "retrains": those that
    ``attrail retrain`` made of the reference. ``floor_source`` says what listed versions are; "surrogates" are of
    a kind that ``make zoo`` does not measure.
    """

    tracking_uri: str | None = None
    model: str
    reference: Version = "champion"
    candidate: Version | None = None
    change: Change = "retrain"
    floor: Floor = ()
    floor_source: Literal["retrains", "history", "surrogates", Surrogates] = "retrains"
    experiment: str = "attrail"


class SliceSection(Section):
    """A validation slice: a csv or parquet table with columns image and label, or a folder of class folders.

    ``coco`` names a file in COCO's format with the boxes of its images, for the task detection.
    """

    name: Name
    source: Path
    coco: Path | None = None
    where: str | None = None
    limit: Whole | None = None


class PreprocessingSection(Section):
    """How images become model inputs; ``size`` is (height, width), ``mean`` and ``std`` are on the 0..1 scale.

    ``orientation`` "exif" turns images and masks upright as their files say, "stored" does not. ``crop`` and
    ``crop_mode`` are timm's ``crop_pct`` and ``crop_mode``.
    """

    size: tuple[Whole, Whole]
    mean: tuple[Number, ...]
    std: tuple[Annotated[Number, Field(gt=0)], ...]
    interpolation: str = "bilinear"
    crop: Annotated[Number, Field(gt=0, le=1)] = 1.0
    orientation: Orientation = "exif"
    crop_mode: CropMode = "center"

    def to_preprocessing(self) -> Preprocessing:
        if len(self.mean) != len(self.std):
            raise ConfigError("[preprocessing] mean and std must have one number per channel each")
        return Preprocessing(**self.model_dump())


class ExplainerSection(Section):
    """An explainer by name; every other key is one of its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def to_explainer(self) -> Explainer:
        return make_explainer(self.name, self.model_extra)


class TaskSection(Section):
    """What is asked of the models: a task by name; every other key is one of its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def to_task(self) -> Task:
        return make_task(self.name, self.model_extra)


class PolicySection(Section):
    """What counts as drift; keys and defaults are those of ``Policy`` and ``Settings``."""

    alpha: Number = Policy.alpha
    strict: Number = Policy.strict
    class_share: Number = Policy.class_share
    together_share: Number = Policy.together_share
    moved_share: Number = Policy.moved_share
    decision_share: Number = Policy.decision_share
    moved_margin: Number = Policy.moved_margin
    accuracy_margin: Number = Policy.accuracy_margin
    churn_margin: Number = Policy.churn_margin
    calibration_margin: Number = Policy.calibration_margin
    margins: dict[str, Number] = Field(default_factory=lambda: dict(Policy().margins))
    undefined_limit: Number = Policy.undefined_limit
    fewest_images: Whole = Policy.fewest_images
    repeat_limit: Number = Policy.repeat_limit
    targets: Literal["label", "reference"] = Policy.targets
    margins_decide: Flag = Policy.margins_decide
    looks: tuple[Whole, ...] = Policy.looks
    grid: Whole = Settings.grid
    resamples: Whole = Settings.resamples
    confidence: Annotated[Number, Field(gt=0, lt=1)] = Settings.confidence
    seed: Annotated[int, Field(strict=True, ge=0)] = Settings.seed
    class_images: Whole = Settings.class_images
    allow_pickle: Flag = False

    def to_policy(self) -> Policy:
        measuring = set(Settings.__dataclass_fields__)
        facts = self.model_dump(exclude={"allow_pickle"})
        settings = Settings(**{key: facts.pop(key) for key in list(facts) if key in measuring})
        return Policy(settings=settings, **facts)


class RunSection(Section):
    """Where and how it is computed; no fact about the result. ``workers``: None is one thread, else one per processor.

    ``runner`` "auto": processes where they are worth their start, else one thread; a script that calls a flow so needs
    the ``if __name__ == "__main__"`` of every program that starts processes. ``address`` of a Ray or Dask cluster that
    is there already; ``fresh`` computes anew what is kept; ``gpus`` is what one worker takes of them: 0.5 lets two
    workers share one, 0 takes none.
    """

    runner: Literal["auto", "threads", "processes", "ray", "dask"] = "threads"
    workers: Whole | None = None
    address: str | None = None
    fresh: Flag = False
    gpus: Annotated[Number, Field(ge=0)] = 0.0


class SequenceSection(Section):
    """Scheduled audits that count together: their ``name``, and which explainer's maps of which slice are counted.

    ``restart`` begins anew and says why.
    """

    name: Name
    slice: str
    explainer: str
    restart: str | None = None


class RecipeSection(Section):
    """How the reference was trained, so that ``attrail retrain`` can train it again with other seeds.

    ``train`` names a function of a file in ``folder``, "module:function"; ``first_seed`` is the first that it is given.
    """

    train: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*$")]
    folder: Path = Path()
    first_seed: Annotated[int, Field(strict=True, ge=0, lt=2**31)] = 1
