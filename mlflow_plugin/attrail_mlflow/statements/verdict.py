"""The signed verdict: everything that must still be true when the candidate is promoted on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar

from attrail_explainers.errors import RecordError
from attrail_mlflow.signing.fields import Reader, anything, digest, listed, mapped, moment, text, with_fields, wrong
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate, bare, loaded_model

VERDICTS = ("PASS", "DRIFT", "INCONCLUSIVE")
TIERS = "ABCMD0"  # of the noise floor, best first; drift.md
MANIFEST_NAME = "attrail/manifest.json"


def _verdict(value: Any, where: str) -> str:
    if value not in VERDICTS:
        raise wrong(where, f"one of {', '.join(VERDICTS)}", value)
    return str(value)


_EXPLAINER: Reader[dict[str, Any]] = with_fields({"name": text, "parameters": mapped(anything)}, dict)


@dataclass(frozen=True)
class VerdictStatement(Predicate):
    """That ``model`` was compared with ``reference`` under a policy, and what the verdict was.

    ``reference_aliases`` are those the reference had when it was looked up; ``slices`` maps a slice's name to the
    digest of its pixels, labels and preprocessing; ``tier`` is the floor's, the worst of all primary measurements;
    ``manifest_digest`` is that of the run's manifest.json and so of every file of the evidence.
    """

    KIND: ClassVar[Kind] = Kind.VERDICT
    FIELDS: ClassVar[Mapping[str, Reader[Any]]] = {
        "issued": moment,
        "expires": moment,
        "model": loaded_model,
        "reference": loaded_model,
        "reference_aliases": listed(text),
        "verdict": _verdict,
        "reason": text,
        "change": text,
        "tier": text,
        "slices": mapped(digest),
        "explainers": listed(_EXPLAINER),
        "policy_digest": digest,
        "run_id": text,
        "manifest_digest": digest,
    }

    expires: datetime
    model: ModelIdentity
    reference: ModelIdentity
    reference_aliases: tuple[str, ...]
    verdict: str
    reason: str
    change: str
    tier: str
    slices: Mapping[str, str]
    explainers: tuple[Mapping[str, Any], ...]
    policy_digest: str
    run_id: str
    manifest_digest: str

    def subjects(self) -> Mapping[str, Mapping[str, str]]:
        """The candidate, and the manifest of the evidence, with their digests by algorithm."""
        return self.model.subject() | {MANIFEST_NAME: {"sha256": bare(self.manifest_digest)}}


@dataclass(frozen=True)
class Binding:
    """What a verdict is bound to beyond the audit's own record: bytes, the reference's role, times."""

    model: ModelIdentity
    reference: ModelIdentity
    reference_aliases: tuple[str, ...]
    manifest_digest: str
    issued: datetime
    expires: datetime


def statement_of(document: Mapping[str, Any], binding: Binding) -> VerdictStatement:
    """The verdict statement of an audit's record (the contents of audit.json) and what it is bound to.

    Raises RecordError when the record is about other versions or other weights than the binding.
    """
    for role, model in (("candidate", binding.model), ("reference", binding.reference)):
        recorded = (document[role]["label"], document[role]["weights_digest"])
        if recorded != (model.label, model.weights_digest):
            raise RecordError(f"the audit's {role} is {recorded}, the bytes to bind are those of {model}: audit again")
    return VerdictStatement(
        issued=binding.issued.replace(microsecond=0),
        expires=binding.expires.replace(microsecond=0),
        model=binding.model,
        reference=binding.reference,
        reference_aliases=binding.reference_aliases,
        verdict=document["verdict"],
        reason=document["reason"],
        change=document["change"],
        tier=floor_tier(document),
        slices={each["name"]: each["digest"] for each in document["slices"]},
        explainers=tuple({"name": each["name"], "parameters": each["parameters"]} for each in document["explainers"]),
        policy_digest=document["policy_digest"],
        run_id=document["run_id"],
        manifest_digest=binding.manifest_digest,
    )


def floor_tier(document: Mapping[str, Any]) -> str:
    """The tier of an audit's noise floor: what the record says, else the worst among its primary measurements."""
    if "tier" in document:
        return str(document["tier"])
    tiers = [str(row["floor_tier"]) for row in document["measurements"] if row["primary"]]
    return max(tiers, key=TIERS.index, default=TIERS[-1])
