"""Keys of Prefect artifacts: Prefect takes lower case letters, digits and dashes only."""

from attrail_mlflow.runs.evidence_files import slug


def artifact_key(text: str) -> str:
    """A key Prefect accepts, from any text."""
    return slug(text).lower().replace(".", "-").replace("_", "-")
