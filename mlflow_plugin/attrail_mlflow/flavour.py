"""What a flavour of MLflow is here, and how one is found: every file of ``flavours/`` is one, under the file's name.

A flavour's own section in MLmodel may be shared by several files, which differ in what the model is kept as.
"""

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from attrail_explainers.plugins import Plugins

if TYPE_CHECKING:
    from attrail_explainers.model.classifier import Classifier
    from attrail_explainers.model_files.export_archive import ArchivedState


class Flavour(Protocol):
    """A way in which MLflow keeps an image model: which files it has, and how they become a ``Classifier``.

    ``name`` is its section in MLmodel's ``flavors`` and ``title`` that in words, ``keys`` are all that the section may
    hold, ``data_key`` the one that names the model's file or folder beside MLmodel, ``loader`` the module by which
    MLflow's python_function loads it and ``pyfunc_data`` whether that names the same file or folder. ``runs_code`` says
    whether loading could run code that came with the model: then a policy must allow pickles. ``log_again`` is the
    advice for a model of this flavour that cannot be taken as it was logged. Contracts, held by
    ``tests/mlflow_plugin/flavours/test_flavours.py`` for every file there is: a file beside those named here is
    refused, so is a lacking one; nothing of the model is loaded to find that out.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    keys: ClassVar[frozenset[str]]
    data_key: ClassVar[str]
    loader: ClassVar[str]
    pyfunc_data: ClassVar[bool]
    runs_code: ClassVar[bool]
    log_again: ClassVar[str]
    members: ClassVar[tuple[str, ...]]
    """Every file there must be, beside MLmodel, where ``{data}`` stands for what ``data_key`` names; the first is the
    model itself, which no other file of ``flavours/`` has."""
    describing: ClassVar[tuple[str, ...]]
    """Small files, written likewise, that ``facts`` are read from."""

    def may_have(self, name: str, data: str) -> bool:
        """Whether a file that is no member, by its name with slashes, may be there."""
        ...

    def require_known(self, folder: Path, data: str, what: str) -> None:
        """Raise RegistryError, which names the model as ``what``, for what its files say of themselves; loads none."""
        ...

    def inside(self, names: Collection[str]) -> Mapping[str, str]:
        """Models among the names, with slashes, of files that somebody's own code wraps, of which loading runs none.

        Each one's own file, and what ``data`` is for it.
        """
        ...

    def facts(self, folder: Path, data: str, what: str) -> Mapping[str, Any]:
        """What the files of ``describing`` that are there say, as ``log_classifier`` would write it: "preprocessing"
        (``Preprocessing``'s fields) and "classes" (names in the order of the outputs); nothing where they do not.

        Raises RegistryError, which names the model as ``what``, for a file that is not as it must be.
        """
        ...

    def state(self, model: Path, label: str) -> "ArchivedState | None":
        """The model's tensors by name, type and shape, and their digest; None where only loading it would tell."""
        ...

    def classifier(self, model: Path, name: str, version: str) -> "Classifier":
        """The classifier of a model's own file in a checked folder; torch is imported here, not with the module."""
        ...


FLAVOURS = Plugins("flavour", "attrail_mlflow.flavours", exported="FLAVOUR")


def flavours() -> list[Flavour]:
    """All flavours, sorted by the names of their files."""
    return [FLAVOURS.class_of(name)() for name in FLAVOURS.names()]


def flavour_among(files: Iterable[str], section: str, data: str) -> Flavour:
    """The flavour of MLmodel's ``section`` that the names of a model's files speak of.

    Where there are the models of several, the one that can run code: nothing passes for harmless because a harmless
    file lies beside it. Where there is none, one that runs none, so that its file is what is lacking.
    """
    known = [each for each in flavours() if each.name == section]
    there = [each for each in known if named(each.members[0], data) in files]
    return max(there, key=lambda each: each.runs_code) if there else min(known, key=lambda each: each.runs_code)


def named(member: str, data: str) -> str:
    """The name beside MLmodel of one of a flavour's ``members``."""
    return member.replace("{data}", data)
