"""What a flow needs around it is tried first; what cannot be used is named in one sentence."""

import http.server
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import pytest

from attrail_explainers.errors import ConfigError
from attrail_flows.flow_runs.preconditions import require_folders, require_server


@pytest.fixture
def no_folder(tmp_path: Path) -> Path:
    """A place where no folder can be made, even by root."""
    (tmp_path / "file").write_text("no folder")
    return tmp_path / "file" / "home"


def test_folders_that_cannot_be_written_to(no_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    require_folders(tmp_path / "new" / "results")
    with pytest.raises(ConfigError, match=f"the folder {no_folder} cannot be written to"):
        require_folders(no_folder)
    monkeypatch.setenv("PREFECT_HOME", str(no_folder))
    with pytest.raises(ConfigError, match=f"home {no_folder} cannot be written to .*: set PREFECT_HOME"):
        require_folders()
    monkeypatch.delenv("PREFECT_HOME")
    monkeypatch.setenv("HOME", str(no_folder))
    with pytest.raises(ConfigError, match=f"home {no_folder}/.prefect cannot be written to"):
        require_folders()
    monkeypatch.setattr(tempfile, "tempdir", str(no_folder))
    with pytest.raises(ConfigError, match=f"the temporary folder {no_folder} cannot be written to .* TMPDIR"):
        require_folders()


def test_a_server_that_does_not_answer() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with socket.socket() as taken:  # bound but not listening: whoever connects is refused at once
        taken.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        with (
            temporary_settings({PREFECT_API_URL: address}),
            pytest.raises(ConfigError, match=f"{address} does not answer .*refused.*correct PREFECT_API_URL"),
        ):
            require_server()


class SignInPage(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>Sign in</title>")

    def log_message(self, *_: object) -> None:
        pass


def test_a_page_to_sign_in_is_no_server() -> None:
    from prefect.settings import PREFECT_API_URL, temporary_settings

    with http.server.HTTPServer(("127.0.0.1", 0), SignInPage) as page:
        answering = threading.Thread(target=page.handle_request)
        answering.start()
        address = f"http://127.0.0.1:{page.server_port}/api"
        with (
            temporary_settings({PREFECT_API_URL: address}),
            pytest.raises(ConfigError, match=f"a web page answers at {address}, .* sign in anew there, or start it"),
        ):
            require_server()
        answering.join()


@pytest.mark.parametrize("variable", ["NO_PROXY", "no_proxy", "unset"])
def test_no_proxy_between_this_machine_and_itself(variable: str) -> None:
    """What the libraries of MLflow and of Prefect do, in a process where a proxy is set; other exceptions are kept."""
    asked = """
import json, attrail_flows, httpx, requests
from requests.utils import get_environ_proxies
hosts = ("127.0.0.1:5000", "localhost:4200", "mlflow.example", "inside.example")
client = httpx.Client()
direct = [isinstance(client._transport_for_url(httpx.URL(f"http://{host}/")), httpx.HTTPTransport)
          and client._transport_for_url(httpx.URL(f"http://{host}/")) is client._transport for host in hosts]
print(json.dumps([[not get_environ_proxies(f"http://{host}/") for host in hosts], direct]))
"""
    environment = {key: value for key, value in os.environ.items() if "proxy" not in key.lower()}
    environment |= {"HTTP_PROXY": "http://127.0.0.1:9", "http_proxy": "http://127.0.0.1:9", variable: "inside.example"}
    done = subprocess.run([sys.executable, "-c", asked], env=environment, capture_output=True, text=True, check=True)
    kept = variable != "unset"
    assert json.loads(done.stdout) == [[True, True, False, kept], [True, True, False, kept]]
