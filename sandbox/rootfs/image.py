"""The base root file system as an image: one layer, a configuration and a manifest, the same bytes every time."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import platform
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from sandbox.rootfs.build import RootFS

REPOSITORY = "mlfleet/serving-base"
MANIFEST_TYPE = "application/vnd.docker.distribution.manifest.v2+json"

_CONFIG_TYPE = "application/vnd.docker.container.image.v1+json"
_LAYER_TYPE = "application/vnd.docker.image.rootfs.diff.tar.gzip"
_EPOCH = "1970-01-01T00:00:00Z"
_PATH = "PATH=/usr/local/bin:/usr/bin:/bin"
# The names that registries use for what the kernel calls them.
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


@dataclass(frozen=True)
class Layer:
    """A compressed layer: ``digest`` and ``size`` are those of ``file``, ``diff_id`` the digest of the bare tar."""

    file: Path
    digest: str
    size: int
    diff_id: str


@dataclass(frozen=True)
class BaseImage:
    """The image of one base; its tag is the base's content key, so a tag never changes its meaning."""

    base: RootFS

    @property
    def tag(self) -> str:
        """16 hex digits."""
        return self.base.key

    def layer(self) -> Layer:
        """The one layer, packed at the first call and kept beside the root folder."""
        about = self.base.folder / "layer.json"
        file = self.base.folder / "layer.tar.gz"
        try:
            known = json.loads(about.read_text())
            return Layer(file, known["digest"], known["size"], known["diff_id"])
        except (OSError, ValueError, KeyError):
            pass
        layer = pack(self.base.path, file)
        # Written last: without it the layer counts as not packed.
        about.write_text(json.dumps({"digest": layer.digest, "size": layer.size, "diff_id": layer.diff_id}))
        return layer

    def config(self, layer: Layer) -> bytes:
        """The image configuration (JSON)."""
        return _json(
            {
                "architecture": _ARCHITECTURES.get(platform.machine(), platform.machine()),
                "os": "linux",
                "created": _EPOCH,
                "config": {
                    "Env": [_PATH],
                    "Cmd": ["/usr/bin/python3"],
                    "WorkingDir": "/app",
                    "Labels": {"mlfleet.base": self.base.key, "mlfleet.base.python": self.base.python},
                },
                "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]},
                "history": [{"created": _EPOCH, "created_by": f"mlfleet sandbox.rootfs {self.base.key}"}],
            }
        )

    def manifest(self, layer: Layer) -> bytes:
        """The Docker v2 schema 2 manifest: the one whose digest Spinnaker's igor reads right (spinnaker.md 3.5)."""
        config = self.config(layer)
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST_TYPE,
                "config": {"mediaType": _CONFIG_TYPE, "size": len(config), "digest": digest(config)},
                "layers": [{"mediaType": _LAYER_TYPE, "size": layer.size, "digest": layer.digest}],
            }
        )


def digest(content: bytes) -> str:
    """``sha256:<hex>``."""
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def pack(root: Path, target: Path) -> Layer:
    """``root`` as a layer in ``target``: names sorted, times and owners zero, modes that no umask can change.

    Level 1 of gzip: on loopback every byte saved costs more time than it spares.
    """
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix="part-", delete=False) as part:
        try:
            outer = _Hashing(part)
            with gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=cast(Any, outer), mtime=0) as packed:
                inner = _Hashing(packed)
                with tarfile.open(fileobj=cast(Any, inner), mode="w|", format=tarfile.PAX_FORMAT) as tar:
                    for path in _sorted_tree(root):
                        _add(tar, path, path.relative_to(root).as_posix())
            os.replace(part.name, target)
        except BaseException:
            Path(part.name).unlink(missing_ok=True)
            raise
    return Layer(target, outer.digest, outer.size, inner.digest)


def _sorted_tree(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders.sort()
        links = [name for name in folders if (Path(folder) / name).is_symlink()]
        if folder != str(root):
            yield Path(folder)
        for name in sorted(files + links):
            yield Path(folder) / name


def _add(tar: tarfile.TarFile, path: Path, name: str) -> None:
    info = tarfile.TarInfo(name)
    mode = path.lstat().st_mode
    if path.is_symlink():
        info.type, info.linkname, info.mode = tarfile.SYMTYPE, os.readlink(path), 0o777
        tar.addfile(info)
    elif path.is_dir():
        info.type, info.mode = tarfile.DIRTYPE, 0o1777 if mode & 0o1000 else 0o755
        tar.addfile(info)
    else:
        content = path.read_bytes()
        info.size, info.mode = len(content), 0o755 if mode & 0o111 else 0o644
        tar.addfile(info, io.BytesIO(content))


class _Hashing:
    """A writer that hashes and counts what passes through."""

    def __init__(self, target: Any) -> None:
        self._target, self._hash, self.size = target, hashlib.sha256(), 0

    def write(self, data: bytes) -> int:
        self._hash.update(data)
        self.size += len(data)
        self._target.write(data)
        return len(data)

    def flush(self) -> None:
        self._target.flush()

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
