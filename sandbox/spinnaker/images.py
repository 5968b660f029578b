"""Pulling an image by digest and unpacking it: each chain of layers is unpacked once and then linked.

Every blob is checked against its digest before it is used. Layers are unpacked with their white-outs; a member that
would leave the folder is refused (Python's ``data`` filter).
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

ACCEPT = ", ".join((
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
))  # fmt: skip


class ImageError(Exception):
    """The image can't be had or is not what its digest says."""


@dataclass(frozen=True)
class Image:
    """An unpacked image: ``config`` is the image configuration's ``config`` (Cmd, Entrypoint, Env, WorkingDir, Labels)."""

    digest: str
    root: Path
    config: dict[str, Any]
    config_digest: str


class Images:
    """Images of one registry below one folder."""

    def __init__(self, registry: str, folder: Path) -> None:
        self._http = httpx.Client(base_url=f"http://{registry}/v2", timeout=60)
        self._blobs = folder / "blobs"
        self._chains = folder / "chains"
        self._blobs.mkdir(parents=True, exist_ok=True)
        self._chains.mkdir(parents=True, exist_ok=True)

    def digest(self, repository: str, tag: str) -> str:
        """The manifest digest behind a tag; raises ImageError for one that does not exist."""
        answer = self._get(f"/{repository}/manifests/{tag}", method="HEAD")
        return str(answer.headers["Docker-Content-Digest"])

    def pull(self, repository: str, digest: str) -> Image:
        """The image, ready to be run; nothing is fetched or unpacked twice. Raises ImageError."""
        manifest = json.loads(self._manifest(repository, digest))
        if "layers" not in manifest:
            raise ImageError(
                f"{repository}@{digest} is an index of several platforms, which the sandbox does not deploy"
            )
        config = json.loads(self._blob(repository, manifest["config"]["digest"]).read_bytes())
        chain, root = "", self._chains / "empty"
        root.mkdir(exist_ok=True)
        for layer in manifest["layers"]:
            parent, chain = root, hashlib.sha256(f"{chain} {layer['digest']}".encode()).hexdigest()
            root = self._chains / chain[:32]
            if not root.exists():
                self._unpack(self._blob(repository, layer["digest"]), parent, root)
        return Image(digest, root, config.get("config") or {}, manifest["config"]["digest"])

    def _manifest(self, repository: str, digest: str) -> bytes:
        content = self._get(f"/{repository}/manifests/{digest}").content
        _verify(content, digest)
        return content

    def _blob(self, repository: str, digest: str) -> Path:
        target = self._blobs / digest.replace(":", "-")
        if target.exists():
            return target
        part = target.with_suffix(".part")
        sum256 = hashlib.sha256()
        with self._http.stream("GET", f"/{repository}/blobs/{digest}", follow_redirects=True) as answer:
            if answer.is_error:
                raise ImageError(f"the registry answered {answer.status_code} for blob {digest} of {repository}")
            with part.open("wb") as file:
                for chunk in answer.iter_bytes(1 << 20):
                    sum256.update(chunk)
                    file.write(chunk)
        if f"sha256:{sum256.hexdigest()}" != digest:
            raise ImageError(f"blob {digest} of {repository} is not what its digest says")
        part.rename(target)
        return target

    def _get(self, path: str, method: str = "GET") -> httpx.Response:
        try:
            answer = self._http.request(method, path, headers={"Accept": ACCEPT})
        except httpx.HTTPError as error:
            raise ImageError(f"the registry does not answer: {error}") from error
        if answer.is_error:
            raise ImageError(f"the registry answered {answer.status_code} for {path}")
        return answer

    def _unpack(self, blob: Path, parent: Path, root: Path) -> None:
        part = root.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        # Hard links: a base of thousands of files costs nothing. Layers replace files, they never write into them.
        subprocess.run(["cp", "-al", str(parent), str(part)], check=True, capture_output=True)
        try:
            with tarfile.open(blob, "r:*") as archive:
                for member in archive:
                    _apply(archive, member, part)
        except (tarfile.TarError, OSError) as error:
            shutil.rmtree(part, ignore_errors=True)
            raise ImageError(f"layer {blob.name} can't be unpacked: {error}") from error
        part.rename(root)

    def close(self) -> None:
        """Closes connections."""
        self._http.close()


def _verify(content: bytes, digest: str) -> None:
    if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
        raise ImageError(f"the manifest {digest} is not what its digest says")


def _apply(archive: tarfile.TarFile, member: tarfile.TarInfo, root: Path) -> None:
    """One member of a layer: a white-out removes what lies below, anything else replaces it."""
    path = root / os.path.normpath(member.name.lstrip("/"))
    if path.name == ".wh..wh..opq":
        for entry in path.parent.iterdir():
            _remove(entry)
        return
    if path.name.startswith(".wh."):
        _remove(path.with_name(path.name[4:]))
        return
    if member.isdev():
        return  # device nodes need root; the container gets those that it needs
    if not member.isdir() or path.is_symlink():
        _remove(path)
    archive.extract(member, root, filter=_keep_links)


def _keep_links(member: tarfile.TarInfo, path: str) -> tarfile.TarInfo | None:
    """Python's ``data`` filter, but an absolute link means the container's root, which is no escape inside a chroot."""
    if member.issym() and member.linkname.startswith("/"):
        depth = os.path.normpath(member.name.lstrip("/")).count("/")
        member = member.replace(linkname="../" * depth + member.linkname.lstrip("/"), deep=False)
    filtered = tarfile.data_filter(member, path)
    if filtered.isdir():
        filtered = filtered.replace(mode=0o755, deep=False)
    return filtered


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
