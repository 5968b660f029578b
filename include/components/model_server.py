"""The server in every model image: standard library and joblib only, so that it starts within seconds.

``GET /health`` and ``POST /predict`` with ``experiment`` (a folder below models/) and ``items`` (a list of objects);
the answer holds ``predictions`` (numbers, in the order of the items) and ``model`` (what the model says of itself).
Listens on 127.0.0.1:$PORT. ``features.vector`` beside this file turns an item into the model's input. What the caller
did wrong is 400 with one sentence, any other page 404. SIGTERM ends it once the requests under way are answered.
"""

import json
import os
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import features
import joblib

HERE = Path(__file__).resolve().parent
LARGEST_BODY = 4 * 2**20
MOST_DRAINED = 16 * LARGEST_BODY
IDLE_SECONDS = 10  # for a caller that sends nothing: also the longest that the end may wait for one


class BadRequest(Exception):
    """The caller's mistake; its text is the answer."""


def load_models(folder):
    """Experiment to (model, description)."""
    found = {}
    for entry in sorted(path for path in Path(folder).glob("*") if path.is_dir()):
        try:
            description = json.loads((entry / "model.json").read_text())
            found[entry.name] = (joblib.load(entry / "model.joblib"), description)
        except (OSError, ValueError) as error:
            sys.exit(f"the model in {entry} cannot be loaded: {error}")
    if not found:
        sys.exit(f"no model in {folder}")
    return found


class Handler(BaseHTTPRequestHandler):
    """One request."""

    models: ClassVar[dict] = {}
    timeout = IDLE_SECONDS

    def do_GET(self):
        """Health, with the names of the models."""
        if self.path == "/health":
            self._answer(200, {"status": "ok", "experiments": sorted(self.models)})
        else:
            self._no_such_page()

    def do_POST(self):
        """Predictions."""
        if self.path != "/predict":
            self._no_such_page()
            return
        try:
            self._answer(200, self._predict(self._body()))
        except BadRequest as error:
            self._answer(400, {"error": str(error)})
        except TimeoutError:
            raise
        except Exception as error:  # the caller shall hear of it, and the other requests shall not
            self.log_error("%r", error)
            self._answer(500, {"error": f"the model failed: {type(error).__name__}"})

    def _no_such_page(self):
        self._answer(404, {"error": f"no such page: {self.path}; ask GET /health or POST /predict"})

    def _body(self):
        text = self.headers.get("Content-Length") or "0"
        length = int(text) if text.isascii() and text.isdigit() else 0
        if not 0 < length <= LARGEST_BODY:
            self._drain(length)
            raise BadRequest(f"send a JSON object of at most {LARGEST_BODY} bytes, with its Content-Length")
        try:
            body = json.loads(self.rfile.read(length))
        except (ValueError, RecursionError) as error:
            raise BadRequest(f"the body is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise BadRequest("send a JSON object with experiment and items")
        return body

    def _drain(self, length):
        """Reads a refused body: who is still sending when the connection closes does not get to read the answer."""
        left = min(length, MOST_DRAINED)
        while left > 0 and (chunk := self.rfile.read(min(left, 2**16))):
            left -= len(chunk)

    def _predict(self, body):
        model, description = self._chosen(body.get("experiment"))
        items = body.get("items")
        if not isinstance(items, list) or not items:
            raise BadRequest("items must be a list with at least one object")
        vectors = []
        for number, item in enumerate(items):
            try:
                vectors.append(features.vector(item))
            except ValueError as error:
                raise BadRequest(f"items[{number}]: {error}") from None
        return {"predictions": [float(value) for value in model.predict(vectors)], "model": description}

    def _chosen(self, name):
        """The named model, or the only one."""
        if name is None and len(self.models) == 1:
            name = next(iter(self.models))
        if not isinstance(name, str) or name not in self.models:
            raise BadRequest(f"no experiment {name!r}; there are {', '.join(self.models)}")
        return self.models[name]

    def _answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


class Server(ThreadingHTTPServer):
    """Waits for the requests under way when it is closed."""

    daemon_threads = False


def main():
    """Loads every model, then serves until SIGTERM."""
    # As process 1 of a container it would ignore the signal if it did not ask for it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Handler.models = load_models(HERE / "models")
    with Server(("127.0.0.1", int(os.environ["PORT"])), Handler) as server:
        print(f"serving {', '.join(Handler.models)} on port {server.server_port}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
