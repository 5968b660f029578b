"""Image builds in the worker's own slot: buildah, one tag per build, the same digest for the same content.

Not a remote job: the build dies with the task, and doing it again is harmless. The tag says whether it was done, and a
repeated build gives the same bytes: times zero, no random host name (which ``--format docker`` would write into the
configuration, so the build is OCI and only the push converts), no buildah version, owners and modes from the context.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from mlfleet.clients.container_registry import ContainerRegistryClient, ManifestInfo
from mlfleet.errors import ConfigError, Conflict, UnexpectedAnswer
from mlfleet.remote.job import digest as hash_of
from mlfleet.systems.build_context import content_hash
from mlfleet.systems.buildah_command import SYSTEM, Buildah

T = TypeVar("T")
KEY_LABEL = "mlfleet.key"
SPEC_LABEL = "mlfleet.spec"
ROOT_VARIABLE = "MLFLEET_BUILDAH_ROOT"


@dataclass(frozen=True)
class Registry:
    """Where images go: ``base_url`` of the registry, credentials when it wants some."""

    base_url: str
    login: str = ""
    password: str = field(default="", repr=False)
    verify: bool = True

    @property
    def address(self) -> str:
        """What stands before the repository in an image's name: host, port, and a path if the address has one."""
        parts = urlsplit(self.base_url)
        return f"{parts.netloc}{parts.path}".rstrip("/")

    @property
    def tls_verify(self) -> bool:
        """False for plain http and for certificates that nobody vouches for."""
        return self.verify and self.base_url.startswith("https:")


@dataclass(frozen=True)
class ImageSpec:
    """What to build. ``context`` is a folder of ours, assembled; ``dockerfile`` may lie outside of it.

    ``platform``  like ``linux/arm64``; None for that of the machine
    """

    repository: str
    context: Path
    dockerfile: Path
    build_args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    platform: str | None = None

    @property
    def hash(self) -> str:
        """16 hex digits over the content; independent of key, time and place."""
        found = content_hash(self.context, self.dockerfile, self.build_args, self.labels)
        return hash_of([found, self.platform])[:16] if self.platform else found


@dataclass(frozen=True)
class BuiltImage:
    """An image that is in the registry. ``built`` is False when it was there before."""

    repository: str
    tag: str
    digest: str
    reference: str
    labels: Mapping[str, str]
    built: bool

    def as_json(self) -> dict[str, Any]:
        """What the task hands on."""
        return {
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
            "reference": self.reference,
            "labels": dict(self.labels),
        }


def default_root() -> Path:
    """Variable MLFLEET_BUILDAH_ROOT, or a folder in the user's cache. The store grows by one copy per base image."""
    given = os.environ.get(ROOT_VARIABLE)
    if given:
        return Path(given)
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "mlfleet" / "buildah"


