"""Baseline: the evidence for the first champion, which has nothing to be compared with."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from attrail_mlflow.signing.fields import Reader, anything, digest, flag, listed, mapped, moment, text, with_fields
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate, bare, loaded_model
from attrail_mlflow.statements.verdict import MANIFEST_NAME


@dataclass(frozen=True)
class InstrumentCheck:
    """One check of one explainer on one slice: its numbers and whether the explainer may be relied on."""

    slice: str
    explainer: str
    check: str
    passed: bool
    numbers: Mapping[str, Any]


_CHECK = with_fields(
    {"slice": text, "explainer": text, "check": text, "passed": flag, "numbers": mapped(anything)}, InstrumentCheck
)


@dataclass(frozen=True)
class Baseline(Predicate):
    """That ``model`` was explained on these slices, and that the explainers hold on it.

    ``explanations`` maps slice/explainer to the digest of the maps; ``checks`` are the instrument checks: all of them
    must have passed for the baseline to let the model become the first champion.
    """

    KIND: ClassVar[Kind] = Kind.BASELINE
    FIELDS: ClassVar[Mapping[str, Reader[Any]]] = {
        "issued": moment,
        "expires": moment,
        "model": loaded_model,
        "slices": mapped(digest),
        "explanations": mapped(digest),
        "checks": listed(_CHECK),
        "policy_digest": digest,
        "run_id": text,
        "manifest_digest": digest,
    }

    expires: datetime
    model: ModelIdentity
    slices: Mapping[str, str]
    explanations: Mapping[str, str]
    checks: tuple[InstrumentCheck, ...]
    policy_digest: str
    run_id: str
    manifest_digest: str

    def subjects(self) -> Mapping[str, Mapping[str, str]]:
        """The version, and the manifest of the evidence, with their digests by algorithm."""
        return self.model.subject() | {MANIFEST_NAME: {"sha256": bare(self.manifest_digest)}}
