"""What a look at a repository reads again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlfleet.bundles.survey import Entry, Survey
from tests.unit.bundles.conftest import Repo
from tests.unit.manifest.samples import MINIMAL


@pytest.fixture
def survey(repo: Repo) -> Survey:
    """Three projects; the code of `prices` takes something that projects share."""
    library = repo.root / "include/pipelines/_lib/__init__.py"
    library.parent.mkdir()
    library.write_text("SHARED = 1\n")
    (repo.root / "include/pipelines/prices/train.py").write_text("from include.pipelines._lib import SHARED\n")
    return Survey(repo.root)


def look(survey: Survey) -> dict[str, Entry]:
    entries, problems = survey.look()
    assert problems == {}
    return {entry.manifest: entry for entry in entries}


def read_again(survey: Survey, before: dict[str, Entry]) -> set[str]:
    """Manifests that this look has read, by the entries that it made."""
    return {Path(manifest).stem for manifest, entry in look(survey).items() if entry is not before.get(manifest)}


def test_the_second_look_reads_nothing(survey: Survey) -> None:
    """A fleet is read once when the processor starts, and not again when something has changed for the first time."""
    assert read_again(survey, look(survey)) == set()


def test_an_edited_manifest_is_read_again_alone(survey: Survey, repo: Repo) -> None:
    before = look(survey)
    assert survey.manifests_are_as_before()
    repo.write("cards", MINIMAL.replace("prices", "cards") + "tags: [new]\n")
    assert not survey.manifests_are_as_before()
    assert read_again(survey, before) == {"cards"}
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
def test_what_a_file_is_read_for(survey: Survey, repo: Repo, file: str, expected: set[str]) -> None:
    before = look(survey)
    path = repo.root / file
    path.parent.mkdir(exist_ok=True)
    path.write_text((path.read_text() if path.exists() else "") + "\n" if path.suffix != ".yaml" else YAML[path.stem])
    assert read_again(survey, before) == expected


YAML = {"dev": "name: dev\nvalues: {data_root: x, pipeline_root: x, base_image: x}\n", "defaults": "labels: {a: b}\n"}


def test_a_project_that_is_not_called_like_its_file_is_watched_by_its_name(survey: Survey, repo: Repo) -> None:
    os.rename(repo.manifest("prices"), repo.manifest("other"))
    look(survey)
    before = look(survey)
    assert read_again(survey, before) == set()
    (repo.root / "include/pipelines/prices/train.py").write_text("print('other')\n")
    assert read_again(survey, before) == {"other"}


def test_a_project_that_is_gone(survey: Survey, repo: Repo) -> None:
    before = look(survey)
    repo.manifest("toys").unlink()
    assert not survey.manifests_are_as_before()
    after = look(survey)
    assert set(before) - set(after) == {"include/projects/toys.yaml"}
