"""attrail_mlflow: pull model versions from MLflow's registry and keep the evidence of audits in MLflow.

Imported before MLflow, the package sets MLflow's telemetry off for this process (see ``quiet``); imported by MLflow, as
a plugin in somebody else's process, it changes nothing. It loads neither torch nor MLflow; using one of its names does.
``mlflow_plugin/README.md`` shows each of them at work.
"""

import sys
from typing import TYPE_CHECKING

from attrail_explainers.lazy import lazy_names
from attrail_mlflow.log_classifier import log_classifier  # now, or an import of that module would put it in its place

if "mlflow" not in sys.modules:
    import attrail_mlflow.quiet  # noqa: F401

if TYPE_CHECKING:
    from attrail_mlflow.registry.registry import RegisteredVersion, Registry
else:
    __getattr__, __dir__ = lazy_names(
        __name__, {"RegisteredVersion": "registry.registry", "Registry": "registry.registry"}
    )

__all__ = ["RegisteredVersion", "Registry", "log_classifier"]
