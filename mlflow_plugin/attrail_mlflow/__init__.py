"""attrail_mlflow: pull model versions from MLflow's registry and keep the evidence of audits in MLflow.

Importing the package sets MLflow's telemetry off for this process (see ``quiet``) and loads no torch.
"""

from attrail_mlflow import quiet as quiet
