"""What image tests share: a registry, a small base image, a buildah builder, a registry whose disk is tiny."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import yaml

from mlfleet.clients.container_registry import DOCKER_MANIFEST, ContainerRegistryClient, sha256_digest
from mlfleet.clients.http import HttpClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.systems.buildah import BuildahBuilds, Registry, with_client
from tests.support.processes import SERVICES_PYTHON, Service, free_port, start_service


@dataclass
class RegistryUnderTest:
    """A real docker-registry; `address` is host:port."""

    service: Service
    state: Path
    login: str = ""
    password: str = ""

    @property
    def url(self) -> str:
        return self.service.url

    @property
    def address(self) -> str:
        return self.url.removeprefix("http://")

    def client(self) -> ContainerRegistryClient:
        return client_of(self.url, self.login, self.password)

    def ask(self, question: Callable) -> object:  # type: ignore[type-arg]
        return with_client(self.client, question)


def client_of(url: str, login: str = "", password: str = "") -> ContainerRegistryClient:
    http = HttpClient(url, system="container_registry", retry=RetryPolicy(attempts=1))
    return ContainerRegistryClient(http, login=login, password=password)


@contextmanager
def running_registry(state: Path, port: int | None = None) -> Iterator[RegistryUnderTest]:
    port = port or free_port()
    command = [SERVICES_PYTHON, "-m", "sandbox.registry", "--port", str(port), "--state", state]
    with start_service(command, port, "/v2/", state.with_suffix(".log")) as service:
        yield RegistryUnderTest(service, state)


@contextmanager
def registry_with_a_small_disk(state: Path, mebibytes: int) -> Iterator[RegistryUnderTest]:
    """The registry on a memory disk of its own, in a mount namespace that ends with it."""
    script = f'mount -t tmpfs -o size={mebibytes}m tmpfs "$1" && shift && exec "$@"'
    prefix = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(state / "storage")]
    with _configured(state, {}, prefix) as running:
        yield running


LOGIN, PASSWORD = "builder", "pw"
_HTPASSWD = f"{LOGIN}:$2y$05$abcdefghijklmnopqrstuuHIrMEWpUCQe2YqFR3sXwQ75u4od..9q\n"


@contextmanager
def registry_with_a_password(state: Path) -> Iterator[RegistryUnderTest]:
    """Only LOGIN with PASSWORD may read and write."""
    state.mkdir(parents=True)
    (state / "htpasswd").write_text(_HTPASSWD)
    auth = {"auth": {"htpasswd": {"realm": "test", "path": str(state / "htpasswd")}}}
    with _configured(state, auth, []) as running:
        running.login, running.password = LOGIN, PASSWORD
        yield running


@contextmanager
def _configured(state: Path, more: dict[str, object], prefix: list[str]) -> Iterator[RegistryUnderTest]:
    port, storage = free_port(), state / "storage"
    storage.mkdir(parents=True)
    config = {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}},
        "http": {"addr": f"127.0.0.1:{port}"},
        **more,
    }
    (state / "config.yml").write_text(yaml.safe_dump(config))
    command = [*prefix, str(shutil.which("docker-registry")), "serve", str(state / "config.yml")]
    with start_service(command, port, "/" if more else "/v2/", state / "log") as service:
        yield RegistryUnderTest(service, state)


def push_base(registry: RegistryUnderTest, repository: str = "test/base", tag: str = "1") -> str:
    """A base image of one file, without an interpreter; returns its reference."""

    async def push(client: ContainerRegistryClient) -> None:
        import gzip
        import json

        archive = io.BytesIO()
        with tarfile.open(fileobj=archive, mode="w") as tar:
            info = tarfile.TarInfo("etc/base")
            info.size = 5
            tar.addfile(info, io.BytesIO(b"base\n"))
        layer = gzip.compress(archive.getvalue(), mtime=0)
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "config": {"Labels": {"base": "yes"}},
                "rootfs": {"type": "layers", "diff_ids": [sha256_digest(archive.getvalue())]},
            }
        ).encode()
        for blob in (layer, config):
            await client.put_blob(repository, blob)
        manifest = {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": {
                "mediaType": "application/vnd.docker.container.image.v1+json",
                "size": len(config),
                "digest": sha256_digest(config),
            },
            "layers": [
                {
                    "mediaType": "application/vnd.docker.image.rootfs.diff.tar.gzip",
                    "size": len(layer),
                    "digest": sha256_digest(layer),
                }
            ],
        }
        await client.put_manifest(repository, tag, json.dumps(manifest).encode(), DOCKER_MANIFEST)

    registry.ask(push)
    return f"{registry.address}/{repository}:{tag}"


@dataclass
class Builder:
    """BuildahBuilds with a store of its own; `lines` is what it said."""

    registry: RegistryUnderTest
    root: Path
    lines: list[str] = field(default_factory=list)
    password: str = ""

    def __post_init__(self) -> None:
        self.builds = BuildahBuilds(
            Registry(self.registry.url, self.registry.login, self.password or self.registry.password),
            self.registry.client,
            root=self.root,
            tell=self.lines.append,
        )

    @property
    def did_build(self) -> bool:
        return any(line.startswith("STEP") for line in self.lines)
