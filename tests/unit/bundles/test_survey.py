"""What a look at a repository reads again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlfleet.bundles import survey as module
from mlfleet.bundles.survey import Entry, Survey
from tests.unit.bundles.conftest import Repo
from tests.unit.manifest.samples import MINIMAL

Read = Callable[[], set[str]]


@pytest.fixture
def survey(repo: Repo) -> Survey:
    """Three projects; the code of `prices` takes something that projects share."""
    library = repo.root / "include/pipelines/_lib/__init__.py"
    library.parent.mkdir()
    library.write_text("SHARED = 1\n")
    (repo.root / "include/pipelines/prices/train.py").write_text("from include.pipelines._lib import SHARED\n")
    return Survey(repo.root)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Manifests in the order in which they are read; the real reading."""
    found: list[str] = []

    def examine(path: Path, *words: Any) -> Entry:
        found.append(path.stem)
        return real(path, *words)

    real = module.examine
    monkeypatch.setattr(module, "examine", examine)
    return found


@pytest.fixture
def read(survey: Survey, reads: list[str]) -> Read:
    """Looks, and says which manifests that look has read."""

    def look() -> set[str]:
        reads.clear()
        assert survey.look()[1] == {}
        return set(reads)

    return look


def test_the_second_look_reads_nothing(read: Read) -> None:
    """A fleet is read once when the processor starts, and not again when something has changed for the first time."""
    assert read() == {"prices", "cards", "toys"}
    assert read() == set()


def test_an_edited_manifest_is_read_again_alone(survey: Survey, repo: Repo, read: Read) -> None:
    read()
    assert survey.manifests_are_as_before()
    repo.write("cards", MINIMAL.replace("prices", "cards") + "tags: [new]\n")
    assert not survey.manifests_are_as_before()
    assert read() == {"cards"}
    assert survey.manifests_are_as_before()


@pytest.mark.parametrize(
    ("file", "expected"),
    [
        ("include/pipelines/prices/train.py", {"prices"}),
        ("include/pipelines/_lib/__init__.py", {"prices"}),
        ("include/components/new.py", {"prices"}),
        ("include/environments/dev.yaml", {"prices", "cards", "toys"}),
        ("include/defaults.yaml", {"prices", "cards", "toys"}),
        ("include/projects/README.md", set()),
    ],
)
def test_what_a_file_is_read_for(repo: Repo, read: Read, file: str, expected: set[str]) -> None:
    read()
    path = repo.root / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "\n" if path.suffix != ".yaml" else YAML[path.stem])
    assert read() == expected


YAML = {"dev": "name: dev\nvalues: {data_root: x, pipeline_root: x, base_image: x}\n", "defaults": "labels: {a: b}\n"}


def test_a_project_that_is_not_called_like_its_file_is_watched_by_its_name(repo: Repo, read: Read) -> None:
    os.rename(repo.manifest("prices"), repo.manifest("other"))
    read()
    read()
    assert read() == set()
    (repo.root / "include/pipelines/prices/train.py").write_text("print('other')\n")
    assert read() == {"other"}


def test_a_project_that_is_gone(survey: Survey, repo: Repo, read: Read) -> None:
    read()
    repo.manifest("toys").unlink()
    assert not survey.manifests_are_as_before()
    assert [Path(entry.manifest).stem for entry in survey.look()[0]] == ["cards", "prices"]
