"""Why a statement lets nothing through: the codes that a refusal carries for machines."""

from enum import StrEnum


class Reason(StrEnum):
    """One code per thing that can be wrong, in the order in which they are looked for."""

    RETRAIN = "retrain"
    MISSING = "missing"
    MALFORMED = "malformed"
    UNSIGNED = "unsigned"
    UNTRUSTED_KEY = "untrusted-key"
    BAD_SIGNATURE = "bad-signature"
    NOT_YET_VALID = "not-yet-valid"
    EXPIRED = "expired"
    WRONG_KIND = "wrong-kind"
    WRONG_MODEL = "wrong-model"
    WRONG_SOURCE = "wrong-source"
    WRONG_BYTES = "wrong-bytes"
    VERDICT_DRIFT = "verdict-drift"
    VERDICT_INCONCLUSIVE = "verdict-inconclusive"
    WRONG_POLICY = "wrong-policy"
    STALE_REFERENCE = "stale-reference"
    WRONG_ALIAS = "wrong-alias"
    ALREADY_USED = "already-used"
    NOT_FIRST = "not-first"
    CHECKS_FAILED = "checks-failed"
    SUPERSEDED = "superseded"
    HOLDS_ROLE = "holds-role"
    MISSPELT = "misspelt"
    PROTECTED_TAG = "protected-tag"
    NO_JOURNAL = "no-journal"
    OTHER_POLICY = "other-policy"
