"""The configuration file: the one door where text becomes values, and every key is checked by name."""

from pathlib import Path
from typing import Any

from pydantic import ConfigDict, Field, ValidationError

from attrail_explainers.errors import ConfigError, UnknownNameError
from attrail_explainers.files.plain_file import read_toml
from attrail_explainers.model.task import SINGLE_LABEL
from attrail_flows.sections import (
    A_LIST,
    A_WORD,
    EXPLAINERS,
    ExplainerSection,
    PolicySection,
    PreprocessingSection,
    RecipeSection,
    RegistrySection,
    RunSection,
    Section,
    SequenceSection,
    SliceSection,
    TaskSection,
)
from attrail_monitoring.maps.statistic import statistic_names


class AuditConfig(Section):
    """Everything one audit needs to know: what ``read_config`` finds in an attrail.toml, and every flow takes.

    Copies of it differ in one thing: ``config.with_candidate("8")``, ``config.run_with(workers=4)``::

        AuditConfig.model_validate({"registry": {"model": "digits"}, "slice": [{"name": "all", "source": "all.csv"}]})
    """

    registry: RegistrySection
    slices: tuple[SliceSection, ...] = Field(alias="slice", min_length=1)
    preprocessing: PreprocessingSection | None = None
    task: TaskSection = Field(default_factory=lambda: TaskSection(name=SINGLE_LABEL))
    explainers: tuple[ExplainerSection, ...] = Field(
        alias="explainer", default_factory=lambda: tuple(ExplainerSection(name=name) for name in EXPLAINERS)
    )
    policy: PolicySection = Field(default_factory=PolicySection)
    run: RunSection = Field(default_factory=RunSection)
    sequence: SequenceSection | None = None
    recipe: RecipeSection | None = None
    rules: tuple[dict[str, Any], ...] = Field(alias="rule", default=())

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    def with_candidate(self, candidate: str | None) -> "AuditConfig":
        """A copy of the configuration with another candidate, unless None."""
        if candidate is None:
            return self
        return self.model_copy(update={"registry": self.registry.model_copy(update={"candidate": candidate})})

    def between(self, model: str, reference: str, candidate: str | None) -> "AuditConfig":
        """A copy for another model, reference and candidate.

        Listed versions of another model are no floor of it, and another model's recipe is none of its own.
        """
        given, same = self.registry.floor, model == self.registry.model
        floor = given if same or given == "history" else ()
        chosen = {"model": model, "reference": reference, "candidate": candidate, "floor": floor}
        registry = self.registry.model_copy(update=chosen)
        return self.model_copy(update={"registry": registry, "recipe": self.recipe if same else None})

    def run_with(self, runner: str | None = None, workers: int | None = None, fresh: bool = False) -> "AuditConfig":
        """A copy that is computed in another way: on ``runner``, by ``workers``, or all of it anew, if they say so."""
        given = {"runner": runner, "workers": workers, "fresh": fresh}
        section = self.run.model_copy(update={key: value for key, value in given.items() if value})
        return self.model_copy(update={"run": section})

    def run_by_command(
        self, runner: str | None = None, workers: int | None = None, fresh: bool = False
    ) -> "AuditConfig":
        """A copy as ``run_with`` makes it, whose runner is "auto" where nobody names one.

        A command may start processes, a call of Python may not.
        """
        unnamed = runner is None and "runner" not in self.run.model_fields_set
        return self.run_with("auto" if unnamed else runner, workers, fresh)

    def of_predictions(self) -> "AuditConfig":
        """A copy whose maps are for the classes that are predicted: production images have no labels yet."""
        return self.model_copy(update={"policy": self.policy.model_copy(update={"targets": "reference"})})

    def narrowed(self, explainer: str, *slices: str) -> "AuditConfig":
        """A copy with these slices and one explainer alone; an explainer that is not configured has its defaults.

        Raises UnknownNameError.
        """
        configured = {each.name: each for each in self.explainers}
        section = configured.get(explainer) or ExplainerSection(name=explainer)
        section.to_explainer()
        return self.with_slices(*slices).model_copy(update={"explainers": (section,)})

    def with_slices(self, *names: str) -> "AuditConfig":
        """A copy with these slices alone; UnknownNameError for one that there is none of."""
        known = {each.name: each for each in self.slices}
        for name in names:
            if name not in known:
                raise UnknownNameError.of("slice", name, known)
        return self.model_copy(update={"slices": tuple(known[name] for name in names)})


