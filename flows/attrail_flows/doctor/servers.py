"""Checks of the servers: whether they answer, their versions and clocks, and whether the gate is on."""

import time
from collections.abc import Iterator, Mapping
from email.utils import parsedate_to_datetime
from importlib.metadata import version
from typing import Any

import httpx

from attrail_flows.doctor.result import DoctorResult, ok, warning, wrong
from attrail_mlflow.registry.registry import without_password

WAIT = 10.0  # seconds for an answer
SKEW = 30.0  # seconds between two clocks that are only untidy
LIMIT = 300.0  # seconds from which statements and webhooks are refused (verification.SKEW, webhook.TOLERANCE)
HEALTH = "/attrail/health"


def prefect(address: str | None, login: tuple[str, str] | None = None) -> Iterator[DoctorResult]:
    """Whether Prefect's server answers at its API's address, with which version, and how its clock goes."""
    if not address:
        yield warning(
            "PREFECT_API_URL names no server", "set it where deployments run; without one flows run by themselves"
        )
        return
    yield from _server("Prefect", address, "/admin/version", login)


def mlflow(address: str | None, login: tuple[str, str] | None = None) -> Iterator[DoctorResult]:
    """Whether MLflow's server answers, with which version, how its clock goes, and whether its registry is gated."""
    if not address or not address.startswith(("http://", "https://")):
        shown = without_password(address) if address else "no place"
        yield warning(f"MLFLOW_TRACKING_URI names {shown}, no server", "without a server there is no gate")
        return
    yield from _server("MLflow", address, "/version", login)


def gate(address: str | None, login: tuple[str, str] | None = None) -> Iterator[DoctorResult]:
    """Whether the registry is gated, by what the server itself says."""
    if not address or not address.startswith(("http://", "https://")):
        return
    try:
        answer = _get(address, HEALTH, login)
    except httpx.HTTPError:
        return  # what ``mlflow`` reports
    if answer.status_code == httpx.codes.OK and _json(answer).get("gate") == "on":
        policy = _json(answer)["policy"]
        yield ok(f"the gate is on: {', '.join(policy['aliases'])}, policy {_json(answer)['policy_digest']}")
    elif str(_json(answer).get("gate", "")).startswith("refusing"):
        do = "restart the whole server, so that every worker reads the same policy"
        yield wrong(f"a worker of {without_password(address)} has another policy than the one in force", do)
    elif answer.status_code == httpx.codes.NOT_FOUND:
        do = "start it with --registry-store-uri attrail+... and --app-name attrail, which says so"
        yield wrong(f"{without_password(address)} does not say that its registry is gated", do)
    else:
        yield wrong(f"{HEALTH} answers {answer.status_code}", "look into the server's log")


def trusted_there(address: str, login: tuple[str, str] | None = None) -> Mapping[str, tuple[str, ...]]:
    """The ids of the keys that the gate trusts, with what each may sign; nothing where there is no gate."""
    try:
        document = _json(_get(address, HEALTH, login))
    except httpx.HTTPError:
        return {}
    return {each["id"]: tuple(each["may"]) for each in document.get("policy", {}).get("keys", [])}


def _server(name: str, address: str, path: str, login: tuple[str, str] | None) -> Iterator[DoctorResult]:
    shown, own = without_password(address), version(name.lower())
    try:
        answer = _get(address, path, login)
    except httpx.HTTPError as error:
        reason = str(error) or type(error).__name__
        yield wrong(f"{name} at {shown} does not answer ({reason})", "start it, or correct the address")
        return
    if answer.status_code in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        yield wrong(f"{name} at {shown} answers {answer.status_code}", "give a login, and a host name it allows")
        return
    yield _version(name, shown, answer, own)
    yield from _clock(name, answer)


def _version(name: str, shown: str, answer: httpx.Response, own: str) -> DoctorResult:
    """The server's version beside the one installed here: both should be of one minor release."""
    theirs = answer.text.strip().strip('"')
    if answer.status_code != httpx.codes.OK or not theirs[:1].isdigit():
        return wrong(f"what answers at {shown} is no {name}", "correct the address")
    if theirs.split(".")[:2] != own.split(".")[:2]:
        return warning(f"{name} at {shown} is {theirs}, here is {own}", "install the same minor release on both sides")
    return ok(f"{name} {theirs} at {shown}")


def _clock(name: str, answer: httpx.Response) -> Iterator[DoctorResult]:
    """How far this machine's clock is from the server's, by its Date header, which has whole seconds."""
    try:
        ahead = time.time() - parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return
    text = f"this clock is {abs(ahead):.0f} s {'ahead of' if ahead > 0 else 'behind'} {name}'s"
    if abs(ahead) >= LIMIT:
        yield wrong(text, "synchronise both; statements and webhooks are refused")
    elif abs(ahead) >= SKEW:
        yield warning(text, f"synchronise both before it is {LIMIT:.0f} s")


def _get(address: str, path: str, login: tuple[str, str] | None) -> httpx.Response:
    return httpx.get(address.rstrip("/") + path, auth=login, timeout=WAIT)


def _json(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        found = answer.json()
    except ValueError:
        return {}
    return found if isinstance(found, Mapping) else {}
