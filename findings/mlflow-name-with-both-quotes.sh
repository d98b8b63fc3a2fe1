#!/usr/bin/env bash
# MLflow registers a model whose name holds both kinds of quotes, and no filter can ask for that model by its name.
#
# Versions:  mlflow 3.17.2 (the local file of SQLite), Python 3.11.
# Behaviour: filter strings know no escape. A name with one kind of quote is found inside the other kind; the forms that
#            SQL knows, a doubled quote or a backslash, are accepted and find nothing, without an error. A name with both
#            kinds can be registered and fetched, and only LIKE with "_" for the quotes finds its versions, together
#            with those of any other model that fits the pattern.
# Way out:   LIKE with "_", then compare the names that came back.
#
# Seen:      fetched: 5" o'neill
#            "o'neill": ["o'neill"]
#            'o''neill': []
#            'o\'neill': []
#            both, doubled: []
#            both, backslash: []
#            both, LIKE: ["5' o'neill", '5" o\'neill']
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check mlflow==3.17.2
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import mlflow

mlflow.set_tracking_uri("sqlite:///mlflow.db")
client = mlflow.MlflowClient()
both = "5\" o'neill"
for name in ("o'neill", both, "5' o'neill"):
    client.create_registered_model(name)
    client.create_model_version(name, source="/tmp")
print("fetched:", client.get_registered_model(both).name)
for shown, wanted in (
    ("\"o'neill\"", "name = \"o'neill\""),
    ("'o''neill'", "name = 'o''neill'"),
    (r"'o\'neill'", r"name = 'o\'neill'"),
    ("both, doubled", "name = '5\" o''neill'"),
    ("both, backslash", r"""name = '5" o\'neill'"""),
    ("both, LIKE", "name LIKE '5_ o_neill'"),
):
    print(f"{shown}:", sorted((each.name for each in client.search_model_versions(wanted)), key=both.__eq__))
PYTHON
diff seen - <<'SEEN'
fetched: 5" o'neill
"o'neill": ["o'neill"]
'o''neill': []
'o\'neill': []
both, doubled: []
both, backslash: []
both, LIKE: ["5' o'neill", '5" o\'neill']
SEEN