def read_config(path: Path, reference: str | None = None, candidate: str | None = None) -> AuditConfig:
    """Return the configuration in a TOML file, with ``reference`` and ``candidate`` put over the file's, where given.

    Relative paths, an SQLite file's among them, are relative to the configuration file. Raises ConfigError naming
    the file and the first key that is wrong::

        config = read_config(Path("attrail.toml"), candidate="8")
    """
    document = _read(path, "configuration")
    if isinstance(document.get("policy"), str):  # a file of its own, for those who own the policy but not the audit
        document["policy"] = _read(path.resolve().parent / document["policy"], "policy")
    registry = document.get("registry")
    if isinstance(registry, dict):
        registry |= {key: value for key, value in (("reference", reference), ("candidate", candidate)) if value}
    try:
        config = AuditConfig.model_validate(document)
    except ValidationError as error:
        raise ConfigError(f"configuration {path}: {_first(error)}") from error
    _require_different_names(path, config)
    _require_known_subject(path, config)
    _require_one_source(path, config.registry)
    config.policy.to_policy()
    config.task.to_task()
    for explainer in config.explainers:
        explainer.to_explainer()
    if config.rules:
        _require_rules(config)
    return _anchored(config, path.resolve().parent)


def _require_rules(config: AuditConfig) -> None:
    """Rules that can be held: known kinds and keys, about what the audit measures."""
    from attrail_monitoring.expectations.rule_tables import rules_of  # noqa: PLC0415 - it loads Great Expectations

    known = {
        "slice": [each.name for each in config.slices],
        "explainer": [each.name for each in config.explainers],
        "statistic": statistic_names(),
    }
    rules_of(config.rules, known)


def _read(path: Path, what: str) -> dict[str, Any]:
    try:
        return read_toml(path)
    except (OSError, ValueError) as error:
        other = "; give --config with another file" if what == "configuration" and not path.exists() else ""
        raise ConfigError(f"{what} {path} cannot be read: {error}{other}") from error


def _first(error: ValidationError) -> str:
    """The first thing pydantic found wrong, in one sentence."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"] if part not in (A_LIST, A_WORD))
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; remove it or correct its name"
    if first["type"] == "missing":
        return f"key {key!r} is missing"
    if first["type"] == "tuple_type" and isinstance(first["input"], dict):
        return f"there may be several tables {key!r}: write [[{key}]] instead of [{key}]"
    if first["type"] == "model_type" and isinstance(first["input"], list):
        return f"there is one table {key!r}: write [{key}] instead of [[{key}]]"
    return f"key {key!r}: {first['msg']}, got {first['input']!r}"


def _require_different_names(path: Path, config: AuditConfig) -> None:
    for kind, names in (
        ("slice", [each.name for each in config.slices]),
        ("explainer", [each.name for each in config.explainers]),
    ):
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"configuration {path}: two [[{kind}]] tables have the name {min(twice)!r}")


def _require_known_subject(path: Path, config: AuditConfig) -> None:
    """The sequence counts maps that the audit makes."""
    if config.sequence is None:
        return
    for key, known in (("slice", config.slices), ("explainer", config.explainers)):
        names = [each.name for each in known]
        if getattr(config.sequence, key) not in names:
            raise ConfigError(
                f"configuration {path}: key 'sequence.{key}': there is no {key} "
                f"{getattr(config.sequence, key)!r} in this file, there are {', '.join(names)}"
            )


def _require_one_source(path: Path, section: RegistrySection) -> None:
    """A word for a floor says what its versions are, and nothing else may."""
    stated = section.floor_source if "floor_source" in section.model_fields_set else section.floor
    if isinstance(section.floor, str) and stated != section.floor:
        raise ConfigError(
            f"configuration {path}: registry.floor = {section.floor!r} says already what its versions are, "
            f"registry.floor_source says {stated!r}: remove floor_source"
        )


def _anchored(config: AuditConfig, folder: Path) -> AuditConfig:
    """The configuration with absolute paths, so that it means the same wherever the flow runs on this machine."""
    slices = tuple(_anchored_slice(each, folder) for each in config.slices)
    updates: dict[str, Any] = {"slices": slices}
    if config.recipe is not None:
        updates["recipe"] = config.recipe.model_copy(update={"folder": folder / config.recipe.folder})
    uri = config.registry.tracking_uri
    if uri and uri.startswith("sqlite:///"):
        database = folder / uri.removeprefix("sqlite:///")
        updates["registry"] = config.registry.model_copy(update={"tracking_uri": f"sqlite:///{database}"})
    return config.model_copy(update=updates)


def _anchored_slice(section: SliceSection, folder: Path) -> SliceSection:
    coco = None if section.coco is None else folder / section.coco
    return section.model_copy(update={"source": folder / section.source, "coco": coco})
