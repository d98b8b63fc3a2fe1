"""MLflow's errors in one sentence, and whether trying again may help: the one place that says so.

MLflow's client has tried again by itself already, a few seconds long, where a connection broke or a server answered
408, 429 or 5xx. What a server refused is refused the next time as well; so is what a sign-in page answers. A host that
has no address may have one again: containers lose theirs while they start anew.
"""

import contextlib
import traceback
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import TypeVar
from urllib.parse import urlsplit

import mlflow
import requests
from mlflow.environment_variables import MLFLOW_TRACKING_PASSWORD, MLFLOW_TRACKING_TOKEN, MLFLOW_TRACKING_USERNAME
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos.databricks_pb2 import (
    ABORTED,
    BAD_REQUEST,
    DEADLINE_EXCEEDED,
    INTERNAL_ERROR,
    INVALID_PARAMETER_VALUE,
    REQUEST_LIMIT_EXCEEDED,
    RESOURCE_DOES_NOT_EXIST,
    RESOURCE_EXHAUSTED,
    TEMPORARILY_UNAVAILABLE,
    ErrorCode,
)
from mlflow.utils.credentials import read_mlflow_creds

from attrail_explainers.errors import RegistryError

MAY_PASS = {
    ErrorCode.Name(code)
    for code in (
        *(ABORTED, DEADLINE_EXCEEDED, INTERNAL_ERROR),
        *(REQUEST_LIMIT_EXCEEDED, RESOURCE_EXHAUSTED, TEMPORARILY_UNAVAILABLE),
        BAD_REQUEST,  # what MLflow makes of a database's connection that broke; a wrong value is another code
    )
}
ABSENT = {ErrorCode.Name(code) for code in (RESOURCE_DOES_NOT_EXIST, INVALID_PARAMETER_VALUE)}  # the latter: an alias
HTTP_MAY_PASS = {408, 425, 429}
WHO_ARE_YOU = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
PASSWORD = f"{MLFLOW_TRACKING_USERNAME} and {MLFLOW_TRACKING_PASSWORD}"
LASTING = (FileNotFoundError, PermissionError)
BODY = "Response body: '"  # MLflow's words before the text of an answer that is not JSON
SIGN_IN = "answers with a web page, as a sign-in page or a proxy does: sign in anew, or correct its address"


Answer = TypeVar("Answer")


@contextlib.contextmanager
def asking(what: str, server: str = "") -> Iterator[None]:
    """Ask MLflow in the block; what it or the network raises there becomes the RegistryError of ``registry_error``."""
    try:
        yield
    except (MlflowException, OSError) as error:  # an answer like 503 or 507 to files comes as an OSError
        raise registry_error(what, error, server) from error


def found_or_none(ask: Callable[..., Answer], *arguments: object) -> Answer | None:
    """What ``ask`` returns, None where MLflow says that there is no such thing; raises its other errors."""
    try:
        return ask(*arguments)
    except MlflowException as error:
        if error.error_code not in ABSENT:
            raise
        return None


def registry_error(what: str, error: MlflowException | OSError, server: str = "") -> RegistryError:
    """A RegistryError that says what failed, and why, and is transient where trying again may help.

    ``server`` is the address to name where it is MLflow that says why.
    """
    said = reason(error)
    named = server and isinstance(error, MlflowException)
    told = f"{what} (MLflow at {server} says: {said})" if named else f"{what}: {said}"
    return RegistryError(told, transient=may_pass(error))


def may_pass(error: MlflowException | OSError) -> bool:
    """Whether the same request may be answered in a minute: nothing for it has to be mended by a person first."""
    if isinstance(error, OSError):
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is None:
            return not isinstance(error, (*LASTING, ValueError))  # a malformed address is a ValueError too
        return status >= 500 or status in HTTP_MAY_PASS
    if isinstance(error, RestException):
        return (error.json.get("error_code") or "") in MAY_PASS
    malformed = any(isinstance(each, ValueError) for each in _causes(error))  # an address, or a certificate
    return error.error_code in MAY_PASS and BODY not in str(error) and not malformed


def reason(error: MlflowException | OSError) -> str:
    """Why MLflow failed, in its own words, whole, without the page or the chain of exceptions around them."""
    chain = [error, *_causes(error)]
    if any(isinstance(each, requests.exceptions.RequestException) and each.response is None for each in chain):
        return f"the server does not answer ({_first_line(chain[-1])})"
    _, _, body = str(error).partition(BODY)
    if body.lstrip().startswith("<"):
        return f"the server {SIGN_IN}"
    answer = _answer(error)
    if answer is not None and answer.status_code in WHO_ARE_YOU and "attrail" not in getattr(error, "json", {}):
        return _refusal(answer)
    return _first_line(error) if not body else " ".join(str(error).split())


def _answer(error: BaseException) -> requests.Response | None:
    """What the server answered: MLflow's own errors do not keep its status, but the frame that raised them has it."""
    kept = getattr(error, "response", None)
    frames = (frame.f_locals.get("response") for frame, _ in traceback.walk_tb(error.__traceback__))
    return next((each for each in (kept, *frames) if isinstance(each, requests.Response)), None)


def _refusal(answer: requests.Response) -> str:
    """That a server does not let this process in, what it said, and where to look."""
    status, server = HTTPStatus(answer.status_code), _origin(answer.url)
    said = " ".join(answer.text.split())
    told = f"{server} answers {status.value} {status.phrase}" + (f" ({said})" if said else "")
    if server != _origin(mlflow.get_tracking_uri()):
        return f"{told}: see whether this process may read and write there"
    if all(read_mlflow_creds()):  # MLflow's client prefers them to a token
        return f"{told}: see whether {PASSWORD} are right, and may do this"
    if MLFLOW_TRACKING_TOKEN.get():
        return f"{told}: see whether {MLFLOW_TRACKING_TOKEN} is still valid, and may do this"
    return f"{told}: this process gives no name; if that is why, set {MLFLOW_TRACKING_TOKEN}, or {PASSWORD}"


def _origin(address: str) -> str:
    """Scheme and host of an address, without a password."""
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


def _causes(error: BaseException) -> list[BaseException]:
    """The exceptions that led to this one, the first cause last."""

    def above(each: BaseException) -> Iterator[BaseException]:
        found = each.__cause__ or each.__context__
        if found is not None:
            yield found
            yield from above(found)

    return list(above(error))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).partition("\n")[0]
