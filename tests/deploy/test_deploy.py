"""``attrail deploy`` against a real Prefect server: what it registers, what it says, and that twice is as once."""

import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest
import yaml
from click.testing import CliRunner, Result
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.events.schemas.automations import AutomationCore
from prefect.exceptions import ObjectNotFound
from prefect.settings import temporary_settings

from attrail_explainers.errors import ConfigError
from attrail_flows.commands.deploy import deploy
from attrail_flows.deployment.deployments import read_deployments
from attrail_flows.deployment.zombie_runs import NAME, wanted

POLICY = Path(__file__).parents[2] / "deploy/policy/attrail.toml"
FILE = {
    "deployments": [
        {
            "name": "nightly",
            "description": "Measures the floor.",
            "entrypoint": "attrail_flows.calibrate.calibrate",
            "tags": ["attrail"],
            "schedules": [{"slug": "night", "cron": "15 2 * * *", "timezone": "Etc/UTC"}],
            "concurrency_limit": {"limit": 1, "collision_strategy": "CANCEL_NEW"},
            "work_pool": {"name": "attrail"},
        }
    ]
}
Deploy = Callable[..., Result]


@pytest.fixture
def name() -> str:
    return f"test-{uuid4().hex[:8]}"


@pytest.fixture
def run(client: SyncPrefectClient, tmp_path: Path, name: str) -> Deploy:
    """``attrail deploy`` with a file that says ``changes``; its deployment has a name of its own in every test."""

    def invoke(*options: str, **changes: object) -> Result:
        file = tmp_path / "prefect.yaml"
        file.write_text(yaml.safe_dump({"deployments": [FILE["deployments"][0] | {"name": name} | changes]}))
        words = ["--config", str(POLICY), "--file", str(file), *options]
        return CliRunner().invoke(deploy, words, catch_exceptions=False)

    return invoke


def said(result: Result) -> set[str]:
    """The lines that a command printed."""
    return set(result.output.splitlines())


def last(result: Result) -> str:
    """What a command said of the deployment, after the work pool and the automation."""
    return result.output.splitlines()[-1]


