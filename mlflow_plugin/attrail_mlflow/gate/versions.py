"""Versions as statements name them: who is meant, and whether two are the same."""

from mlflow.entities.model_registry import ModelVersion
from mlflow.prompt.constants import _PROMPT_SOURCE_PLACEHOLDERS as PROMPT_SOURCES

from attrail_mlflow.statements.predicate import ModelIdentity

UNREADABLE = "unreadable"  # no digest: what nobody can read is never what somebody audited


def identity(version: ModelVersion, artifact_digest: str = "") -> ModelIdentity:
    """A version as statements name it, its files not hashed unless their digest is given."""
    return ModelIdentity(version.name, str(version.version), str(version.source), artifact_digest)


def same_version(one: ModelIdentity, other: ModelIdentity) -> bool:
    """Whether two are the same registered version, whatever their files."""
    return (one.name, one.version, one.source) == (other.name, other.version, other.source)


def is_prompt(version: ModelVersion) -> bool:
    """Whether a version is a prompt: it has no files, and MLflow's placeholder for a source, which stays."""
    return version.source in PROMPT_SOURCES
