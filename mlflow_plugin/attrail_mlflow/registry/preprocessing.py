"""What a logged model says of its own preprocessing."""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from attrail_explainers.errors import ConfigError
from attrail_explainers.slice import Preprocessing
from attrail_mlflow.registry.registry import RegisteredVersion


def stated_preprocessing(version: RegisteredVersion) -> Preprocessing | None:
    """The preprocessing that ``log_classifier`` wrote down, else that of the timm model it names, else None."""
    stated = version.facts.get("preprocessing")
    if stated:
        where = f"the preprocessing that {version.label} was logged with"
        return preprocessing_from(stated, where, "log it again with log_classifier, or set [preprocessing]")
    timm_model = version.facts.get("timm_model")
    if not timm_model:
        return None
    from attrail_explainers.images import timm_preprocessing  # noqa: PLC0415 - it loads timm

    return timm_preprocessing(timm_model)


def preprocessing_from(stated: Any, where: str, remedy: str) -> Preprocessing:
    """The preprocessing in a table of plain values; ConfigError names ``where``, the key that is wrong, the remedy."""
    if not isinstance(stated, Mapping):
        raise ConfigError(f"{where} is {type(stated).__name__}, expected a table of size, mean and std; {remedy}")
    known = {each.name: each.default is MISSING for each in fields(Preprocessing)}
    for key in stated:
        if key not in known:
            raise ConfigError(f"{where}: unknown key {key!r}, preprocessing takes {', '.join(known)}; {remedy}")
    for key, needed in known.items():
        if needed and key not in stated:
            raise ConfigError(f"{where} lacks the key {key!r}; {remedy}")
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()}
    try:
        return Preprocessing(**values)
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"{where}: {error}; {remedy}") from error
