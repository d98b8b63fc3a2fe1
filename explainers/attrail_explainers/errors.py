"""Errors attrail raises on purpose, each one sentence: what was expected, what came, what to do.

::

    AttrailError
    ├── ConfigError             the configuration or an argument is wrong
    │   └── UnknownNameError    a name that is not in the list of known names
    ├── SliceError              a validation slice cannot be used: table, file, label, pixels
    ├── UnsupportedModelError   the model lacks what an explainer needs
    ├── ExplanationError        the model or an explainer produced something unusable
    ├── IncomparableError       two sets of attributions that must not be compared
    ├── RegistryError           MLflow: unknown version, unreachable server, unreadable model
    ├── RecordError             the evidence of an audit could not be kept
    ├── EvidenceError           kept evidence is incomplete, altered, or cannot be read
    └── GateRefusal             a statement does not let a model version through, with a machine-readable reason
"""

from collections.abc import Iterable


class AttrailError(Exception):
    """Base of every error that a user of attrail can cause or mend; its text is one sentence that says how.

    ::

        try:
            maps = explain(model, images, targets, explainer="lime")
        except AttrailError as error:
            print(f"not explained: {error}")
    """


class ConfigError(AttrailError):
    """The configuration or an argument is wrong."""


class UnknownNameError(ConfigError):
    """A name that is not in the list of known names; the message lists them."""

    @classmethod
    def of(cls, kind: str, name: str, known: Iterable[str]) -> "UnknownNameError":
        """Return the error for a ``name`` of a ``kind`` that is not among the ``known`` ones, which it lists."""
        return cls(f"unknown {kind} {name!r}: known are {', '.join(sorted(known))}")


class SliceError(AttrailError):
    """A validation slice cannot be used."""


class UnsupportedModelError(AttrailError):
    """The model lacks what an explainer needs."""


class ExplanationError(AttrailError):
    """The model or an explainer produced something unusable."""


class TrainingError(AttrailError):
    """The code of a recipe failed with one seed; another seed may not."""


class IncomparableError(AttrailError):
    """Two sets of attributions that must not be compared."""


class RegistryError(AttrailError):
    """MLflow cannot give the model version; ``transient`` says whether trying again may help."""

    def __init__(self, message: str, *, transient: bool = False) -> None:
        super().__init__(message)
        self.transient = transient


class RecordError(AttrailError):
    """The evidence of an audit could not be kept."""


class EvidenceError(AttrailError):
    """Kept evidence is incomplete, altered, or cannot be read; the message names the first thing that is wrong."""


class GateRefusal(AttrailError):  # noqa: N818 - a refusal is the gate doing its work
    """A statement does not let a model version through; ``reason``: see ``attrail_mlflow.signing.refusal``."""

    def __init__(self, message: str, reason: str) -> None:
        super().__init__(message)
        self.reason = reason
