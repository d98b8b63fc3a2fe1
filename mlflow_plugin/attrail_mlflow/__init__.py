"""attrail_mlflow: pull model versions from MLflow's registry and keep the evidence of audits in MLflow.

Importing the package sets MLflow's telemetry off for this process (see ``quiet``) and loads no torch.
"""

import attrail_mlflow.quiet  # noqa: F401 - before MLflow is imported
