"""Seal: which files an exported bundle holds beside the run's own."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from attrail_mlflow.signing.fields import Reader, digest, mapped, moment, text
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.statements.predicate import Predicate, bare


@dataclass(frozen=True)
class Seal(Predicate):
    """That a bundle of run ``run_id`` holds just ``files`` (name to SHA-256) beside those the run's manifest lists."""

    KIND: ClassVar[Kind] = Kind.BUNDLE
    FIELDS: ClassVar[Mapping[str, Reader[Any]]] = {"issued": moment, "run_id": text, "files": mapped(digest)}

    run_id: str
    files: Mapping[str, str]

    def subjects(self) -> Mapping[str, Mapping[str, str]]:
        """The sealed files, with their digests by algorithm."""
        return {name: {"sha256": bare(found)} for name, found in self.files.items()}
