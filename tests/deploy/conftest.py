"""What the tests of this folder share: a module, and a real Prefect server."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import temporary_settings
from prefect.testing.utilities import prefect_test_harness

sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def client() -> Iterator[SyncPrefectClient]:
    """A client of a Prefect server of the module's own."""
    quiet = {"server.analytics_enabled": False, "logging.to_api.enabled": False}
    with (
        temporary_settings(quiet),
        prefect_test_harness(server_startup_timeout=240),
        get_client(sync_client=True) as found,
    ):
        yield found
