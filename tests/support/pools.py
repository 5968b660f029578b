"""The pools of an Airflow over HTTP, as its API server answers for them, for tests that start no Airflow."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextlib.contextmanager
def airflow_with_pools(pools: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Its address; ``pools`` are changed by those who ask."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/auth/token":
                self._answer(201, {"access_token": "a-token-of-nobody"})
            else:
                self._answer(200, {"pools": list(pools.values()), "total_entries": len(pools)})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            taken = body["name"] in pools
            if not taken:
                pools[body["name"]] = body
            self._answer(409 if taken else 201, body)

        def _answer(self, status: int, body: dict[str, Any]) -> None:
            text = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()
