"""Google Cloud Storage and BigQuery as far as sensors look at them: a server on loopback, for the provider's hooks."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

CONNECTION = json.dumps(
    {"conn_type": "google_cloud_platform", "extra": {"is_anonymous": True, "project": "acme", "use_legacy_sql": False}}
)


class GoogleWire:
    """``objects`` are ``bucket/name``, ``partitions`` ``project.dataset.table$id``; ``asked`` is what came, decoded.

    With ``broken`` every answer is 403.
    """

    def __init__(self) -> None:
        self.objects: set[str] = set()
        self.partitions: set[str] = set()
        self.asked: list[str] = []
        self.broken = False
        self.url = ""

    def answer(self, path: str) -> tuple[int, Any]:
        parts = urlsplit(path)
        plain = unquote(parts.path)
        self.asked.append(plain)
        if self.broken:
            return 403, {"error": {"code": 403, "message": "Forbidden"}}
        if plain.startswith("/bigquery/"):
            return self._partitions(plain)
        bucket, _, name = plain.partition("/b/")[2].partition("/o")
        if name:
            there = f"{bucket}{name}" in self.objects
            return (
                (200, {"name": name[1:], "bucket": bucket, "size": "5"}) if there else (404, {"error": {"code": 404}})
            )
        pattern = parse_qs(parts.query).get("matchGlob", [""])[0]
        self.asked.append(pattern)
        ending = pattern.rpartition("*")[2]
        found = [known for known in self.objects if known.startswith(f"{bucket}/") and known.endswith(ending)]
        return 200, {"items": [{"name": name.partition("/")[2], "bucket": bucket} for name in found]}

    def _partitions(self, path: str) -> tuple[int, Any]:
        words = path.split("/")
        project, dataset, table = words[4], words[6], words[8].partition("$")[0]
        prefix = f"{project}.{dataset}.{table}$"
        ids = [known.removeprefix(prefix) for known in self.partitions if known.startswith(prefix)]
        if path.endswith("/data"):
            return 200, {"rows": [{"f": [{"v": id}]} for id in ids], "totalRows": str(len(ids))}
        reference = {"projectId": project, "datasetId": dataset, "tableId": f"{table}$__PARTITIONS_SUMMARY__"}
        schema = {"fields": [{"name": "partition_id", "type": "STRING"}]}
        return 200, {"tableReference": reference, "schema": schema, "numRows": str(len(ids))}


@contextmanager
def google_wire() -> Iterator[GoogleWire]:
    """A running server; `STORAGE_EMULATOR_HOST` and `BIGQUERY_EMULATOR_HOST` are to be its ``url``."""
    wire = GoogleWire()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, answer = wire.answer(self.path)
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    wire.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
