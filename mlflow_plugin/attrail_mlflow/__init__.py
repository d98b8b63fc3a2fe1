"""attrail_mlflow: pull model versions from MLflow's registry and keep the evidence of audits in MLflow.

Imported before MLflow, the package sets MLflow's telemetry off for this process (see ``quiet``); imported by MLflow, as
a plugin in somebody else's process, it changes nothing. It loads no torch.
"""

import sys

if "mlflow" not in sys.modules:
    import attrail_mlflow.quiet  # noqa: F401
