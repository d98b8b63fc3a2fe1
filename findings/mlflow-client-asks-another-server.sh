#!/usr/bin/env bash
# A client that was given an address registers a logged model by asking another address, the process's own.
#
# Versions:  mlflow 3.17.2, two SQLite files, Python 3.11.
# Behaviour: MlflowClient(tracking_uri=A, registry_uri=A) reads and writes A. Only where create_model_version is given the
#            models:/m-... source that MLflow 3 prints for a logged model, it looks that model up at the address that
#            mlflow.set_tracking_uri set last in this process. With B set there the logged model, which A holds and the
#            same client shows, is not found, and that is called INTERNAL_ERROR, as if trying again could help.
# Way out:   mlflow.set_tracking_uri(A) before, in every process that holds clients of several servers.
#
# Seen:      the client shows it: READY
#            address of the process is B: INTERNAL_ERROR
#            address of the process is A: version 1
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check mlflow==3.17.2
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import mlflow
from mlflow.exceptions import MlflowException

here, there = "sqlite:///a.db", "sqlite:///b.db"
client = mlflow.MlflowClient(tracking_uri=here, registry_uri=here)
model = client.create_logged_model(client.create_experiment("training"), name="m")
client.finalize_logged_model(model.model_id, "READY")
client.create_registered_model("m")
print("the client shows it:", client.get_logged_model(model.model_id).status)
for shown, address in (("B", there), ("A", here)):
    mlflow.set_tracking_uri(address)
    try:
        said = f"version {client.create_model_version('m', f'models:/{model.model_id}').version}"
    except MlflowException as error:
        said = error.error_code
    print(f"address of the process is {shown}: {said}")
PYTHON
diff seen - <<'SEEN'
the client shows it: READY
address of the process is B: INTERNAL_ERROR
address of the process is A: version 1
SEEN
