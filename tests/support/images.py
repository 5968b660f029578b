"""Small images for tests: layers made in memory, pushed to a registry by its API, over the sandbox's real base."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import REPOSITORY

MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = "application/vnd.docker.container.image.v1+json"
LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"

# A model server that also tells what it sees of the world. `factor` is its model.
SERVER = """
import json, os, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

SPEC = json.load(open("/app/spec.json"))
if SPEC.get("exit"):
    raise SystemExit("no model here")

class Handler(BaseHTTPRequestHandler):
    def answer(self, status, body):
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def do_GET(self):
        url = urlsplit(self.path)
        path = parse_qs(url.query).get("path", ["/"])[0]
        if url.path == "/health":
            self.answer(SPEC.get("health", 200), {"status": "up"})
        elif url.path == "/world":
            self.answer(200, {"environment": dict(os.environ), "directory": os.getcwd(), "pids":
                              [int(name) for name in os.listdir("/proc") if name.isdigit()]})
        elif url.path == "/look":
            try:
                self.answer(200, sorted(os.listdir(path)) if os.path.isdir(path) else open(path, "rb").read(20).hex())
            except OSError as error:
                self.answer(404, {"error": error.strerror})
        elif url.path == "/die":
            os._exit(3)
        else:
            self.answer(404, {"error": "no such page"})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/predict":
            time.sleep(SPEC.get("delay", 0))
            self.answer(200, {"predictions": [item * SPEC["factor"] for item in body["items"]], "spec": SPEC})
        elif self.path == "/write":
            try:
                with open(body["path"], "a") as file:
                    file.write("changed")
                self.answer(200, {})
            except OSError as error:
                self.answer(403, {"error": error.strerror})

    def log_message(self, *words):
        pass

ThreadingHTTPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@dataclass(frozen=True)
class Pushed:
    """A manifest in a registry."""

    registry: str
    repository: str
    manifest: bytes

    @property
    def digest(self) -> str:
        return digest_of(self.manifest)

    def tag(self, name: str) -> None:
        """Puts the same bytes under another tag, as a release does."""
        url = f"http://{self.registry}/v2/{self.repository}/manifests/{name}"
        httpx.put(url, content=self.manifest, headers={"Content-Type": MANIFEST}, trust_env=False).raise_for_status()


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def layer(files: Mapping[str, str | bytes]) -> bytes:
    """A compressed layer of plain files."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, content in files.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            archive.addfile(info, io.BytesIO(data))
    return gzip.compress(raw.getvalue(), 1, mtime=0)


def base_root() -> Path:
    """The base root file system that `make setup` made."""
    roots = sorted((REPOSITORY / ".sandbox" / "cache" / "rootfs").glob("*/root"), key=lambda path: path.stat().st_mtime)
    assert roots, "there is no base root file system; run make setup"
    return roots[-1]


@cache
def base_layer() -> bytes:
    """The real base without its wheels, which a test server does not need: about 60 MB."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.add(base_root(), ".", filter=lambda info: None if info.name.startswith("./usr/local") else info)
    return raw.getvalue()


def push(registry: str, repository: str, layers: Sequence[bytes], config: Mapping[str, Any], *tags: str) -> Pushed:
    """Pushes an image to `registry` (host:port) and gives it the tags."""
    about = json.dumps({"architecture": "amd64", "os": "linux", "config": dict(config),
                        "rootfs": {"type": "layers", "diff_ids": []}}).encode()  # fmt: skip
    with httpx.Client(base_url=f"http://{registry}/v2/{repository}", timeout=60, trust_env=False) as http:
        for blob in (*layers, about):
            if http.head(f"/blobs/{digest_of(blob)}").status_code == 404:
                where = http.post("/blobs/uploads/").raise_for_status().headers["Location"]
                http.put(where, params=_with(where, digest_of(blob)), content=blob).raise_for_status()
    manifest = {
        "schemaVersion": 2, "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "size": len(about), "digest": digest_of(about)},
        "layers": [{"mediaType": LAYER, "size": len(blob), "digest": digest_of(blob)} for blob in layers],
    }  # fmt: skip
    pushed = Pushed(registry, repository, json.dumps(manifest).encode())
    for tag in tags:
        pushed.tag(tag)
    return pushed


def push_model(
    registry: str, repository: str, *tags: str, labels: Mapping[str, str] | None = None, **spec: Any
) -> Pushed:
    """A server on the real base whose model is `spec` (factor, health, exit, delay in seconds)."""
    files = {"app/serve.py": SERVER, "app/spec.json": json.dumps({"factor": 1.0, **spec})}
    config = {"Cmd": ["/usr/bin/python3", "-S", "serve.py"], "WorkingDir": "/app", "Env": ["GREETING=a=b"],
              "Labels": dict(labels or {})}  # fmt: skip
    return push(registry, repository, [base_layer(), layer(files)], config, *tags)


def _with(location: str, digest: str) -> httpx.QueryParams:
    """The upload's own parameters with the digest; httpx would drop the former."""
    return httpx.URL(location).params.set("digest", digest)
