"""Puts the base image into a registry, over the distribution API and plain http (spinnaker.md 7.1)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urljoin

import httpx

from sandbox.rootfs.image import MANIFEST_TYPE, REPOSITORY, BaseImage, digest
from sandbox.settings import SandboxError

_CHUNK = 2**20
_TIMEOUT = httpx.Timeout(120, connect=5)


def push(image: BaseImage, registry: str) -> None:
    """Uploads ``image`` to ``registry`` ("127.0.0.1:5000") under its tag, unless it is there. Raises SandboxError."""
    try:
        # No proxy settings: the registry is on this machine.
        with httpx.Client(base_url=f"http://{registry}", timeout=_TIMEOUT, trust_env=False) as client:
            _push(image, client)
    except httpx.TransportError as exc:
        raise SandboxError(f"the registry at {registry} does not answer ({exc}); is the sandbox up?") from None
    except httpx.HTTPStatusError as exc:
        why = exc.response.text.strip()[:300] or exc.response.reason_phrase
        raise SandboxError(
            f"the registry at {registry} refused {exc.request.method} {exc.request.url.path} with "
            f"{exc.response.status_code}: {why}; look at its log and its disk"
        ) from None


def _push(image: BaseImage, client: httpx.Client) -> None:
    layer = image.layer()
    config, manifest = image.config(layer), image.manifest(layer)
    path = f"/v2/{REPOSITORY}/manifests/{image.tag}"
    # Without the Accept header a registry names the digest of a converted manifest (spinnaker.md 7.1).
    there = client.head(path, headers={"Accept": MANIFEST_TYPE})
    if there.is_success and there.headers.get("docker-content-digest") == digest(manifest):
        return
    _upload(client, layer.digest, lambda: _chunks(layer.file))
    _upload(client, digest(config), lambda: iter((config,)))
    client.put(path, content=manifest, headers={"Content-Type": MANIFEST_TYPE}).raise_for_status()


def _upload(client: httpx.Client, blob: str, content: Callable[[], Iterator[bytes]]) -> None:
    if client.head(f"/v2/{REPOSITORY}/blobs/{blob}").is_success:
        return
    begun = client.post(f"/v2/{REPOSITORY}/blobs/uploads/")
    begun.raise_for_status()
    where = urljoin(str(begun.request.url), begun.headers["location"])
    # The address already has a query of its own.
    answer = client.put(
        f"{where}{'&' if '?' in where else '?'}digest={blob}",
        content=content(),
        headers={"Content-Type": "application/octet-stream"},
    )
    answer.raise_for_status()


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as source:
        while chunk := source.read(_CHUNK):
            yield chunk
