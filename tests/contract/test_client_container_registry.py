"""mlfleet's registry client against Debian's docker-registry."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from mlfleet.clients.container_registry import DOCKER_MANIFEST, ContainerRegistryClient, sha256_digest
from mlfleet.clients.http import HttpClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.errors import NotFound, RequestRefused, TransientError
from tests.support.images import Pushed, layer, push
from tests.support.processes import free_port
from tests.support.spinnaker import start_registry

T = TypeVar("T")
REPOSITORY = "ml/churn"
LABELS = {"mlfleet.key": "k", "mlfleet.mae": "1.5"}


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with start_registry(tmp_path_factory.mktemp("registry")) as address:
        yield address


@pytest.fixture
def pushed(registry: str) -> Pushed:
    return push(registry, REPOSITORY, [layer({"a": "b"})], {"Labels": LABELS}, "build-k")


def ask(address: str, use: Callable[[ContainerRegistryClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with HttpClient(f"http://{address}", system="container_registry", retry=RetryPolicy.once()) as http:
            return await use(ContainerRegistryClient(http))

    return asyncio.run(run())


def test_a_release_is_the_same_bytes_under_a_second_tag(registry: str, pushed: Pushed) -> None:
    async def release(client: ContainerRegistryClient) -> None:
        await client.ping()
        body, info = await client.get_manifest(REPOSITORY, "build-k")
        assert (body, info.digest, info.media_type) == (pushed.manifest, pushed.digest, DOCKER_MANIFEST)
        assert await client.head_manifest(REPOSITORY, "release-k-1") is None
        for _ in range(2):  # a second time changes nothing
            assert await client.put_manifest(REPOSITORY, "release-k-1", body, info.media_type) == pushed.digest
        assert await client.head_manifest(REPOSITORY, "release-k-1") == info
        assert await client.head_manifest(REPOSITORY, pushed.digest) == info
        assert {"build-k", "release-k-1"} <= set(await client.tags(REPOSITORY))
        assert await client.labels(REPOSITORY, "release-k-1") == LABELS
        assert (await client.image_config(REPOSITORY, pushed.digest))["architecture"] == "amd64"

    ask(registry, release)


def test_a_put_replaces_so_a_look_before_it_is_what_protects_a_tag(registry: str, pushed: Pushed) -> None:
    other = push(registry, REPOSITORY, [layer({"a": "c"})], {"Labels": {}}, "build-other")

    async def replace(client: ContainerRegistryClient) -> None:
        await client.put_manifest(REPOSITORY, "moved", pushed.manifest, DOCKER_MANIFEST)
        before = await client.head_manifest(REPOSITORY, "moved")
        assert before is not None
        assert before.digest == pushed.digest
        await client.put_manifest(REPOSITORY, "moved", other.manifest, DOCKER_MANIFEST)
        after = await client.head_manifest(REPOSITORY, "moved")
        assert after is not None
        assert after.digest == other.digest
        assert await client.labels(REPOSITORY, "moved") == {}

    ask(registry, replace)


def test_blobs_are_uploaded_once_and_come_back_whole(registry: str) -> None:
    content = bytes(range(256)) * 1000

    async def there_and_back(client: ContainerRegistryClient) -> bytes:
        digest = await client.put_blob(REPOSITORY, content)
        assert digest == sha256_digest(content) == await client.put_blob(REPOSITORY, content)
        return await client.get_blob(REPOSITORY, digest)

    assert ask(registry, there_and_back) == content


def test_what_is_missing(registry: str, pushed: Pushed) -> None:
    async def missing(client: ContainerRegistryClient) -> None:
        nothing = f"sha256:{'0' * 64}"
        assert await client.tags("no/such") == []
        for repository, reference in (("no/such", "x"), (REPOSITORY, "no-such"), (REPOSITORY, nothing)):
            assert await client.head_manifest(repository, reference) is None
            with pytest.raises(NotFound, match=r"(?i)unknown"):
                await client.get_manifest(repository, reference)
        with pytest.raises(NotFound):
            await client.get_blob(REPOSITORY, nothing)
        with pytest.raises(NotFound):
            await client.labels(REPOSITORY, "no-such")

    ask(registry, missing)


def test_a_manifest_whose_blobs_are_not_there_is_refused(registry: str, pushed: Pushed) -> None:
    wrong = json.loads(pushed.manifest)
    wrong["layers"][0]["digest"] = f"sha256:{'1' * 64}"

    async def put(client: ContainerRegistryClient, body: bytes) -> str:
        return await client.put_manifest(REPOSITORY, "wrong", body, DOCKER_MANIFEST)

    with pytest.raises(RequestRefused, match=r"(?i)blob unknown"):
        ask(registry, lambda client: put(client, json.dumps(wrong).encode()))
    with pytest.raises(RequestRefused):
        ask(registry, lambda client: put(client, b"no manifest"))
    assert ask(registry, lambda client: client.head_manifest(REPOSITORY, "wrong")) is None


def test_many_tags_are_all_listed(registry: str) -> None:
    image = push(registry, "ml/many", [layer({"a": "b"})], {}, *(f"t{n}" for n in range(30)))
    assert set(ask(registry, lambda client: client.tags("ml/many"))) == {f"t{n}" for n in range(30)}
    assert image.digest


def test_a_registry_that_is_down_is_transient(tmp_path: Path) -> None:
    with pytest.raises(TransientError):
        ask(f"127.0.0.1:{free_port()}", lambda client: client.ping())
