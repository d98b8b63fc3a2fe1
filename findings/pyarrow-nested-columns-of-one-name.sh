#!/usr/bin/env bash
# Of the file names of images and masks in a Hugging Face parquet table, a reader that asks for both loses the first.
#
# Versions:  pyarrow 25.0.1, pandas 3.1.1, Python 3.11.
# Behaviour: datasets with images are written as columns of {bytes, path}. Asked for "image.path" and "mask.path", so as
#            not to read the pictures, pyarrow.parquet.read_table returns one table whose two columns are both called
#            "path": as rows, the mask's name stands where one expects two. pandas.read_parquet returns two columns
#            "path". pyarrow.parquet.ParquetFile.read, asked for the same, keeps "image" and "mask" apart.
# Way out:   ParquetFile.read, or read_table with the whole columns.
#
# Seen:      read_table: [{'path': 'masks/1.png'}]
#            read_parquet: ['path', 'path']
#            ParquetFile.read: [{'image': {'path': 'images/1.png'}, 'mask': {'path': 'masks/1.png'}}]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pyarrow==25.0.1 pandas==3.1.1
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

row = {"image": {"bytes": b"1", "path": "images/1.png"}, "mask": {"bytes": b"2", "path": "masks/1.png"}, "label": 0}
pq.write_table(pa.Table.from_pylist([row]), "table.parquet")
asked = ["image.path", "mask.path"]
print("read_table:", pq.read_table("table.parquet", columns=asked).to_pylist())
print("read_parquet:", list(pd.read_parquet("table.parquet", columns=asked).columns))
print("ParquetFile.read:", pq.ParquetFile("table.parquet").read(columns=asked).to_pylist())
PYTHON
diff seen - <<'SEEN'
read_table: [{'path': 'masks/1.png'}]
read_parquet: ['path', 'path']
ParquetFile.read: [{'image': {'path': 'images/1.png'}, 'mask': {'path': 'masks/1.png'}}]
SEEN
