#!/usr/bin/env bash
# mlflow.keras.log_model with an input_example always fails, so no Keras 3 model gets a signature by itself.
#
# Versions:  mlflow 3.17.2, keras 3.15.1 on torch 2.15.0, Python 3.11.
# Behaviour: mlflow.keras.save_model and log_model write input_example.json into the model's folder before they make
#            that folder: FileNotFoundError, for any example. Other flavours (pytorch, onnx) make the folder first. Without
#            the example the same model is saved, and then has no signature: who fetches it knows neither the size of
#            its images nor the number of its outputs. A signature that is given by hand is kept.
# Way out:   log_model(model, signature=mlflow.models.infer_signature(images, model.predict(images))).
#
# Seen:      with an example: FileNotFoundError input_example.json
#            without: saved, signature None
#            with a signature: saved, (-1, 8, 8, 3)
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    mlflow==3.17.2 keras==3.15.1 torch==2.15.0
cd "$folder"
KERAS_BACKEND=torch "$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import keras
import mlflow
import numpy as np

images = np.zeros((2, 8, 8, 3), np.float32)
model = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.GlobalAveragePooling2D(), keras.layers.Dense(4)])
try:
    mlflow.keras.save_model(model, "first", input_example=images)
    print("with an example: saved")
except FileNotFoundError as error:
    print("with an example: FileNotFoundError", str(error.filename).rpartition("/")[2])
mlflow.keras.save_model(model, "second")
print("without: saved, signature", mlflow.models.Model.load("second").signature)
mlflow.keras.save_model(model, "third", signature=mlflow.models.infer_signature(images, np.zeros((2, 4), np.float32)))
print("with a signature: saved,", mlflow.models.Model.load("third").signature.inputs.inputs[0].shape)
PYTHON
diff - seen <<'EXPECTED'
with an example: FileNotFoundError input_example.json
without: saved, signature None
with a signature: saved, (-1, 8, 8, 3)
EXPECTED
