"""Predicate: what every kind of signed statement has in common."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, ClassVar

from attrail_mlflow.signing.fields import Reader, digest, optional, plain, text, with_fields
from attrail_mlflow.signing.kind import Kind


@dataclass(frozen=True)
class Predicate:
    """Base of the statements: a frozen dataclass whose fields are the predicate's keys.

    ``FIELDS`` reads them back; ``subjects`` are the things the statement is about, with their digests by algorithm.
    """

    KIND: ClassVar[Kind]
    FIELDS: ClassVar[Mapping[str, Reader[Any]]]

    issued: datetime

    def subjects(self) -> Mapping[str, Mapping[str, str]]:
        """What the statement is about: digests by algorithm, by name."""
        raise NotImplementedError

    def document(self) -> dict[str, Any]:
        """The predicate as JSON values."""
        found: dict[str, Any] = plain(asdict(self))
        return found


@dataclass(frozen=True)
class ModelIdentity:
    """A model version bound to its bytes: by name and version alone it could be deleted and registered anew.

    ``source`` is the registry's, immutable; ``artifact_digest`` is ``folder_digest.digest_folder`` of the model's
    files; ``weights_digest`` that of the loaded weights, None where nobody loaded them.
    """

    name: str
    version: str
    source: str
    artifact_digest: str
    weights_digest: str | None = None

    @property
    def label(self) -> str:
        """Name and version, ``digits/7``."""
        return f"{self.name}/{self.version}"

    def subject(self) -> dict[str, dict[str, str]]:
        """The version as a subject of an in-toto statement, by the SHA-256 of the list of its files.

        ``artifact_digest`` is that of a text that anybody can write again (``folder_digest.digest_of_files``), so
        verifiers that know in-toto and not attrail can match it.
        """
        return {f"models:/{self.label}": {"sha256": bare(self.artifact_digest)}}

    def former_subject(self) -> dict[str, dict[str, str]]:
        """The subject as statements had it at first, under names of algorithms that only attrail knows."""
        digests = {"attrailFiles": self.artifact_digest, "attrailWeights": self.weights_digest}
        return {f"models:/{self.label}": {key: bare(value) for key, value in digests.items() if value}}


def bare(digest_: str) -> str:
    """A digest without ``sha256:``, as in-toto's digest sets hold it."""
    return digest_.removeprefix("sha256:")


loaded_model: Reader[ModelIdentity] = with_fields(
    {"name": text, "version": text, "source": text, "artifact_digest": digest, "weights_digest": digest}, ModelIdentity
)
registered_model: Reader[ModelIdentity] = with_fields(
    {"name": text, "version": text, "source": text, "artifact_digest": digest, "weights_digest": optional(digest)},
    ModelIdentity,
)
