"""MLflow asked in one way: versions, files and their digests, tags, errors."""
