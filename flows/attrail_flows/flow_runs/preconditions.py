"""What a flow needs around it, tried in seconds: folders that can be written to, and Prefect's server."""

import os
import tempfile
from pathlib import Path

from attrail_explainers.errors import ConfigError

WAIT = 5.0  # seconds for an answer of Prefect's server


def require_folders(*outputs: Path) -> None:
    """Raise ConfigError for the first of ``outputs``, temporary folder and Prefect's home that cannot be written to."""
    for folder in outputs:
        require_writable(folder, "the folder", "name another one")
    require_temporary()
    require_writable(_home(), "Prefect's home", "set PREFECT_HOME to a folder that can be written to")


def require_output(file: Path) -> None:
    """Raise ConfigError for a file that cannot be written, or a pipe, which would wait for whoever reads it."""
    if file.is_fifo() or file.is_socket():
        raise ConfigError(f"{file} is a pipe or a socket, a file to write was expected: name another one")
    if file.exists() and not os.access(file, os.W_OK):
        raise ConfigError(f"the file {file} cannot be written: name another one")


def require_server() -> None:
    """Raise ConfigError if nothing answers at the address of Prefect's API, or a web page does, as where one signs in.

    Without an address Prefect starts a server of its own, in its home.
    """
    import httpx  # noqa: PLC0415 - it comes with Prefect
    from prefect.settings import get_current_settings  # noqa: PLC0415 - it reads the home, which was tried before

    address = get_current_settings().api.url
    if not address:
        return
    remedy = "start it, correct PREFECT_API_URL, or unset it for a server of this process's own"
    try:
        answer = httpx.get(f"{address.rstrip('/')}/health", timeout=WAIT)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        if "SSL" not in str(error):  # Prefect has certificates of its own
            reason = str(error) or type(error).__name__
            raise ConfigError(f"Prefect's server at {address} does not answer ({reason}): {remedy}") from error
    else:
        if "html" in answer.headers.get("content-type", ""):
            raise ConfigError(f"a web page answers at {address}, not Prefect's server: sign in anew there, or {remedy}")


def require_temporary() -> None:
    """Raise ConfigError when no temporary file can be made."""
    try:
        folder = Path(tempfile.gettempdir())
    except FileNotFoundError as error:
        raise ConfigError(f"there is no temporary folder to write to: set TMPDIR to one ({error.strerror})") from error
    require_writable(folder, "the temporary folder", "free some room there, or set TMPDIR to another one")


def require_writable(folder: Path, what: str, remedy: str) -> None:
    """Raise ConfigError when no file can be written in a folder, which is made if it is not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise ConfigError(f"{what} {folder} cannot be written to ({error.strerror}): {remedy}") from error


def _home() -> Path:
    try:
        return Path(os.environ.get("PREFECT_HOME", "~/.prefect")).expanduser()
    except RuntimeError as error:
        raise ConfigError("there is no home folder: set HOME or PREFECT_HOME to a folder of your own") from error
