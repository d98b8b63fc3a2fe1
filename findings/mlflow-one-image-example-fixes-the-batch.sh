#!/usr/bin/env bash
# A model logged with an example of one image takes one image at a time, though its signature says any number.
#
# Versions:  mlflow 3.17.2, torch 2.15.0, Python 3.11.
# Behaviour: mlflow.pytorch.log_model exports the module (pt2, the default in this version) with a batch of any size, but
#            torch.export makes a constant of every dimension that is 1 in the example. A comment in MLflow's source calls
#            that expected. The signature that is kept beside the export says -1, any size, all the same, the example that
#            MLflow tries the model with passes, and what is said of it is a line in torch's log. The first batch of two
#            images that is sent to the served model fails.
# Way out:   two or more images in input_example.
#
# Seen:      example of 1, signature (-1, 3, 4, 4): batch of 1 (1, 3), batch of 2 Guard failed: input.size()[0] == 1
#            example of 2, signature (-1, 3, 4, 4): batch of 1 (1, 3), batch of 2 (2, 3)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check mlflow==3.17.2 torch==2.15.0 numpy
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import mlflow
import numpy as np
from torch import nn

mlflow.set_tracking_uri("sqlite:///mlflow.db")
module = nn.Sequential(nn.Flatten(), nn.Linear(48, 3)).eval()


def images(number):
    return np.ones((number, 3, 4, 4), np.float32)


def answer(served, number):
    try:
        return served.predict(images(number)).shape
    except AssertionError as error:
        return str(error)


for number in (1, 2):
    logged = mlflow.pytorch.log_model(module, name="m", input_example=images(number), pip_requirements=["torch"])
    served = mlflow.pyfunc.load_model(logged.model_uri)
    told = [f"batch of {each} {answer(served, each)}" for each in (1, 2)]
    print(f"example of {number}, signature {logged.signature.inputs.inputs[0].shape}: {', '.join(told)}")
PYTHON
diff seen - <<'SEEN'
example of 1, signature (-1, 3, 4, 4): batch of 1 (1, 3), batch of 2 Guard failed: input.size()[0] == 1
example of 2, signature (-1, 3, 4, 4): batch of 1 (1, 3), batch of 2 (2, 3)
SEEN
