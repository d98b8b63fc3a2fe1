"""What an exhibit is, and how one is found: every file of ``exhibits/`` is one, under the file's name.

Exhibits show what is inside a version, or what changed inside between two. They are for people and enter no verdict.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from attrail_explainers.errors import UnknownNameError
from attrail_explainers.plugins import Plugins

if TYPE_CHECKING:
    from attrail_explainers.inspection.view import View

FORMAT = "attrail.exhibit/1"


@dataclass(frozen=True, eq=False)
class Picture:
    """What is drawn: numbers (h,w), pixels (H,W,3) uint8 as they are, or the counts (K,) of a histogram."""

    caption: str
    values: NDArray[Any]


@dataclass(frozen=True, eq=False)
class Panel:
    """Pictures that are looked at side by side, those of numbers on one scale; ``layer`` is where they belong."""

    layer: str
    title: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, eq=False)
class Shown:
    """What an exhibit found.

    ``rows`` are those of its table, each of plain JSON values; a cell that differs by version is a mapping from
    the version's role to its value. ``bars`` names the columns that are drawn as bars. ``arrays`` holds every number
    that was measured, under names such as "candidate/features.0/mean". ``notes`` are sentences that stand before the
    table. Where the exhibit does not apply to a version, ``absent`` says why, and there is nothing else.
    """

    rows: tuple[Mapping[str, Any], ...] = ()
    bars: tuple[str, ...] = ()
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    panels: tuple[Panel, ...] = ()
    notes: tuple[str, ...] = ()
    absent: str | None = None

    def document(self) -> dict[str, Any]:
        """Rows and sentences as strict JSON values; numbers that are not finite are None."""
        kept = {"rows": plain(self.rows), "notes": list(self.notes)} if self.absent is None else {"absent": self.absent}
        return {"format": FORMAT, **kept}


class Exhibit(Protocol):
    """Something that is shown of one version, or of two beside each other. Its dataclass fields are its parameters.

    Contracts, held by ``tests/explainers/exhibits`` for every file of ``exhibits/``: same seed same bytes; model and
    images untouched; works on eager modules and on exported programs; raises UnsupportedModelError, one sentence, where
    it does not apply.
    """

    title: ClassVar[str]
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]

    def show(self, view: "View") -> Shown:
        """What is to be seen of the view's versions."""
        ...


EXHIBITS = Plugins("exhibit", "attrail_explainers.exhibits", exported="EXHIBIT")


def exhibit_names() -> list[str]:
    """Return the names of all exhibits, sorted, as ``look_inside`` and ``attrail inspect`` take them.

    They are the names of the files of ``exhibits/``::

        "structure" in exhibit_names()
    """
    return EXHIBITS.names()


def make_exhibit(name: str, parameters: Mapping[str, Any] | None = None) -> Exhibit:
    """The exhibit ``name`` with ``parameters``; UnknownNameError and ConfigError as ``make_explainer`` raises them."""
    made: Exhibit = EXHIBITS.make(name, parameters)
    return made


def chosen_exhibits(names: Sequence[str] = ()) -> list[str]:
    """The names of exhibits as they are shown, all there are when none is given, structure first; UnknownNameError."""
    known = exhibit_names()
    for name in names:
        if name not in known:
            raise UnknownNameError.of("exhibit", name, known)
    return list(dict.fromkeys(names)) or sorted(known, key=lambda name: (name != "structure", name))


def plain(value: Any) -> Any:
    """A value as strict JSON has it: arrays and tuples as lists, numbers that are not finite as None."""
    if isinstance(value, Mapping):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, np.ndarray | tuple | list):
        return [plain(each) for each in value]
    value = value.item() if isinstance(value, np.generic) else value
    return None if isinstance(value, float) and not np.isfinite(value) else value
