#!/usr/bin/env bash
# safetensors.numpy.save_file writes a transposed array in the order of its memory: another array is read back.
#
# Versions:  safetensors 0.8.0, numpy 2.4.6, Python 3.11.
# Behaviour: an array that is not C-contiguous (a transpose, channels-last outputs of a network brought to channels first,
#            a Fortran-ordered matrix) is saved without a word, its shape as NumPy says it and its bytes as memory holds
#            them. What is loaded has the right shape and dtype, and of a transpose the right set of values, each at
#            another place; of every second row it has the first rows instead. Whatever np.ascontiguousarray was
#            called on comes out right.
# Way out:   {name: np.ascontiguousarray(array) for name, array in arrays.items()} before every save and save_file.
#
# Seen:      contiguous: the same values
#            transposed: other values, the same shape: True, the same set of values: True
#            Fortran-ordered: other values, the same shape: True, the same set of values: True
#            every second row: other values, the same shape: True, the same set of values: False
#            transposed, made contiguous: the same values
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check safetensors==0.8.0 numpy==2.4.6 2>"$folder/pip" ||
    { cat "$folder/pip"; exit 1; }
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import numpy as np
from safetensors.numpy import load_file, save_file

plain = np.arange(6, dtype=np.float32).reshape(2, 3)
kinds = {
    "contiguous": plain,
    "transposed": plain.T,
    "Fortran-ordered": np.asfortranarray(plain),
    "every second row": np.arange(12, dtype=np.float32).reshape(4, 3)[::2],
    "transposed, made contiguous": np.ascontiguousarray(plain.T),
}
for kind, array in kinds.items():
    save_file({"array": array}, "array.safetensors")
    found = load_file("array.safetensors")["array"]
    if np.array_equal(found, array):
        print(f"{kind}: the same values")
    else:
        alike = found.shape == array.shape, sorted(found.flat) == sorted(array.flat)
        print(f"{kind}: other values, the same shape: {alike[0]}, the same set of values: {alike[1]}")
PYTHON
diff - seen <<'EXPECTED'
contiguous: the same values
transposed: other values, the same shape: True, the same set of values: True
Fortran-ordered: other values, the same shape: True, the same set of values: True
every second row: other values, the same shape: True, the same set of values: False
transposed, made contiguous: the same values
EXPECTED
