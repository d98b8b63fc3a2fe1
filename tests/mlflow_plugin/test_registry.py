"""Addresses in records carry no password; SQLAlchemy's and HTTP's forms alike."""

import pytest

from attrail_mlflow.registry import URI, without_password


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("https://me:secret@mlflow.example:5000/x", "https://mlflow.example:5000/x"),
        ("postgresql://me:se@cret@db/mlflow", "postgresql://db/mlflow"),
        ("sqlite:////data/mlflow.db", "sqlite:////data/mlflow.db"),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5000"),
    ],
)
def test_passwords_are_not_shown(address: str, shown: str) -> None:
    assert without_password(address) == shown


@pytest.mark.parametrize("text", ["models:/a/1", "models:/a b@champion", "models:/a.b/12"])
def test_model_uris(text: str) -> None:
    found = URI.fullmatch(text)
    assert found is not None
    assert bool(found["version"]) != bool(found["alias"])


@pytest.mark.parametrize("text", ["models:/a", "models:/a/latest/1", "models:/a@", "runs:/1/model", "models:/m-1/"])
def test_other_text_is_no_model_uri(text: str) -> None:
    assert URI.fullmatch(text) is None
