"""What a logged model says of its own preprocessing."""

from collections.abc import Mapping
from typing import Any

from attrail_explainers.errors import ConfigError
from attrail_explainers.images import timm_preprocessing
from attrail_explainers.slice import Preprocessing


def stated_preprocessing(facts: Mapping[str, Any]) -> Preprocessing | None:
    """The preprocessing that ``log_classifier`` wrote down, else that of the timm model it names, else None."""
    stated = facts.get("preprocessing")
    if stated:
        return preprocessing_from(stated)
    return timm_preprocessing(facts["timm_model"]) if facts.get("timm_model") else None


def preprocessing_from(stated: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing in a table of plain values; ConfigError for an entry it does not have, or lacks."""
    values: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in stated.items()}
    try:
        return Preprocessing(**values)
    except TypeError as error:
        raise ConfigError(f"preprocessing takes size, mean, std, interpolation and crop: {error}") from error
