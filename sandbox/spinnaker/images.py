"""Pulling an image by digest: each blob is checked against its digest, each chain of layers is unpacked once."""

from __future__ import annotations

import hashlib
import json
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sandbox.spinnaker.layers import LayerError, unpack

# Without this list a registry answers 404 or with a converted manifest (reference spinnaker.md, 7.1).
ACCEPT = ", ".join((
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
))  # fmt: skip
_CHUNK = 1 << 20


class ImageError(Exception):
    """The image can't be had or is not what its digest says."""


@dataclass(frozen=True)
class Image:
    """An unpacked image; ``config`` is its configuration's ``config`` (Cmd, Entrypoint, Env, WorkingDir, Labels)."""

    digest: str
    root: Path
    config: dict[str, Any]
    config_digest: str


class Images:
    """Images of one registry below one folder. Its methods block, and may be called from several threads."""

    def __init__(self, registry: str, folder: Path) -> None:
        self._http = httpx.Client(base_url=f"http://{registry}/v2", timeout=60, trust_env=False)
        self._blobs = folder / "blobs"
        self._chains = folder / "chains"
        self._one_pull = threading.Lock()
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._chains.mkdir(parents=True, exist_ok=True)

    def digest(self, repository: str, tag: str) -> str:
        """The manifest digest behind a tag; raises ImageError for one that does not exist."""
        try:
            answer = self._http.head(f"/{repository}/manifests/{tag}", headers={"Accept": ACCEPT})
        except httpx.HTTPError as error:
            raise ImageError(f"the registry does not answer: {error}") from error
        if answer.is_error:
            raise ImageError(f"the registry answered {answer.status_code} for {repository}:{tag}")
        return str(answer.headers["Docker-Content-Digest"])

    def pull(self, repository: str, digest: str) -> Image:
        """The image, ready to be run; what is here already is not asked for again. Raises ImageError."""
        with self._one_pull:
            manifest = json.loads(self._fetch(f"/{repository}/manifests/{digest}", digest).read_bytes())
            if "layers" not in manifest:
                raise ImageError(f"{repository}@{digest} is an index of platforms, which the sandbox does not deploy")
            about = manifest["config"]["digest"]
            config = json.loads(self._fetch(f"/{repository}/blobs/{about}", about).read_bytes())
            root = self._unpacked(repository, [layer["digest"] for layer in manifest["layers"]])
            return Image(digest, root, config.get("config") or {}, about)

    def _unpacked(self, repository: str, layers: list[str]) -> Path:
        """The folder of a chain of layers; it is named after the layers, so that a base is shared."""
        root, chain = self._chains / "empty", ""
        root.mkdir(exist_ok=True)
        for layer in layers:
            parent, chain = root, hashlib.sha256(f"{chain} {layer}".encode()).hexdigest()
            root = self._chains / chain[:32]
            if root.exists():
                continue
            blob = self._fetch(f"/{repository}/blobs/{layer}", layer)
            try:
                unpack(blob, parent, root)
            except LayerError as error:
                raise ImageError(f"{repository}: {error}") from error
            finally:
                blob.unlink()  # the registry, a folder on the same disk, has it still
        return root

    def _fetch(self, path: str, digest: str) -> Path:
        """A blob or a manifest as a file, checked against its digest."""
        target = self._blobs / digest.replace(":", "-")
        if target.exists():
            return target
        part, sha256 = target.with_suffix(".part"), hashlib.sha256()
        try:
            with self._http.stream("GET", path, headers={"Accept": ACCEPT}, follow_redirects=True) as answer:
                if answer.is_error:
                    raise ImageError(f"the registry answered {answer.status_code} for {path}")
                with part.open("wb") as file:
                    for chunk in answer.iter_bytes(_CHUNK):
                        sha256.update(chunk)
                        file.write(chunk)
        except httpx.HTTPError as error:
            raise ImageError(f"the registry does not answer: {error}") from error
        if f"sha256:{sha256.hexdigest()}" != digest:
            part.unlink()
            raise ImageError(f"{path} is not what its digest says")
        part.rename(target)
        return target

    def close(self) -> None:
        """Closes connections."""
        self._http.close()
