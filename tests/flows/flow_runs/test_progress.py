"""Progress says how much is left."""

import logging

import pytest

from attrail_flows.flow_runs import progress
from attrail_flows.flow_runs.progress import LoggedProgress


def test_time_left_is_what_the_pace_says(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    counted = LoggedProgress("explain net/1", 40, started=100.0, logged=100.0)
    with caplog.at_level(logging.INFO, logger="attrail.progress"):
        for _ in range(10):
            now[0] += 4
            counted.advance(1)
    assert [record.getMessage() for record in caplog.records] == ["explain net/1: 8 of 40 maps, about 128 s left"]
