"""A registry that is down, full or has the tag already, from build to release: real registry, real buildah."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mlfleet.operators.image import BuildImageOperator
from mlfleet.operators.release import ReleaseOperator
from mlfleet.sensors.container_registry import ImageSensor
from tests.support.delivery import Run
from tests.support.image_build import (
    RegistryUnderTest,
    push_base,
    registry_with_a_small_disk,
    running_registry,
)
from tests.support.processes import free_port
from tests.support.trouble import connection, fails_at_once, fails_for_now

pytestmark = pytest.mark.skipif(
    not (shutil.which("buildah") and shutil.which("docker-registry")), reason="make setup installs these"
)
REPO = "ml/churn"


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryUnderTest]:
    with running_registry(tmp_path_factory.mktemp("registry") / "state") as running:
        yield running


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("MLFLEET_BUILDAH_ROOT", str(tmp_path / "store"))

    def to(url: str) -> None:
        monkeypatch.setenv("AIRFLOW_CONN_CONTAINER_REGISTRY_DEFAULT", connection("container_registry", url))

    return to


def build(folder: Path, base: str = "scratch", content: bytes = b"print('serving')\n") -> BuildImageOperator:
    context = folder / "context"
    context.mkdir(exist_ok=True)
    (context / "serve.py").write_bytes(content)
    (context / "Dockerfile").write_text(f"FROM {base}\nCOPY serve.py /app/\n")
    return BuildImageOperator(
        task_id="build_image", repository=REPO, dockerfile=str(context / "Dockerfile"), context=str(context)
    )


def verify(image: dict[str, Any]) -> ImageSensor:
    return ImageSensor(
        task_id="verify_image", repository=REPO, tag=image["tag"], digest=image["digest"], deferrable=False
    )


def release() -> ReleaseOperator:
    return ReleaseOperator(task_id="release", build_task_id="build_image")


def tags(registry: RegistryUnderTest) -> list[str]:
    return list(registry.ask(lambda client: client.tags(REPO)))  # type: ignore[call-overload]


def test_a_registry_that_is_down(tmp_path: Path, connect: Any) -> None:
    port = free_port()
    address = f"127.0.0.1:{port}"
    connect(f"http://{address}")
    building, releasing = Run(task_id="build_image"), Run()
    told = fails_for_now(build(tmp_path), building)
    assert address in told
    assert "cannot be reached" in told
    assert "look whether it is up" in told
    with running_registry(tmp_path / "state", port) as running:
        image = build(tmp_path).execute(building.context())
        assert tags(running) == [image["tag"]]
        verified = Run(task_id="verify_image")
        assert verify(image).execute(verified.context())["digest"] == image["digest"]
    releasing.results["build_image"] = image
    told = fails_for_now(release(), releasing)
    assert address in told
    assert "look whether it is up" in told
    told = fails_for_now(verify(image), verified)
    assert address in told
    with running_registry(tmp_path / "state", port) as running:
        released = release().execute(releasing.context())
        assert sorted(tags(running)) == sorted([image["tag"], released["tag"]])


def test_a_registry_whose_disk_is_full(tmp_path: Path, connect: Any) -> None:
    large = os.urandom(6 * 2**20)
    with registry_with_a_small_disk(tmp_path / "small", mebibytes=10) as small:
        connect(small.url)
        building = Run(task_id="build_image")
        filler = fill(small, 8)
        told = fails_for_now(build(tmp_path, content=large), building)
        assert "the registry failed" in told
        assert "look at its disk" in told
        assert tags(small) == []
        filler.unlink()
        image = build(tmp_path, content=large).execute(building.context())
        assert tags(small) == [image["tag"]]

        releasing = Run(results={"build_image": image})
        filler = fill(small, 0)
        told = fails_for_now(release(), releasing)
        assert "its disk is full" in told
        # docker-registry may list a tag whose link it could not write: only a manifest behind it counts.
        for half in set(tags(small)) - {image["tag"]}:
            assert small.ask(lambda client, tag=half: client.head_manifest(REPO, tag)) is None
        filler.unlink()
        released = release().execute(releasing.context())
        assert released["digest"] == image["digest"]
        assert released["tag"].endswith("-1")
        head = small.ask(lambda client: client.head_manifest(REPO, released["tag"]))
        assert head.digest == image["digest"]  # type: ignore[attr-defined]


def fill(registry: RegistryUnderTest, mebibytes: int) -> Path:
    """A file on the registry's disk of so many MiB, 0 for all that is left. The disk is in another mount namespace."""
    path = Path(f"/proc/{registry.service.pid}/root") / str(registry.state / "storage" / "filler").lstrip("/")
    size = 0
    try:
        with path.open("wb", buffering=0) as file:
            while not mebibytes or size < mebibytes * 2**20:
                size += file.write(b"x" * 4096)
    except OSError:
        pass
    return path


def test_a_build_tag_that_is_taken(registry: RegistryUnderTest, tmp_path: Path, connect: Any) -> None:
    connect(registry.url)
    base = push_base(registry)
    building = Run(task_id="build_image")
    probe = Run(task_id="build_image")
    wanted = build(tmp_path, base).execute(building.context())
    # Somebody else puts another image under the very tag that this build is going to have.
    other = build(tmp_path, base, b"print('other')\n").execute(Run(task_id="elsewhere").context())
    body, info = registry.ask(lambda client: client.get_manifest(REPO, other["digest"]))  # type: ignore[misc]
    registry.ask(lambda client: client.put_manifest(REPO, wanted["tag"], body, info.media_type))
    told = fails_at_once(build(tmp_path, base), building)
    assert f"{REPO}:{wanted['tag']} is in the registry with another content" in told
    assert "clear the build task" in told
    head = registry.ask(lambda client: client.head_manifest(REPO, wanted["tag"]))
    assert head.digest == other["digest"]  # type: ignore[attr-defined]
    again = build(tmp_path, base).execute(building.cleared().context())
    assert again["tag"] != wanted["tag"]
    assert probe.store == {}


def test_a_release_tag_that_is_taken(registry: RegistryUnderTest, tmp_path: Path, connect: Any) -> None:
    connect(registry.url)
    base = push_base(registry)
    image = build(tmp_path, base).execute(Run(task_id="build_image").context())
    other = build(tmp_path, base, b"print('other')\n").execute(Run(task_id="elsewhere").context())
    releasing = Run(results={"build_image": image})
    first = release().execute(releasing.context())
    body, info = registry.ask(lambda client: client.get_manifest(REPO, other["digest"]))  # type: ignore[misc]
    registry.ask(lambda client: client.put_manifest(REPO, first["tag"], body, info.media_type))
    told = fails_at_once(release(), releasing)
    assert f"{REPO}:{first['tag']} is in the registry as {other['digest']}" in told
    assert "clear the release task" in told
    head = registry.ask(lambda client: client.head_manifest(REPO, first["tag"]))
    assert head.digest == other["digest"]  # type: ignore[attr-defined]
    again = release().execute(releasing.cleared().context())
    assert again["tag"].endswith("-2")
    assert again["digest"] == image["digest"]
