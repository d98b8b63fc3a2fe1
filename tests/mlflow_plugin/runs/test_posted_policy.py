"""The policy's notice says how it differs from the policy of the model's last audit."""

from pathlib import Path

import mlflow
import pytest

from attrail_explainers.errors import RegistryError
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.registry.tags import COMPLETE_TAG
from attrail_mlflow.runs.audit_run import open_run
from attrail_mlflow.runs.posted_policy import post_policy


def test_changes_are_named_and_a_policy_that_is_gone_is_said_so(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    mlflow.create_experiment("attrail", artifact_location=str(tmp_path / "artifacts"))
    registry = Registry(uri)
    first = open_run(registry, "attrail", "an audit")
    posted = post_policy(first, "digits", {"alpha": 0.05, "settings": {"grid": 16}}, "sha256:first")
    assert (posted.before, posted.changed) == (None, ()), "an audit that did not end is no last audit, nor is this one"
    registry.client.set_tag(first.run_id, COMPLETE_TAG, "true")
    changed = {"alpha": 0.05, "settings": {"grid": 32}}
    posted = post_policy(open_run(registry, "attrail", "another"), "digits", changed, "sha256:second")
    assert (posted.before, posted.changed) == ("sha256:first", ("settings.grid",))
    Path(first.location("policy.json")).unlink()
    with pytest.raises(RegistryError, match=f"audit before this one, in run {first.run_id}, cannot be read: "):
        post_policy(open_run(registry, "attrail", "a third"), "digits", changed, "sha256:second")
