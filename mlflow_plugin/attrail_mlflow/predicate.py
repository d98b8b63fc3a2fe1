"""Predicate: what every kind of signed statement has in common."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, ClassVar

from attrail_explainers.errors import EvidenceError
from attrail_mlflow.fields import Reader, digest, mapped, optional, plain, text, with_fields
from attrail_mlflow.folder_digest import digest_of_files

LONGEST_LIST = 8000  # characters of a model's listed files: a statement lists them three times and must fit into a tag


class Kind(StrEnum):
    """What a signature stands for, and so what a key may be trusted to sign; a journal's records are no statements."""

    VERDICT = "verdict"
    BASELINE = "baseline"
    WAIVER = "waiver"
    BUNDLE = "bundle"
    JOURNAL = "journal"

    @property
    def predicate_type(self) -> str:
        """The in-toto predicate type; ``v1`` is part of the format and never changes its meaning."""
        return f"https://attrail.dev/{self.value}/v1"


@dataclass(frozen=True)
class Predicate:
    """Base of the statements: a frozen dataclass whose fields are the predicate's keys.

    ``FIELDS`` reads them back; ``subjects`` are the things the statement is about, with their digests by algorithm.
    """

    KIND: ClassVar[Kind]
    FIELDS: ClassVar[Mapping[str, Reader[Any]]]

    issued: datetime

    def subjects(self) -> Mapping[str, Mapping[str, str]]:
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """The predicate as JSON values; a model's files only where they are known."""
        found: dict[str, Any] = plain(asdict(self))
        for model in found.values():
            if isinstance(model, dict) and model.get("files", ...) is None:
                del model["files"]
        return found


@dataclass(frozen=True)
class ModelIdentity:
    """A model version bound to its bytes: by name and version alone it could be deleted and registered anew.

    ``source`` is the registry's, immutable; ``artifact_digest`` is ``folder_digest.digest_folder`` of the model's
    files; ``weights_digest`` that of the loaded weights, None where nobody loaded them. ``files`` are the SHA-256 of
    each file by its name, which ``artifact_digest`` sums up; None where they are not listed.
    """

    name: str
    version: str
    source: str
    artifact_digest: str
    weights_digest: str | None = None
    files: Mapping[str, str] | None = field(default=None, compare=False, repr=False)

    def __post_init__(self) -> None:
        if self.files is not None and digest_of_files(self.files) != self.artifact_digest:
            raise EvidenceError(f"the files listed for {self.label} are not those of its digest {self.artifact_digest}")

    def listing(self, files: Mapping[str, str]) -> "ModelIdentity":
        """The same with these files' digests, and without a list of them where it would be too long for a statement."""
        short = sum(len(name) + len(found) for name, found in files.items()) <= LONGEST_LIST
        return replace(self, artifact_digest=digest_of_files(files), files=files if short else None)

    @property
    def label(self) -> str:
        return f"{self.name}/{self.version}"

    def subject(self) -> dict[str, dict[str, str]]:
        """The version as subjects of an in-toto statement.

        Where its files are listed, that is each of them, as ``sha256sum`` prints it, so that any verifier can hold a
        file against the statement; and the version itself, by the SHA-256 of their list (``digest_of_files``). Else,
        as in older statements, the version under names of algorithms that only attrail knows.
        """
        if self.files is not None:
            named = {f"models:/{self.label}": self.artifact_digest}
            named |= {f"models:/{self.label}/{name}": found for name, found in self.files.items()}
            return {name: {"sha256": bare(found)} for name, found in named.items()}
        digests = {"attrailFiles": self.artifact_digest, "attrailWeights": self.weights_digest}
        return {f"models:/{self.label}": {key: bare(value) for key, value in digests.items() if value}}


def bare(digest_: str) -> str:
    """A digest without ``sha256:``, as in-toto's digest sets hold it."""
    return digest_.removeprefix("sha256:")


loaded_model: Reader[ModelIdentity] = with_fields(
    {"name": text, "version": text, "source": text, "artifact_digest": digest, "weights_digest": digest},
    ModelIdentity,
    also={"files": mapped(digest)},
)
registered_model: Reader[ModelIdentity] = with_fields(
    {"name": text, "version": text, "source": text, "artifact_digest": digest, "weights_digest": optional(digest)},
    ModelIdentity,
    also={"files": mapped(digest)},
)
