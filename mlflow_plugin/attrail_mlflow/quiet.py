"""Before MLflow is imported: its telemetry off, its retries short, and a pickled model refused unless allowed.

And no proxy between this machine and itself: servers on 127.0.0.1 are spoken to directly, whatever HTTP_PROXY says.
"""

import os

DEFAULTS = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}

for _name, _value in DEFAULTS.items():
    os.environ.setdefault(_name, _value)

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_direct = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""  # libraries read the lower case first
_known = [each.strip() for each in _direct.split(",") if each.strip()]
if "*" not in _known:
    os.environ["no_proxy"] = os.environ["NO_PROXY"] = ",".join(
        [*_known, *(each for each in LOOPBACK if each not in _known)]
    )
