"""Waiver: a promotion without a passing verdict, signed by somebody who answers for it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar

from attrail_mlflow.signing.fields import Reader, moment, text
from attrail_mlflow.signing.kind import Kind
from attrail_mlflow.statements.predicate import ModelIdentity, Predicate, registered_model


@dataclass(frozen=True)
class Waiver(Predicate):
    """That ``granted_by`` lets exactly these bytes take ``alias`` once, until ``expires``, for a stated reason.

    ``waiver_id`` is used up by the promotion: the gate records it and accepts it no second time.
    """

    KIND: ClassVar[Kind] = Kind.WAIVER
    FIELDS: ClassVar[Mapping[str, Reader[Any]]] = {
        "issued": moment,
        "expires": moment,
        "model": registered_model,
        "alias": text,
        "granted_by": text,
        "reason": text,
        "waiver_id": text,
    }

    expires: datetime
    model: ModelIdentity
    alias: str
    granted_by: str
    reason: str
    waiver_id: str = field(default_factory=lambda: str(uuid.uuid4()))

    def subjects(self) -> Mapping[str, Mapping[str, str]]:
        """The version that may be promoted, with its digests by algorithm."""
        return self.model.subject()
