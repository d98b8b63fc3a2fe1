"""The services as ``compose.yaml`` and the Kubernetes manifests state them, in one form."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).parents[2] / "deploy"
PLACEHOLDER = re.compile(r"\$\{(?P<name>[A-Z_0-9]+)(?::(?P<kind>[-?])(?P<word>[^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """What runs: its command, the variables that are set for it, and the port it listens on, if any."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str | None]
    port: int | None


def example(text: str) -> dict[str, str]:
    """The variables of environment.example, commented out or not."""
    return dict(re.findall(r"^#?([A-Z_0-9]+)=(.*)$", text, re.MULTILINE))


def filled(text: str, values: Mapping[str, str]) -> str:
    """A text of compose.yaml with its placeholders filled, as Compose does; KeyError for a variable nobody states."""

    def value(match: re.Match[str]) -> str:
        default = match["word"] if match["kind"] == "-" else ""
        return values[match["name"]] or default

    return PLACEHOLDER.sub(value, text)


def compose() -> dict[str, Any]:
    """compose.yaml with the example's variables filled in."""
    values = example((DEPLOY / "environment.example").read_text())
    return dict(yaml.safe_load(filled((DEPLOY / "compose.yaml").read_text(), values)))


def composed() -> dict[str, Service]:
    """The services that run attrail's image, as compose.yaml has them."""
    found = {}
    for name, each in compose()["services"].items():
        if "attrail" in each["image"]:
            environment = dict(each.get("environment", {}))
            health = environment.pop("ATTRAIL_HEALTH_URL", None)
            port = int(re.search(r":(\d+)/", health)[1]) if health else None  # type: ignore[index]
            found[name] = Service(name, tuple(each["command"]), environment, port)
    return found


def manifests() -> list[dict[str, Any]]:
    """Every Kubernetes resource."""
    files = sorted((DEPLOY / "kubernetes").glob("*.yaml"))
    return [each for file in files for each in yaml.safe_load_all(file.read_text())]


def pods() -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Every pod's name and specification."""
    for each in manifests():
        if each["kind"] in ("Deployment", "StatefulSet"):
            yield each["metadata"]["name"], each["spec"]["template"]["spec"]


def containers(pod: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    return [*pod.get("initContainers", []), *pod["containers"]]


def orchestrated() -> dict[str, Service]:
    """The services that run attrail's image, as the Kubernetes manifests have them."""
    found = {}
    for _, pod in pods():
        for each in containers(pod):
            if each["image"] == "attrail":
                environment = {entry["name"]: entry.get("value") for entry in each["env"]}
                port = next((port["containerPort"] for port in each.get("ports", [])), None)
                found[each["name"]] = Service(each["name"], tuple(each["args"]), environment, port)
    return found
