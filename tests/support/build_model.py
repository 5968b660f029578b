"""A registry at the wire and a buildah at its command line, both in memory.

Their windows: a tag is seen some seconds after it was put; a push puts its blobs before its manifest, may be lost,
refused or late, and its answer may be lost; a command that is killed leaves containers and images in the store.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

import httpx

from mlfleet.clients.container_registry import DOCKER_MANIFEST, sha256_digest
from mlfleet.systems.buildah_command import Buildah
from tests.support.adversity import Clock, Kill


class Mishap(StrEnum):
    """What happens to a command of buildah."""

    KILL_BEFORE = "the process dies before the command begins"
    KILL_MIDWAY = "the process dies in the middle of it"
    KILL_AFTER = "the process dies after it"
    KILL_LATE = "the process dies, and what was sent arrives some seconds later"
    LOST_ANSWER = "it had its effect, and fails because an answer was lost"
    LOST_REQUEST = "it fails because the registry could not be reached"
    BROKEN = "it fails with a 5xx of the registry"
    DISK_FULL = "it fails for want of room"


@dataclass(frozen=True)
class Trouble:
    """``mishap`` to the next command ``verb`` ("build", "push", "rmi"); ``delay`` are the "some seconds"."""

    verb: str
    mishap: Mishap
    delay: float = 5.0


_ERRORS = {
    Mishap.LOST_ANSWER: 'Error: writing manifest: Put "http://registry.test/v2/ml/churn/manifests/x": EOF',
    Mishap.LOST_REQUEST: "Error: pinging container registry registry.test: dial tcp: connect: connection refused",
    Mishap.BROKEN: "Error: trying to reuse blob: received unexpected HTTP status: 503 Service Unavailable",
    Mishap.DISK_FULL: "Error: writing blob: write /store/tmp/layer: no space left on device",
}


@dataclass(frozen=True)
class Image:
    """A built image: ``content`` is the digest of all that went into it, labels excepted."""

    content: str
    labels: tuple[tuple[str, str], ...]

    @property
    def config(self) -> bytes:
        body = {"config": {"Labels": dict(self.labels)}, "rootfs": {"diff_ids": [f"sha256:{self.content}"]}}
        return json.dumps(body, sort_keys=True).encode()

    @property
    def manifest(self) -> bytes:
        layers = [{"digest": f"sha256:{self.content}"}]
        body = {"schemaVersion": 2, "config": {"digest": sha256_digest(self.config)}, "layers": layers}
        return json.dumps(body, sort_keys=True).encode()

    @property
    def digest(self) -> str:
        return sha256_digest(self.manifest)


@dataclass
class RegistryModel:
    """One registry. ``stale`` seconds after a put a tag is seen as it was before; ``puts`` has what was put, by tag."""

    clock: Clock
    stale: float = 0.0
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    tags: dict[str, Image] = field(default_factory=dict)
    images: dict[str, Image] = field(default_factory=dict)
    puts: dict[str, list[str]] = field(default_factory=dict)
    # Of adversity.Server.
    patience: float = 300.0
    twins_work: bool = True
    epoch: int = 0
    _seen: dict[str, list[tuple[float, str]]] = field(default_factory=dict)

    def put(self, tag: str, image: Image) -> None:
        """A manifest and its configuration arrive."""
        self.blobs[sha256_digest(image.config)] = image.config
        self.manifests[image.digest] = image.manifest
        self.tags[tag] = self.images[image.digest] = image
        self.puts.setdefault(tag, []).append(image.digest)
        self._seen.setdefault(tag, []).append((self.clock.now + self.stale, image.digest))

    def shown(self, tag: str) -> str | None:
        """The digest that a read of the tag brings now."""
        found = [digest for since, digest in self._seen.get(tag, ()) if since <= self.clock.now]
        return found[-1] if found else None

    def restart(self) -> None:
        """It keeps what it has."""

    def halve(self, request: httpx.Request) -> None:
        """Reads have no half."""

    def handle(self, request: httpx.Request, late: float = 0.0, unlisted: float = 0.0) -> httpx.Response:
        found = re.fullmatch(r"/v2/ml/churn/(manifests|blobs)/([^/]+)", request.url.path)
        assert found, f"no such address: {request.method} {request.url.path}"
        assert request.method in {"GET", "HEAD"}, "only buildah pushes"
        digest = found[2] if found[2].startswith("sha256:") else self.shown(found[2]) or ""
        held = self.manifests if found[1] == "manifests" else self.blobs
        if digest not in held:
            return httpx.Response(404, json={"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]})
        headers = {"Docker-Content-Digest": digest, "Content-Type": DOCKER_MANIFEST}
        return httpx.Response(200, headers=headers, content=b"" if request.method == "HEAD" else held[digest])


@dataclass
class Disk:
    """What a buildah store holds: images by name, and working containers; ``built`` counts builds that came through."""

    images: dict[str, Image] = field(default_factory=dict)
    containers: int = 0
    built: int = 0


class BuildahModel(Buildah):
    """The real class around the command line, which one process uses; its commands act on ``disk`` and ``registry``."""

    def __init__(
        self,
        root: Path,
        tell: Callable[[str], None],
        disk: Disk,
        registry: RegistryModel,
        troubles: Sequence[Trouble] = (),
    ) -> None:
        super().__init__(root, tell)
        self.disk, self.registry = disk, registry
        self._troubles = list(troubles)
        self._dead = False

    def _spawn(self, arguments: Sequence[str]) -> tuple[int, list[str]]:
        if self._dead:
            # What is behind a `finally` does not run in a process that was killed.
            return 1, []
        self.registry.clock.advance(1.0)
        trouble = next((each for each in self._troubles if each.verb == arguments[0]), None)
        if trouble is None:
            return self._act(arguments)
        self._troubles.remove(trouble)
        return self._fail(trouble, arguments)

    def _fail(self, trouble: Trouble, arguments: Sequence[str]) -> tuple[int, list[str]]:
        mishap = trouble.mishap
        if mishap in {Mishap.KILL_AFTER, Mishap.LOST_ANSWER}:
            self._act(arguments)
        if mishap in {Mishap.KILL_MIDWAY, Mishap.DISK_FULL, Mishap.KILL_LATE} and arguments[0] == "build":
            # Without --force-rm having had its turn.
            self.disk.containers += mishap is not Mishap.DISK_FULL
        if mishap is Mishap.KILL_LATE and arguments[0] == "push":
            tag, image = arguments[-1].rpartition(":")[2], self._image(arguments[-2])
            self.registry.clock.after(trouble.delay, lambda: self.registry.put(tag, image))
        if mishap.name.startswith("KILL"):
            self._dead = True
            raise Kill
        return 125, [_ERRORS[mishap]]

    def _act(self, arguments: Sequence[str]) -> tuple[int, list[str]]:
        verb = arguments[0]
        if verb == "build":
            self.disk.images[_option(arguments, "--tag")[0]] = _built(arguments)
            self.disk.built += 1
        elif verb == "push":
            image = self._image(arguments[-2])
            self.registry.put(arguments[-1].rpartition(":")[2], image)
            Path(_option(arguments, "--digestfile")[0]).write_text(image.digest)
        elif verb == "rmi":
            if self.disk.images.pop(arguments[1], None) is None:
                return 125, ["Error: 1 error occurred:", f"\t* {arguments[1]}: image not known"]
        else:
            assert list(arguments) == ["rm", "--all"], arguments
            self.disk.containers = 0
        return 0, []

    def _image(self, name: str) -> Image:
        return self.disk.images[name]


def _option(arguments: Sequence[str], name: str) -> list[str]:
    return [value for option, value in itertools.pairwise(arguments) if option == name]


def _built(arguments: Sequence[str]) -> Image:
    """The same bytes for the same context, Dockerfile, arguments and labels, as --timestamp 0 makes them."""
    content = hashlib.sha256(Path(_option(arguments, "--file")[0]).read_bytes())
    for path in sorted(Path(arguments[-1]).rglob("*")):
        content.update(path.name.encode() + path.read_bytes())
    content.update(json.dumps(_option(arguments, "--build-arg")).encode())
    labels = [label.partition("=") for label in _option(arguments, "--label")]
    return Image(content.hexdigest(), tuple((name, value) for name, _, value in labels))