def test_beside_its_configuration_the_command_needs_no_option(
    client: SyncPrefectClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(POLICY.parent)
    found = CliRunner().invoke(deploy, ["--only", "weekly", "--dry-run"], catch_exceptions=False)
    assert (found.exit_code, last(found)) == (0, "new       attrail-calibrate/weekly")


def test_what_is_new_is_registered_and_twice_is_as_once(run: Deploy, client: SyncPrefectClient, name: str) -> None:
    assert last(run()) == f"new       attrail-calibrate/{name}"
    found = client.read_deployment_by_name(f"attrail-calibrate/{name}")
    assert found.entrypoint == "attrail_flows.calibrate.calibrate"
    assert found.pull_steps == []
    assert found.parameters["config"]["registry"]["model"] == "classifier"
    assert found.work_pool_name == "attrail"
    assert [(each.schedule.cron, each.schedule.timezone) for each in found.schedules] == [("15 2 * * *", "Etc/UTC")]
    assert found.global_concurrency_limit.limit == 1
    expected = ["work pool attrail", "automation attrail-silent-runs", f"attrail-calibrate/{name}"]
    assert run().output.splitlines() == [f"unchanged {each}" for each in expected]
    assert client.read_deployment_by_name(f"attrail-calibrate/{name}").updated == found.updated


def test_a_dry_run_registers_nothing(run: Deploy, client: SyncPrefectClient, name: str) -> None:
    before = len(client.read_deployments())
    words = ("--dry-run", "--pool", f"pool-{name}")
    assert {f"new       work pool pool-{name}", f"new       attrail-calibrate/{name}"} <= said(run(*words))
    assert len(client.read_deployments()) == before
    with pytest.raises(ObjectNotFound):
        client.read_work_pool(f"pool-{name}")


@pytest.mark.usefixtures("client")
def test_what_needs_a_file_that_is_not_there_is_left_out_unless_it_is_named(tmp_path: Path) -> None:
    config = tmp_path / "attrail.toml"
    for name in ("attrail.toml", "policy.toml"):
        shutil.copy(POLICY.with_name(name), tmp_path)
    words = ["--config", str(config), "--dry-run"]
    done = CliRunner().invoke(deploy, words, catch_exceptions=False)
    assert f"left out  daily: there is no watch.toml beside {config}" in done.output
    assert any("audit" in line for line in done.output.splitlines() if "left out" not in line)
    with pytest.raises(ConfigError, match=r"watch\.toml cannot be read"):
        CliRunner().invoke(deploy, [*words, "--only", "daily"], catch_exceptions=False)


def test_what_changes_is_said_and_done(run: Deploy, client: SyncPrefectClient, name: str) -> None:
    run()
    changed = {"description": "Another.", "concurrency_limit": {"limit": 2}}
    expected = [
        f"changed   attrail-calibrate/{name}",
        '          at once: [1, "CANCEL_NEW"] -> [2, "ENQUEUE"]',
        '          description: "Measures the floor." -> "Another."',
        '          schedules.night: "15 2 * * * Etc/UTC" -> "15 2 * * * Europe/Berlin"',
    ]
    assert run("--dry-run", "--timezone", "Europe/Berlin", **changed).output.splitlines()[2:] == expected
    assert client.read_deployment_by_name(f"attrail-calibrate/{name}").description == "Measures the floor."
    assert run("--timezone", "Europe/Berlin", **changed).output.splitlines()[2:] == expected
    assert last(run("--timezone", "Europe/Berlin", **changed)) == f"unchanged attrail-calibrate/{name}"


def test_a_schedule_that_was_paused_stays_paused(run: Deploy, client: SyncPrefectClient, name: str) -> None:
    run()
    found = client.read_deployment_by_name(f"attrail-calibrate/{name}")
    client.update_deployment_schedule(found.id, found.schedules[0].id, active=False)
    assert last(run()).startswith("unchanged")
    assert "changed " in run(description="Another.").output
    assert [each.active for each in client.read_deployment(found.id).schedules] == [False]


def test_a_flow_can_be_given_another_file_beside_the_first(run: Deploy, client: SyncPrefectClient, name: str) -> None:
    run(config="watch.toml")
    found = client.read_deployment_by_name(f"attrail-calibrate/{name}")
    assert [each["name"] for each in found.parameters["config"]["slice"]] == ["month-before", "yesterday"]
    with pytest.raises(ConfigError, match=r"nowhere\.toml cannot be read"):
        run(config="nowhere.toml")


def test_one_deployment_of_many_is_registered(run: Deploy, name: str) -> None:
    assert last(run("--only", name)) == f"new       attrail-calibrate/{name}"
    with pytest.raises(ConfigError, match=f"unknown deployment 'other': known are {name}"):
        run("--only", "other")


def test_a_pool_is_made_when_there_is_none_and_runs_one_at_a_time(
    run: Deploy, client: SyncPrefectClient, name: str
) -> None:
    assert f"new       work pool pool-{name}" in said(run("--pool", f"pool-{name}"))
    found = client.read_work_pool(f"pool-{name}")
    assert (found.type, found.concurrency_limit) == ("process", 1)


def test_a_pool_with_another_limit_is_given_the_one_that_is_stated(
    run: Deploy, client: SyncPrefectClient, name: str
) -> None:
    pool = client.create_work_pool(WorkPoolCreate(name=f"pool-{name}", type="process", description="Ours."))
    changed = f"changed   work pool {pool.name}", "          at once: any number -> 2"
    assert run("--dry-run", "--pool", pool.name, "--at-once", "2").output.splitlines()[:2] == [*changed]
    assert client.read_work_pool(pool.name).concurrency_limit is None
    assert run("--pool", pool.name, "--at-once", "2").output.splitlines()[:2] == [*changed]
    found = client.read_work_pool(pool.name)
    assert (found.concurrency_limit, found.description) == (2, "Ours.")
    assert f"unchanged work pool {pool.name}" in said(run("--pool", pool.name, "--at-once", "2"))
    assert "          at once: 2 -> 1" in said(run("--pool", pool.name))


def test_the_automation_for_silent_runs_is_made_once_and_stays_switched_off(
    run: Deploy, client: SyncPrefectClient
) -> None:
    run()
    (found,) = client.read_automations_by_name(NAME)
    assert AutomationCore.model_validate(found.model_dump()) == AutomationCore.model_validate(wanted().model_dump())
    other = wanted().model_copy(update={"description": "Another.", "enabled": False})
    client.update_automation(found.id, other)
    assert f"changed   automation {NAME}" in said(run("--dry-run"))
    assert f"changed   automation {NAME}" in said(run())
    (again,) = client.read_automations_by_name(NAME)
    assert (again.id, again.enabled, again.description) == (found.id, False, wanted().description)
    assert f"unchanged automation {NAME}" in said(run())


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"entrypoint": "attrail_flows.nowhere.audit"}, "no flow attrail_flows.nowhere.audit"),
        ({"entrypoint": "attrail_flows.audit.gather"}, "no flow attrail_flows.audit.gather"),
        ({"schedule": []}, "schedule: Extra inputs are not permitted"),
        ({"schedules": [{"slug": "x", "cron": "61 * * * *", "timezone": "Etc/UTC"}]}, "cron"),
        ({"schedules": [{"slug": "x", "cron": "1 * * * *", "timezone": "Mars/North"}]}, "timezone"),
    ],
)
def test_a_file_that_is_wrong_is_said_before_anything_is_registered(
    changes: dict[str, object], said: str, run: Deploy, client: SyncPrefectClient
) -> None:
    before = len(client.read_deployments())
    with pytest.raises(ConfigError, match=said):
        run(**changes)
    assert len(client.read_deployments()) == before


