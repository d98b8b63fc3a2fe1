"""Every model's newest version against the holders of its protected aliases; one that fails stops no other."""

from collections.abc import Callable
from pathlib import Path

import mlflow
import pytest

from attrail_explainers.errors import RegistryError
from attrail_flows.audit_registry import AuditPair, pairs_of
from attrail_mlflow.registry.models import ListedModel, models
from attrail_mlflow.registry.registry import Registry

Run = Callable[..., tuple[int, str, str]]
EXPLAINERS = '[[explainer]]\nname = "gradcam"'


@pytest.fixture
def small_registry(trained_registry: Path, workplace):
    """Two more models: one whose newest version is digits' cheat, and one whose files are gone."""
    mlflow.set_tracking_uri(workplace.tracking_uri)  # a client looks up models:/m-... sources at the process's address
    client = mlflow.MlflowClient()
    source = {number: client.get_model_version("digits", number).source for number in ("1", "7", "8")}
    made = []
    for name, newest in (("wards", source["8"]), ("lost", f"file://{workplace.folder / 'nowhere'}")):
        client.create_registered_model(name)
        made.append(name)
        for each in (source["1"], newest):
            client.create_model_version(name, each)
        client.set_registered_model_alias(name, "champion", "1")
    yield workplace
    for name in made:
        client.delete_registered_model(name)


def model(newest: str = "7", tags: dict[str, str] | None = None, **aliases: str) -> ListedModel:
    return ListedModel("digits", newest, tags or {}, aliases)


def test_every_holder_of_a_protected_alias_is_a_reference_once() -> None:
    found = pairs_of(model(champion="1", production="3", staging="4"), ("champion", "production"))
    assert found == [AuditPair("digits", "champion", "1", "7"), AuditPair("digits", "production", "3", "7")]
    assert len(pairs_of(model(champion="1", production="1"), ("champion", "production"))) == 1


def test_no_version_is_audited_against_itself_or_without_a_holder() -> None:
    assert pairs_of(model(champion="7"), ("champion",)) == []
    assert pairs_of(model(), ("champion",)) == []


def test_what_carries_a_verdict_against_the_same_holder_is_left_alone_unless_told() -> None:
    tags = {"attrail.run_id": "0" * 32, "attrail.reference": "models:/digits/1"}
    assert pairs_of(model(tags=tags, champion="1"), ("champion",)) == []
    assert len(pairs_of(model(tags=tags, champion="1"), ("champion",), again=True)) == 1
    assert len(pairs_of(model(tags=tags, champion="2"), ("champion",))) == 1, "the champion has changed since"


def test_the_catalogue_knows_every_model_and_its_newest_version(small_registry) -> None:
    registry = Registry(small_registry.tracking_uri)
    found = {each.name: each for each in models(registry)}
    assert list(found) == sorted(found), "by name"
    assert {"lost", "digits", "wards"} <= set(found)
    assert found["digits"].newest == "8"
    assert found["digits"].aliases == {"champion": "1"}
    assert [each.name for each in models(registry, "name LIKE 'w%'")] == ["wards"]
    with pytest.raises(RegistryError, match="cannot be listed"):
        list(models(registry, "no filter"))


def test_one_model_that_cannot_be_audited_stops_no_other(attrail: Run, small_registry) -> None:
    config = small_registry.config(explainers=EXPLAINERS, floor=[])
    status, out, err = attrail("audit-registry", "--config", config, "--matching", "name != 'digits'")
    lines = {line.split()[1]: line for line in out.splitlines() if "/" in line.split()[1]}
    assert lines["lost/2"].startswith("ERROR"), err
    assert lines["wards/2"].split()[0] in ("PASS", "DRIFT", "INCONCLUSIVE")
    assert "1 of 2 audits could not be made: lost/2" in out
    assert status == 2
    tags = mlflow.MlflowClient(small_registry.tracking_uri).get_model_version("wards", "2").tags
    assert tags["attrail.reference"] == "models:/wards/1"
    status, out, _ = attrail("audit-registry", "--config", config, "--matching", "name = 'wards'")
    assert (status, out.strip()) == (0, "nothing new to audit")
