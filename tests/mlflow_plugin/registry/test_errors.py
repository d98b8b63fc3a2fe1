"""Which of MLflow's errors may pass by themselves; real answers to a real client."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE

from attrail_explainers.errors import RegistryError
from attrail_mlflow.registry.errors import asking, found_or_none, may_pass, reason, registry_error
from attrail_mlflow.registry.models import models
from attrail_mlflow.registry.registry import Registry
from attrail_mlflow.runs.attribution_store import AttributionStore
from attrail_mlflow.runs.audit_run import open_run
from attrail_mlflow.runs.calibration_run import find_calibration
from attrail_mlflow.runs.lookup import fetch_run, find_sequence

PAGE = b"<!doctype html><html><body><form>Sign in</form></body></html>"
JSON, HTML = "application/json", "text/html"


@pytest.fixture(autouse=True)
def _address(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    before = mlflow.get_tracking_uri()
    yield
    mlflow.set_tracking_uri(before)


@contextmanager
def answering(status: int, kind: str, body: bytes) -> Iterator[str]:
    """The address of a server that answers everything alike."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_POST = do_GET  # noqa: N815 - the library's name

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def asked(address: str) -> MlflowException:
    with pytest.raises(MlflowException) as failed:
        MlflowClient(address).get_experiment_by_name("attrail")
    return failed.value


@pytest.mark.parametrize(
    ("status", "kind", "body", "passes", "said"),
    [
        (401, JSON, b'{"error_code": "UNAUTHENTICATED", "message": "the token expired"}', False, "the token expired"),
        (401, HTML, b"You are not authenticated.", False, "You are not authenticated."),
        (403, JSON, b'{"error_code": "PERMISSION_DENIED", "message": "not for you"}', False, "not for you"),
        (403, HTML, PAGE, False, "a sign-in page"),
        (200, HTML, PAGE, False, "a sign-in page"),
        (404, HTML, PAGE, False, "a sign-in page"),
        (503, HTML, b"<html>away</html>", True, "does not answer"),
        (502, HTML, b"<html>bad gateway</html>", True, "does not answer"),
        (429, JSON, b"{}", True, "does not answer"),
        (500, JSON, b'{"error_code": "INTERNAL_ERROR", "message": "a bug"}', True, "does not answer"),
    ],
)
def test_what_a_server_refuses_is_refused_for_good(
    status: int, kind: str, body: bytes, passes: bool, said: str
) -> None:
    with answering(status, kind, body) as address:
        error = asked(address)
    assert may_pass(error) == passes, repr(error)
    assert said in reason(error)
    assert "<" not in reason(error)
    assert "\n" not in reason(error)


TOKEN, NAME, PASSWORD = "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
EXPIRED = b'{"detail": "the token\\nexpired"}'  # as a gateway answers: MLflow's words for it have no 401


@pytest.mark.parametrize(("status", "phrase"), [(401, "401 Unauthorized"), (403, "403 Forbidden")])
@pytest.mark.parametrize(
    ("given", "remedy"),
    [
        ({TOKEN: "old"}, f"see whether {TOKEN} is still valid"),
        ({TOKEN: "old", NAME: "ada", PASSWORD: "old"}, f"see whether {NAME} and {PASSWORD} are right"),
        ({}, f"set {TOKEN}, or {NAME} and {PASSWORD}"),
    ],
)
def test_who_is_not_let_in_is_told_by_whom_and_where_to_look(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, status: int, phrase: str, given: dict[str, str], remedy: str
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))  # MLflow reads ~/.mlflow/credentials
    for name in (TOKEN, NAME, PASSWORD):
        monkeypatch.delenv(name, raising=False)
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with answering(status, JSON, EXPIRED) as address:
        registry = Registry(address)
        doors: list[Callable[[], object]] = [
            lambda: registry.resolve("m", "1"),
            lambda: open_run(registry, "attrail", "an audit"),
            lambda: find_calibration(registry, "attrail", "key"),
            lambda: find_sequence(registry, "attrail", "nightly"),
            lambda: fetch_run(registry, "0" * 32, tmp_path),
            lambda: AttributionStore(registry, "attrail").index("digest"),
            lambda: list(models(registry)),
        ]
        for door in doors:
            with pytest.raises(RegistryError) as failed:
                door()
            assert f"{address} answers {phrase} (" in str(failed.value)
            assert "expired" in str(failed.value)
            assert remedy in str(failed.value)
            assert not failed.value.transient
        mlflow.set_tracking_uri("http://127.0.0.1:1")
        assert "MLFLOW_TRACKING" not in reason(asked(address)), "those are for another server"


def test_addresses_that_lead_nowhere() -> None:
    with socket.socket() as taken:  # bound but not listening: whoever connects is refused at once
        taken.bind(("127.0.0.1", 0))
        refused = asked(f"http://127.0.0.1:{taken.getsockname()[1]}")
    assert may_pass(refused)
    assert "refused" in reason(refused)
    malformed = asked("http://127.0.0.1:port")
    assert not may_pass(malformed)
    assert "\n" not in reason(malformed)


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (FileNotFoundError("no such file"), False),
        (PermissionError("not for you"), False),
        (NotADirectoryError("the disk is not there"), True),
        (OSError(28, "no space left on device"), True),
        (MlflowException("x" * 5000), True),
    ],
)
def test_files_and_disks(error: OSError | MlflowException, passes: bool) -> None:
    found = registry_error("the audit's run cannot be kept", error)
    assert found.transient == passes
    assert str(error) in str(found), "whole, however long it is"


def test_who_asks_gets_one_sentence_that_names_the_server_where_it_speaks() -> None:
    refused = MlflowException("no such model", error_code=INVALID_PARAMETER_VALUE)
    for error, said in (
        (refused, "it failed (MLflow at here says: no such model)"),
        (OSError(28, "full"), "it failed: "),
    ):
        with pytest.raises(RegistryError) as raised, asking("it failed", "here"):
            raise error
        assert str(raised.value).startswith(said)
        assert raised.value.transient == (error is not refused)
        assert raised.value.__cause__ is error
    with pytest.raises(KeyError), asking("it failed"):
        raise KeyError("what is no answer of MLflow's")


def test_what_mlflow_does_not_have_is_none(tmp_path: Path) -> None:
    client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
    client.create_registered_model("digits")
    assert found_or_none(client.get_registered_model, "digits").name == "digits"
    assert found_or_none(client.get_registered_model, "letters") is None
    assert found_or_none(client.get_model_version, "digits", "1") is None
    assert found_or_none(client.get_model_version_by_alias, "digits", "champion") is None
    with socket.socket() as taken:  # who does not answer has said nothing
        taken.bind(("127.0.0.1", 0))
        away = MlflowClient(f"http://127.0.0.1:{taken.getsockname()[1]}")
        with pytest.raises(MlflowException):
            found_or_none(away.get_registered_model, "digits")


def test_a_deleted_experiment_is_named_with_the_ways_out(tmp_path: Path) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    mlflow.set_tracking_uri(uri)
    number = mlflow.create_experiment("attrail", artifact_location=str(tmp_path / "files"))
    registry = Registry(uri)
    registry.client.delete_experiment(number)
    doors: list[Callable[[], object]] = [
        lambda: open_run(registry, "attrail", "an audit"),
        lambda: find_calibration(registry, "attrail", "key"),
        lambda: find_sequence(registry, "attrail", "nightly"),
    ]
    for door in doors:
        with pytest.raises(RegistryError, match=f"attrail is deleted: restore it .*{number}.*registry.experiment") as e:
            door()
        assert not e.value.transient
