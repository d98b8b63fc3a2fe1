"""Kinds of signed statements: what a signature stands for."""

from enum import StrEnum


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
