#!/usr/bin/env bash
# A gateway's refusal in JSON becomes INTERNAL_ERROR, status 500: the client forgets that it was 401, 403 or 404.
#
# Versions:  mlflow-skinny 3.17.2, a web server of Python's own library as the gateway, Python 3.11.
# Behaviour: MLflow's client reads every answer that is JSON as an error of MLflow. Where a gateway in front of the
#            server refuses with JSON of its own, {"detail": "..."} as FastAPI and many proxies write it, there is no
#            error_code in it, and the exception says INTERNAL_ERROR with get_http_status_code() 500, whatever it was.
#            Nothing of the exception tells a wrong password from a server that broke: who retries on
#            INTERNAL_ERROR, which transient errors have, retries what is refused for good. The same refusal in plain
#            text is UNAUTHENTICATED, 401: the more a gateway says, the less is understood.
# Way out:   have the gateway answer {"error_code": "UNAUTHENTICATED", "message": "..."}, or read the message.
#
# Seen:      401, JSON of the gateway: INTERNAL_ERROR 500, says 401: False
#            403, JSON of the gateway: INTERNAL_ERROR 500, says 403: False
#            404, JSON of the gateway: INTERNAL_ERROR 500, says 404: False
#            401, plain text: UNAUTHENTICATED 401, says 401: True
#            401, JSON with a code of MLflow: UNAUTHENTICATED 401, says 401: False
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check mlflow-skinny==3.17.2
cd "$folder"
"$folder/venv/bin/python" - 2>log <<'PYTHON' | tee seen || { cat log; exit 1; }
import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

os.environ["MLFLOW_HTTP_REQUEST_MAX_RETRIES"] = "0"
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

ANSWERS = {
    "JSON of the gateway": json.dumps({"detail": "refused"}),
    "plain text": "refused",
    "JSON with a code of MLflow": json.dumps({"error_code": "UNAUTHENTICATED", "message": "refused"}),
}


class Gateway(BaseHTTPRequestHandler):
    def do_GET(self):
        _, status, kind, *_ = self.path.split("/")
        body = ANSWERS[kind.replace("_", " ")].encode()
        self.send_response(int(status))
        self.send_header("Content-Type", "text/plain" if kind == "plain_text" else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Gateway)
threading.Thread(target=server.serve_forever, daemon=True).start()
base = f"http://127.0.0.1:{server.server_port}"
for status, kind in (
    (401, "JSON of the gateway"), (403, "JSON of the gateway"), (404, "JSON of the gateway"), (401, "plain text"),
    (401, "JSON with a code of MLflow"),
):
    try:
        MlflowClient(f"{base}/{status}/{kind.replace(' ', '_')}").get_run("0" * 32)
    except MlflowException as error:
        seen = f"{error.error_code} {error.get_http_status_code()}, says {status}: {f'code {status}' in str(error)}"
        print(f"{status}, {kind}: {seen}")
PYTHON
diff seen - <<'SEEN'
401, JSON of the gateway: INTERNAL_ERROR 500, says 401: False
403, JSON of the gateway: INTERNAL_ERROR 500, says 403: False
404, JSON of the gateway: INTERNAL_ERROR 500, says 404: False
401, plain text: UNAUTHENTICATED 401, says 401: True
401, JSON with a code of MLflow: UNAUTHENTICATED 401, says 401: False
SEEN
