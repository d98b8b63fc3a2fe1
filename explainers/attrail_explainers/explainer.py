"""What an explainer is, and how one is found: every file of ``methods/`` is one explainer, under the file's name."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.plugins import Plugins

if TYPE_CHECKING:
    from attrail_explainers.subject import Subject


class Need(StrEnum):
    """What a method asks of a model."""

    FORWARD = "forward"
    GRADIENTS = "gradients"
    LAYER = "layer with places"
    ATTENTION = "attention"
    EXAMPLES = "other images"


class Trait(StrEnum):
    """Where a method's maps differ from the ordinary: signed, of one class, the same whatever the seed."""

    RANDOM = "depends on the seed"
    UNSIGNED = "never negative"
    UNTARGETED = "same for every class"


@dataclass(frozen=True)
class Maps:
    """What an explainer returns for a chunk of images.

    ``values`` (N,H,W) float32; ``undefined`` maps the row of each image that has no map to the reason;
    ``diagnostics`` holds one number per image under each name.
    """

    values: NDArray[np.float32]
    undefined: Mapping[int, str] = field(default_factory=dict)
    diagnostics: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)


class Explainer(Protocol):
    """A method that gives one map per image. Its dataclass fields are its parameters and enter every digest.

    Contracts, held by ``tests/explainers/methods/test_contracts.py`` for every file there is: same seed same bytes;
    one image alone equals the same image in a batch; model and input untouched; a map is finite or declared undefined.
    """

    needs: ClassVar[frozenset[Need]]
    traits: ClassVar[frozenset[Trait]]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def attribute(self, subject: "Subject") -> Maps:
        """Maps of the subject's targets."""
        ...


EXPLAINERS = Plugins("explainer", "attrail_explainers.methods", exported="METHOD")


def explainer_names() -> list[str]:
    """Return the names of all explainers, sorted, as ``explain`` and ``[[explainer]]`` take them.

    They are the names of the files of ``methods/``::

        "gradcam" in explainer_names()
    """
    return EXPLAINERS.names()


def explainer_class(name: str) -> type[Explainer]:
    """The explainer that ``methods/NAME.py`` defines; UnknownNameError lists the known names."""
    method: type[Explainer] = EXPLAINERS.class_of(name)
    return method


def make_explainer(name: str, parameters: Mapping[str, Any] | None = None) -> Explainer:
    """Make the explainer ``name`` with ``parameters``, a frozen dataclass whose fields are all of its parameters.

    Raises UnknownNameError for a name that there is none of, ConfigError for a parameter that the explainer does not
    have or that cannot have this value::

        lime = make_explainer("lime", {"evaluations": 512})
        lime.segments  # its default, 32
    """
    made: Explainer = EXPLAINERS.make(name, parameters)
    return made


def name_of(explainer: Explainer) -> str:
    """Return the name under which an explainer is found: that of its file."""
    return EXPLAINERS.name_of(explainer)


def parameters_of(explainer: Explainer) -> dict[str, Any]:
    """Return an explainer's parameters by name, as they enter digests and records."""
    return EXPLAINERS.parameters_of(explainer)
