#!/usr/bin/env bash
# A PyTorch model that returns a tuple or a dict cannot be logged with an example, and the message is about its input.
#
# Versions:  mlflow 3.17.2, torch 2.15.0, Python 3.11.
# Behaviour: mlflow.pytorch.log_model in its default pt2 format infers a signature from the input_example. For a module
#            that returns (features, logits), or {"logits": ...}, no output schema of tensors can be inferred; what is
#            raised says that the *input* signature must be specified using TensorSpec, though the example is one plain
#            float array; a warning in the log alone names the output. torch.export takes the module, and with a
#            signature of the input alone, given by hand, MLflow logs it, loads it back, and it answers the same.
# Way out:   signature=ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 3, 8, 8))])), without outputs.
#
# Seen:      one tensor, with an example: logged
#            a tuple, with an example: MlflowException, names the input: True, names the output: False
#            a dict, with an example: MlflowException, names the input: True, names the output: False
#            a tuple, input signature by hand: logged, the same answers: True
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    mlflow==3.17.2 torch==2.15.0 torchvision==0.29.2
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import mlflow
import numpy as np
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import ModelSignature
from mlflow.types import Schema, TensorSpec


class Net(torch.nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind, self.head = kind, torch.nn.Linear(192, 4)

    def forward(self, images):
        logits = self.head(images.flatten(1))
        return {"one tensor": logits, "a tuple": (images, logits), "a dict": {"logits": logits}}[self.kind]


example = np.zeros((2, 3, 8, 8), np.float32)
for kind in ("one tensor", "a tuple", "a dict"):
    try:
        mlflow.pytorch.save_model(Net(kind).eval(), kind.replace(" ", "-"), input_example=example)
        print(f"{kind}, with an example: logged")
    except MlflowException as error:
        named = [word in str(error) for word in ("input signature", "output")]
        print(f"{kind}, with an example: MlflowException, names the input: {named[0]}, names the output: {named[1]}")
net = Net("a tuple").eval()
signature = ModelSignature(Schema([TensorSpec(np.dtype("float32"), (-1, 3, 8, 8))]))
mlflow.pytorch.save_model(net, "by-hand", input_example=example, signature=signature)
images = torch.randn(2, 3, 8, 8)
same = torch.allclose(mlflow.pytorch.load_model("by-hand")(images)[1], net(images)[1])
print(f"a tuple, input signature by hand: logged, the same answers: {same}")
PYTHON
diff - seen <<'EXPECTED'
one tensor, with an example: logged
a tuple, with an example: MlflowException, names the input: True, names the output: False
a dict, with an example: MlflowException, names the input: True, names the output: False
a tuple, input signature by hand: logged, the same answers: True
EXPECTED
