"""What a build leaves behind in buildah's store, at its command line (real buildah: tests/contract)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from mlfleet.errors import JobStopped, TransientError
from tests.support.adversity import Clock, Kill
from tests.support.build_model import BuildahModel, Disk, Mishap, RegistryModel, Trouble

BUILD = ["build", "--file", "Dockerfile", "--tag", "registry.test/ml/churn:build-1", "context"]
IMAGE = "registry.test/ml/churn:build-1"


@pytest.fixture
def disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Disk:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    (tmp_path / "Dockerfile").write_text("FROM scratch\n")
    (tmp_path / "context").mkdir()
    return Disk()


def buildah(disk: Disk, *troubles: Trouble, said: list[str] | None = None) -> BuildahModel:
    tell = (said if said is not None else []).append
    return BuildahModel(Path("store"), tell, disk, RegistryModel(Clock()), troubles)


def build(one: BuildahModel) -> Path:
    note = one.note(IMAGE)
    one.run(BUILD)
    return note


def test_the_image_of_a_killed_build_goes_with_the_next_use_of_the_store(disk: Disk) -> None:
    one = buildah(disk, Trouble("rmi", Mishap.KILL_BEFORE))
    with pytest.raises(Kill), one.store():
        one.discard(IMAGE, build(one))
    assert list(disk.images) == [IMAGE]
    with buildah(disk).store():
        assert disk.images == {}
    assert list(Path("store/images").iterdir()) == []


def test_the_image_of_a_stopped_build_goes_too(disk: Disk) -> None:
    one = buildah(disk)
    with pytest.raises(JobStopped), one.store():
        note = build(one)
        one.stop()
        one.discard(IMAGE, note)
        one.run(["push", IMAGE])
    assert list(disk.images) == [IMAGE]
    with buildah(disk).store():
        assert disk.images == {}


def test_nothing_is_removed_while_somebody_builds(disk: Disk) -> None:
    one, other = buildah(disk), buildah(disk)
    with one.store():
        build(one)
        with other.store():
            assert list(disk.images) == [IMAGE]


def test_what_can_not_be_removed_now_is_kept_in_mind_and_not_talked_about(disk: Disk) -> None:
    one = buildah(disk, Trouble("rmi", Mishap.KILL_BEFORE))
    with pytest.raises(Kill), one.store():
        one.discard(IMAGE, build(one))
    said: list[str] = []
    with buildah(disk, Trouble("rmi", Mishap.DISK_FULL), said=said).store():
        assert list(disk.images) == [IMAGE]
    with buildah(disk, said=said).store():
        assert disk.images == {}
    assert said == []


def test_the_note_of_an_image_that_never_was_is_thrown_away(disk: Disk) -> None:
    one = buildah(disk, Trouble("build", Mishap.DISK_FULL))
    with pytest.raises(TransientError, match="is full"), one.store():
        build(one)
    with buildah(disk).store():
        assert list(Path("store/images").iterdir()) == []
