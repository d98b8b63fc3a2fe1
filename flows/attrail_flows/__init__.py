"""attrail_flows: the audit as a Prefect flow, the configuration file and the command line.

Importing the package turns Prefect's and MLflow's telemetry off for this process and everything it starts, and must
come before torch is imported for its threads to wait politely. It loads no Prefect. Each flow has the name of its
module, and is imported from there: ``from attrail_flows.audit import audit``. ``flows/README.md`` shows how.
"""

import os
from typing import TYPE_CHECKING

import attrail_mlflow.quiet  # noqa: F401 - before MLflow is imported
from attrail_explainers.lazy import lazy_names

if TYPE_CHECKING:
    from attrail_flows.configuration import AuditConfig, read_config
else:
    __getattr__, __dir__ = lazy_names(__name__, {"AuditConfig": "configuration", "read_config": "configuration"})

__all__ = ["AuditConfig", "read_config"]

DEFAULTS = {
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_LOGGING_EXTRA_LOGGERS": "attrail",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",
    "GX_ANALYTICS_ENABLED": "false",
    # torch threads spin only briefly before they sleep: as fast alone, twice as fast beside another busy process.
    "GOMP_SPINCOUNT": "1000",
}

for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)