@pytest.mark.parametrize("watched", [False, True], ids=["without watch.toml", "with watch.toml"])
def test_the_pages_commands_run_beside_the_readmes_attrail_toml(
    watched: bool, client: SyncPrefectClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    config = re.search(r"^```toml\n(# attrail.toml.*?)^```", text, re.MULTILINE | re.DOTALL)
    Path("attrail.toml").write_text(config[1])  # type: ignore[index]
    if watched:
        for name in ("watch.toml", "policy.toml"):
            shutil.copy(POLICY.parent / name, name)
    page = (Path(__file__).parents[2] / "flows" / "README.md").read_text(encoding="utf-8")
    commands = re.findall(r"^\$ attrail deploy (.*)$", page, re.MULTILINE)
    assert len(commands) == 2
    for words in commands:
        done = CliRunner().invoke(deploy, shlex.split(words, comments=True), catch_exceptions=False)
        assert done.exit_code == 0, done.output
        assert "attrail-audit/on-registration" in done.output
        assert ("attrail-watch/daily" in done.output) == watched
        assert ("left out  daily: there is no watch.toml beside attrail.toml" in done.output) != watched


def test_without_a_server_nothing_is_tried(tmp_path: Path) -> None:
    (tmp_path / "prefect.yaml").write_text(yaml.safe_dump(FILE))
    words = ["--config", str(POLICY), "--file", str(tmp_path / "prefect.yaml")]
    with temporary_settings({"api.url": None}), pytest.raises(ConfigError, match="PREFECT_API_URL names no"):
        CliRunner().invoke(deploy, words, catch_exceptions=False)
    nowhere = temporary_settings({"api.url": "http://127.0.0.1:9/api", "client.max_retries": 0})
    with nowhere, pytest.raises(ConfigError, match=r"Prefect's server at http://127.0.0.1:9/api"):
        CliRunner().invoke(deploy, words, catch_exceptions=False)


def test_every_flow_of_the_packaged_file_can_be_deployed() -> None:
    missing = []
    for each in read_deployments():
        try:
            each.flow()
        except ConfigError as error:
            missing.append(str(error))
    assert not missing, "\n".join(missing)
