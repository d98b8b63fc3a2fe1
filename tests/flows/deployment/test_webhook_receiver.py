"""The receiver of webhooks: quick answers, and one audit for every version, whatever fails meanwhile."""

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from attrail_flows.deployment.webhook_receiver import Starter, create_app
from attrail_mlflow.webhooks.delivery import sign_delivery
from attrail_mlflow.webhooks.inbox import Inbox, Version

SECRET = b"what MLflow and the receiver know"


class Prefect:
    """Where audits are started; it fails as often as it is told to."""

    def __init__(self, failures: int = 0) -> None:
        self.failures, self.started, self.news = failures, list[Version](), threading.Event()

    def __call__(self, version: Version) -> None:
        if self.failures:
            self.failures -= 1
            raise ConnectionError("Prefect is not there")
        self.started.append(version)
        self.news.set()


def body(version: str = "7", name: str = "digits", action: str = "created") -> bytes:
    data = {"name": name, "version": version, "source": f"models:/m-{version}"}
    return json.dumps({"entity": "model_version", "action": action, "data": data}).encode()


def post(client: TestClient, content: bytes, id_: str = "1", secret: bytes = SECRET) -> int:
    now = str(int(time.time()))
    signature = sign_delivery(id_, now, content, secret)
    headers = {"X-MLflow-Delivery-Id": id_, "X-MLflow-Timestamp": now, "X-MLflow-Signature": signature}
    return client.post("/mlflow", content=content, headers=headers).status_code


def served(folder: Path, prefect: Prefect) -> TestClient:
    box = Inbox(folder / "inbox.db")
    return TestClient(create_app(box, Starter(box, prefect, again=0.05), SECRET, "digits"))


@pytest.fixture
def prefect() -> Prefect:
    return Prefect()


@pytest.fixture
def client(tmp_path: Path, prefect: Prefect) -> Iterator[TestClient]:
    with served(tmp_path, prefect) as found:
        yield found


def test_a_new_version_starts_one_audit(client: TestClient, prefect: Prefect) -> None:
    assert [post(client, body(), id_) for id_ in ("1", "1", "2")] == [202, 200, 200]
    assert prefect.news.wait(5)
    assert post(client, body(), "3") == 200
    assert prefect.started == [("digits", "7", "models:/m-7")]


def test_what_is_no_new_version_of_the_model_is_left_alone(client: TestClient, prefect: Prefect) -> None:
    assert post(client, body(name="example_model")) == 200
    assert post(client, body(action="deleted")) == 200
    assert prefect.started == []


def test_what_mlflow_did_not_send_is_refused(client: TestClient, prefect: Prefect) -> None:
    assert post(client, body(), secret=b"guess") == 401
    assert client.post("/mlflow", content=body()).status_code == 401
    assert client.post("/mlflow", content=b"x" * 3_000_000).status_code == 401
    assert client.get("/health").json() == {"waiting": 0}


def test_an_audit_that_could_not_be_started_is_started_later(tmp_path: Path) -> None:
    prefect = Prefect(failures=3)
    with served(tmp_path, prefect) as client:
        assert post(client, body()) == 202
        assert prefect.news.wait(5)
    assert prefect.started == [("digits", "7", "models:/m-7")]


def test_what_waited_when_the_receiver_ended_is_started_when_it_begins(tmp_path: Path) -> None:
    with served(tmp_path, Prefect(failures=10_000)) as client:
        assert post(client, body()) == 202
    prefect = Prefect()
    with served(tmp_path, prefect):
        assert prefect.news.wait(5)
    assert prefect.started == [("digits", "7", "models:/m-7")]


def test_an_answer_takes_milliseconds(client: TestClient) -> None:
    times = []
    for number in range(20):
        content = body(str(number + 1))
        started = time.perf_counter()
        assert post(client, content, str(number)) == 202
        times.append(time.perf_counter() - started)
    assert sorted(times)[10] < 0.25, "the median of an answer, on a machine that is busy otherwise"