class BuildahBuilds:
    """Builds and pushes images to one registry.

    ``connect`` makes a client of that registry; ``tell`` is given buildah's output and our own sentences, line by line.
    """

    def __init__(
        self,
        registry: Registry,
        connect: Callable[[], ContainerRegistryClient],
        *,
        root: Path | None = None,
        tell: Callable[[str], None] = lambda line: None,
    ) -> None:
        self.registry = registry
        self._connect = connect
        self._tell = tell
        self._buildah = Buildah(root or default_root(), tell)

    def build(self, spec: ImageSpec, key: str, spec_hash: str | None = None) -> BuiltImage:
        """The image of ``spec`` under ``build-<key>``, built and pushed unless it is there already.

        Raises Conflict when the tag is there with another content; SpecError for a wrong Dockerfile; JobFailed when a
        step of it fails; TransientError when a disk is full or the registry down; ConfigError without buildah.
        """
        labels = {**spec.labels, KEY_LABEL: key, SPEC_LABEL: spec_hash or spec.hash}
        _check_labels(labels)
        tag = f"build-{key}"
        there = self._found(spec.repository, tag)
        if there is not None:
            self._verify(spec.repository, tag, there[1], labels)
            self._tell(f"{spec.repository}:{tag} is in the registry already ({there[0].digest}): nothing is built")
            return self._built(spec, tag, there[0].digest, labels, built=False)
        digest = self._build_and_push(spec, tag, labels)
        there = self._found(spec.repository, tag)
        if there is None or there[0].digest != digest:
            now = there[0].digest if there else "nothing"
            raise UnexpectedAnswer(SYSTEM, f"pushed {spec.repository}:{tag} as {digest}, the registry has {now}")
        self._verify(spec.repository, tag, there[1], labels)
        return self._built(spec, tag, digest, labels, built=True)

    def stop(self) -> None:
        """End the build that runs; nothing of it stays. May be called from a signal handler."""
        self._buildah.stop()

    def _build_and_push(self, spec: ImageSpec, tag: str, labels: Mapping[str, str]) -> str:
        image = f"{self.registry.address}/{spec.repository}:{tag}"
        with self._buildah.store(), self._login() as login:
            note = self._buildah.note(image)
            self._buildah.run([*self._build_arguments(spec, labels), *login, "--tag", image, str(spec.context)])
            try:
                with tempfile.TemporaryDirectory(prefix="mlfleet-push-") as folder:
                    file = Path(folder) / "digest"
                    push = ["push", "--quiet", "--format", "v2s2", f"--tls-verify={_flag(self.registry.tls_verify)}"]
                    self._buildah.run([*push, *login, "--digestfile", str(file), image, f"docker://{image}"])
                    digest = file.read_text().strip()
            finally:
                # The base stays for the next build.
                self._buildah.discard(image, note)
        if not re.fullmatch(r"sha256:[0-9a-f]{64}", digest):
            raise UnexpectedAnswer(SYSTEM, f"push of {image} gave the digest {digest!r}")
        return digest

    def _build_arguments(self, spec: ImageSpec, labels: Mapping[str, str]) -> list[str]:
        arguments = ["build", "--isolation", "chroot", "--format", "oci", "--timestamp", "0", "--layers=false"]
        arguments += ["--identity-label=false", "--force-rm", f"--tls-verify={_flag(self.registry.tls_verify)}"]
        arguments += ["--file", str(spec.dockerfile)]
        if spec.platform:
            arguments += ["--platform", spec.platform]
        for name, value in sorted(spec.build_args.items()):
            arguments += ["--build-arg", f"{name}={value}"]
        for name, value in sorted(labels.items()):
            arguments += ["--label", f"{name}={value}"]
        return arguments

    @contextmanager
    def _login(self) -> Iterator[list[str]]:
        """Credentials in a file that only we can read: on a command line everybody could."""
        if not self.registry.password:
            yield []
            return
        if not self.registry.login:
            raise ConfigError("buildah needs a login beside the password", "the registry's Airflow connection",
                              "For an access token of Google's registry the login is oauth2accesstoken")  # fmt: skip
        secret = base64.b64encode(f"{self.registry.login}:{self.registry.password}".encode()).decode()
        with tempfile.NamedTemporaryFile("w", prefix="mlfleet-auth-", suffix=".json") as file:
            host = urlsplit(self.registry.base_url).netloc
            json.dump({"auths": {host: {"auth": secret}}}, file)
            file.flush()
            yield ["--authfile", file.name]

    def _found(self, repository: str, tag: str) -> tuple[ManifestInfo, dict[str, str]] | None:
        """What the registry has under the tag, and its labels."""

        async def ask(client: ContainerRegistryClient) -> tuple[ManifestInfo, dict[str, str]] | None:
            info = await client.head_manifest(repository, tag)
            return (info, await client.labels(repository, info.digest)) if info else None

        return with_client(self._connect, ask)

    def _verify(self, repository: str, tag: str, found: Mapping[str, str], wanted: Mapping[str, str]) -> None:
        differing = sorted(name for name, value in wanted.items() if found.get(name) != value)
        if differing:
            shown = ", ".join(f"{name} is {found.get(name)!r}, not {wanted[name]!r}" for name in differing[:3])
            raise Conflict(
                "container_registry",
                f"{repository}:{tag} is in the registry with another content ({shown}); "
                "a tag is never used twice: clear the build task to get a new one",
            )

    def _built(self, spec: ImageSpec, tag: str, digest: str, labels: Mapping[str, str], *, built: bool) -> BuiltImage:
        reference = f"{self.registry.address}/{spec.repository}@{digest}"
        return BuiltImage(spec.repository, tag, digest, reference, labels, built)


def with_client(
    connect: Callable[[], ContainerRegistryClient], ask: Callable[[ContainerRegistryClient], Awaitable[T]]
) -> T:
    """Runs ``await ask(client)`` with a client of its own, from synchronous code."""

    async def call() -> T:
        async with connect() as client:
            return await ask(client)

    return asyncio.run(call())


def _check_labels(labels: Mapping[str, str]) -> None:
    """Refuses what would be replaced or lost: buildah turns labels into a line of the Dockerfile."""
    for name, value in labels.items():
        if re.search(r"[\n\\$]", value) or not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/-]*", name):
            raise ConfigError(f"an image can't have the label {name}={value!r}", "image labels",
                              "Names of letters, digits and ._/-; no $, backslash or line break in values")  # fmt: skip


def _flag(value: bool) -> str:
    return "true" if value else "false"
