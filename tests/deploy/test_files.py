"""The files of ``deploy/``: valid by their own schemas, and naming only what this release has."""

import json
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import click
import cyclopts
import kubernetes_validate
import mlflow.environment_variables
import pytest
import yaml
from mlflow.cli import cli as mlflow_cli
from prefect.cli._app import _app as prefect_cli
from prefect.events.schemas.automations import AutomationCore
from prefect.settings import Settings
from prefect.settings.legacy import _get_settings_fields
from stack import (
    DEPLOY,
    PLACEHOLDER,
    Service,
    compose,
    composed,
    containers,
    example,
    manifests,
    orchestrated,
    pods,
)

import attrail_flows
from attrail_flows.audit import audit
from attrail_flows.cli import attrail as attrail_cli
from attrail_flows.configuration import read_config
from attrail_flows.deployment.deployments import read_deployments
from attrail_mlflow.gate.policy import read_gate_policy
from attrail_mlflow.signing.keys import key_id, new_key, read_public

ROOT = DEPLOY.parent
SERVICES = [*composed().values(), *orchestrated().values()]
# Variables of libraries that no settings object of theirs lists: libpq and asyncpg, boto3.
OTHERS = {"PGPASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}


def named(service: Service) -> str:
    return service.name


@pytest.mark.parametrize("file", ["compose.yaml", "compose.cuda.yaml"])
def test_compose_files_follow_the_compose_specification(file: str) -> None:
    checked = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(DEPLOY / file)]
    done = subprocess.run(checked, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_compose_schema_would_notice(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text((DEPLOY / "compose.yaml").read_text().replace("restart: unless-stopped", "restarts: yes", 1))
    checked = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(broken)]
    assert subprocess.run(checked, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("resource", manifests(), ids=lambda each: f"{each['kind']}-{each['metadata']['name']}")
def test_manifests_follow_the_schema_of_kubernetes(resource: dict[str, object]) -> None:
    kubernetes_validate.validate(resource, kubernetes_validate.latest_version(), strict=True)


def test_the_kubernetes_schema_would_notice() -> None:
    broken = json.loads(json.dumps(manifests()[0])) | {"specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, kubernetes_validate.latest_version(), strict=True)


def test_kustomize_names_every_manifest_and_files_that_are_there() -> None:
    stated = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    assert sorted(stated["resources"]) == sorted(f"kubernetes/{each.name}" for each in DEPLOY.glob("kubernetes/*.yaml"))
    files = [file for each in stated["configMapGenerator"] for file in each["files"]]
    there = {file for file in files if (DEPLOY / file).is_file()}
    assert set(files) - there == {f"policy/keys/{each}.pub" for each in ("audit", "gate", "risk")}
    kept = {Path(file).name for file in files}
    for name, pod in pods():
        for volume in pod.get("volumes", []):
            if volume.get("configMap", {}).get("name") == "policy":
                assert {each["key"] for each in volume["configMap"].get("items", [])} <= kept, name


def test_both_run_the_same_commands_in_the_same_environment() -> None:
    ours, theirs = composed(), orchestrated()
    assert ours.keys() == theirs.keys()
    for name, service in ours.items():
        swapped = [word.replace("mlflow.localhost", "mlflow.example.org") for word in service.command]
        assert swapped == list(theirs[name].command), name
        assert service.port == theirs[name].port, name
        ours_only = service.environment.keys() - theirs[name].environment.keys()
        assert ours_only <= {*OTHERS, "MLFLOW_S3_ENDPOINT_URL"}, name  # there, a secret holds them
        for variable, value in theirs[name].environment.items():
            assert value in (None, service.environment[variable]), f"{name}: {variable}"


@pytest.mark.parametrize("service", SERVICES, ids=named)
def test_every_command_is_one_that_this_release_takes(service: Service, tmp_path: Path) -> None:
    program, *words = service.command
    if program == "prefect":
        prefect_cli.parse_args(words, exit_on_error=False, print_error=False)
        return
    command: click.Command = {"mlflow": mlflow_cli, "attrail": attrail_cli}[program]
    context = click.Context(command, info_name=program)
    while isinstance(command, click.Group):
        name, *words = words
        found = command.get_command(context, name)
        assert found is not None, f"{program} has no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)
    command.parse_args(context, words)


def test_a_command_that_is_none_would_be_noticed() -> None:
    words = ["worker", "start", "--pol", "attrail"]
    with pytest.raises(cyclopts.CycloptsError):
        prefect_cli.parse_args(words, exit_on_error=False, print_error=False)
    serve = mlflow_cli.get_command(click.Context(mlflow_cli), "server")
    assert serve is not None
    with pytest.raises(click.NoSuchOption):
        serve.parse_args(click.Context(serve), ["--registry-store-url", "x"])


def test_a_port_is_the_one_its_command_listens_on() -> None:
    for service in SERVICES:
        stated = dict(zip(service.command, service.command[1:], strict=False)).get("--port")
        default = 8080 if "--with-healthcheck" in service.command else None  # Prefect's PREFECT_WORKER_WEBSERVER_PORT
        assert service.port == (int(stated) if stated else default), service.name
    assert Settings().worker.webserver.port == 8080


def test_addresses_name_services_and_their_ports() -> None:
    ports = {each.name: each.port for each in composed().values()} | {"postgres": 5432}
    texts = [(DEPLOY / "proxy/Caddyfile").read_text()]
    for service in SERVICES:
        texts += [*service.command, *(each or "" for each in service.environment.values())]
    found = re.findall(r"(?:@|//|reverse_proxy )([a-z]+):(\d+)", " ".join(texts))
    assert {name for name, _ in found} == {"mlflow", "prefect", "postgres"}
    assert all(ports[name] == int(port) for name, port in found), found
    services = {each["metadata"]["name"]: each["spec"]["ports"][0] for each in manifests() if each["kind"] == "Service"}
    assert services.keys() == {"mlflow", "prefect", "postgres", "receiver"}
    assert all(each["port"] == ports[name] for name, each in services.items())


def test_every_variable_is_one_that_somebody_reads() -> None:
    ours = "".join(path.read_text() for path in ROOT.glob("*/attrail_*/**/*.py"))
    theirs = {
        each.name for each in vars(mlflow.environment_variables).values() if isinstance(getattr(each, "name", 0), str)
    }
    prefects = set(_get_settings_fields(Settings))
    for service in SERVICES:
        for name in service.environment:
            known = name in theirs | prefects | OTHERS or (name.startswith("ATTRAIL_") and f'"{name}"' in ours)
            assert known, f"{service.name}: nobody reads {name}"
    stated = re.findall(r"\b((?:ATTRAIL|MLFLOW|PREFECT)_[A-Z_]+)=", (DEPLOY / "Dockerfile").read_text())
    assert stated
    assert set(stated) <= theirs | prefects


def test_compose_asks_for_what_the_example_states() -> None:
    text = (DEPLOY / "compose.yaml").read_text()
    services = yaml.safe_load(text)["services"].values()
    passed = {name for each in services for name, value in each.get("environment", {}).items() if value is None}
    assert {match["name"] for match in PLACEHOLDER.finditer(text)} | passed == set(
        example((DEPLOY / "environment.example").read_text())
    )


def test_nothing_holds_a_secret() -> None:
    for name, value in example((DEPLOY / "environment.example").read_text()).items():
        assert not (re.search("PASSWORD|KEY", name) and value), name
    for service in SERVICES:
        for name, value in service.environment.items():
            if re.search(r"PASSWORD|ENCRYPTION_KEY|SECRET_ACCESS", name):
                assert not value, f"{service.name}: {name}"
    assert not any(each["kind"] == "Secret" for each in manifests())


def test_the_gate_is_on_in_both() -> None:
    for service in (composed()["mlflow"], orchestrated()["mlflow"]):
        words = dict(zip(service.command, service.command[1:], strict=False))
        assert words["--registry-store-uri"] == "attrail+" + words["--backend-store-uri"]
        assert words["--app-name"] == "attrail"
        assert service.environment["ATTRAIL_GATE_POLICY"] == "/etc/attrail/gate.toml"


def test_only_the_servers_reach_the_database() -> None:
    found = {name for name, each in compose()["services"].items() if "databases" in each.get("networks", [])}
    assert found == {"postgres", "mlflow", "prefect"}
    holders = {each.name for each in SERVICES if "PGPASSWORD" in each.environment}
    assert holders == {"mlflow", "prefect"}


def test_every_container_is_confined() -> None:
    for name, each in compose()["services"].items():
        if "attrail" in each["image"]:
            assert each["read_only"], name
            assert each["cap_drop"] == ["ALL"], name
    for name, pod in pods():
        assert pod["securityContext"]["runAsNonRoot"], name
        assert pod["enableServiceLinks"] is False, f"{name}: they would set MLFLOW_PORT and the like"
        for each in containers(pod):
            security = each["securityContext"]
            assert security["readOnlyRootFilesystem"], name
            assert security["allowPrivilegeEscalation"] is False, name
            assert security["capabilities"] == {"drop": ["ALL"]}, name


def test_the_image_installs_what_there_is_and_runs_as_nobody_special() -> None:
    text = (DEPLOY / "Dockerfile").read_text()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = re.search(r"'\.\[(.*)\]'", text)
    assert extras
    assert set(extras[1].split(",")) <= project["optional-dependencies"].keys()
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE)
    names = [name for line in copied for name in line.split()]
    assert all((ROOT / name).exists() for name in names), names
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == set(names)
    assert "USER 10001:10001" in text
    assert text.index("USER ") < text.index("ENTRYPOINT") < text.index("HEALTHCHECK")
    packages = project["requires-python"], re.findall(r"FROM python:(\S+?)-", text)
    assert packages[0] == ">=3.11"
    assert set(packages[1]) == {"3.11"}


def test_audits_that_mlflow_announces_have_a_deployment() -> None:
    for service in SERVICES:
        if "serve" in service.command:
            wanted = dict(zip(service.command, service.command[1:], strict=False))["--deployment"]
            names = {f"{audit.name}/{each.name}" for each in read_deployments() if each.entrypoint.endswith(".audit")}
            assert wanted in names


def test_the_prefect_file_is_one_that_prefect_reads_too() -> None:
    from prefect.cli.deploy._models import PrefectYamlModel

    assert (DEPLOY / "prefect.yaml").samefile(Path(attrail_flows.__file__).with_name("prefect.yaml"))
    found = PrefectYamlModel.model_validate(yaml.safe_load((DEPLOY / "prefect.yaml").read_text()))
    assert found.pull == []
    assert [each.name for each in found.deployments] == [each.name for each in read_deployments()]
    for each in found.deployments:
        assert each.entrypoint is not None
        assert find_spec(each.entrypoint.rpartition(".")[0]) is not None, each.entrypoint
        assert "/" not in json.dumps(each.parameters)


@pytest.mark.parametrize("path", sorted(DEPLOY.glob("automations/*.yaml")), ids=lambda each: each.stem)
def test_automations_are_ones_that_prefect_takes(path: Path) -> None:
    found = AutomationCore.model_validate(yaml.safe_load(path.read_text()))
    emitted = "".join(each.read_text() for each in ROOT.glob("flows/attrail_flows/**/*.py"))
    for event in found.trigger.expect:
        assert event.startswith("prefect.") or f'event="{event}"' in emitted
    for key in re.findall(r"event\.resource\['([^']+)'\]", path.read_text()):
        assert f'"{key}":' in emitted
    for key in re.findall(r"event\.payload\.(\w+)", path.read_text()):
        assert f'"{key}":' in emitted


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    """The example policies, with keys made for them as PLATFORM.md says."""
    for path in DEPLOY.glob("policy/*.toml"):
        (tmp_path / path.name).write_text(path.read_text())
    (tmp_path / "keys").mkdir()
    text = (tmp_path / "gate.toml").read_text()
    for digit, name in enumerate(("audit", "gate", "risk")):
        new_key(tmp_path / name)
        public = (tmp_path / f"{name}.pub").read_bytes()
        (tmp_path / f"keys/{name}.pub").write_bytes(public)
        text = text.replace("sha256:" + str(digit) * 64, key_id(read_public(public, name)))
    (tmp_path / "gate.toml").write_text(text.replace("/run/secrets/gate-key", str(tmp_path / "gate")))
    return tmp_path


def test_the_example_policies_are_taken(policies: Path) -> None:
    gate = read_gate_policy(policies / "gate.toml")
    assert gate.journal_signer is not None
    assert {each.owner for each in gate.trusted} == {"worker", "gate", "model risk"}
    for name in ("attrail.toml", "watch.toml"):
        config = read_config(policies / name)
        assert config.policy.fewest_images == 48
        assert config.registry.model == "classifier"
    assert "/run/secrets/gate-key" in (DEPLOY / "policy/gate.toml").read_text()
    assert compose()["secrets"].keys() == {"gate-key", "audit-key", "webhook-secret"}
