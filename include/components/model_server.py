"""The server in every model image: standard library and joblib only, so that it starts within seconds.

``GET /health`` and ``POST /predict`` with ``experiment`` (a folder below models/) and ``items`` (a list of objects);
the answer holds ``predictions`` (numbers, in the order of the items) and ``model`` (what the model says of itself).
Listens on 127.0.0.1:$PORT. ``features.vector`` beside this file turns an item into the model's input.
"""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import features
import joblib

HERE = Path(__file__).resolve().parent
LARGEST_BODY = 4 * 2**20


class BadRequest(Exception):
    """The caller's mistake; its text is the answer."""


def load_models(folder):
    """Experiment to (model, description)."""
    found = {}
    for entry in sorted(Path(folder).iterdir()):
        description = json.loads((entry / "model.json").read_text())
        found[entry.name] = (joblib.load(entry / "model.joblib"), description)
    if not found:
        sys.exit(f"no model in {folder}")
    return found


class Handler(BaseHTTPRequestHandler):
    """One request."""

    models: ClassVar[dict] = {}

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

    def _no_such_page(self):
        self._answer(404, {"error": f"no such page: {self.path}; ask GET /health or POST /predict"})

    def _body(self):
        length = int(self.headers.get("Content-Length") or 0)
        if not 0 < length <= LARGEST_BODY:
            raise BadRequest(f"send a JSON object of at most {LARGEST_BODY} bytes")
        try:
            body = json.loads(self.rfile.read(length))
        except ValueError as error:
            raise BadRequest(f"the body is not JSON: {error}") from None
        if not isinstance(body, dict):
            raise BadRequest("send a JSON object with experiment and items")
        return body

    def _predict(self, body):
        name, items = body.get("experiment", next(iter(self.models))), body.get("items")
        if name not in self.models:
            raise BadRequest(f"no experiment {name!r}; there are {', '.join(self.models)}")
        if not isinstance(items, list) or not items:
            raise BadRequest("items must be a list with at least one object")
        model, description = self.models[name]
        vectors = []
        for number, item in enumerate(items):
            try:
                vectors.append(features.vector(item))
            except (ValueError, AttributeError) as error:
                raise BadRequest(f"items[{number}]: {error}") from None
        return {"predictions": [float(value) for value in model.predict(vectors)], "model": description}

    def _answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def main():
    """Loads every model, then serves."""
    Handler.models = load_models(HERE / "models")
    server = ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler)
    print(f"serving {', '.join(Handler.models)} on port {server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
