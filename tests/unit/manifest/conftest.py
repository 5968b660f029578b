from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mlfleet.manifest.loading import Loaded, Repository, load_manifest
from tests.unit.manifest.samples import FULL, environment_of


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A repository with the code of the project of `samples.FULL` and one environment."""
    (tmp_path / "include" / "projects").mkdir(parents=True)
    (tmp_path / "include" / "environments").mkdir()
    folder = tmp_path / "include" / "pipelines" / "prices"
    folder.mkdir(parents=True)
    for name in ("polyaxonfile.yaml", "train.py", "features.py", "pipeline.py"):
        (folder / name).write_text("")
    (folder / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\n")
    (tmp_path / "Dockerfile").write_text("FROM python\n")
    (tmp_path / "include" / "environments" / "dev.yaml").write_text(
        'name: dev\nvalues: {data_root: "${process.ROOT}", base_image: base}\n'
    )
    return Repository(tmp_path)


@pytest.fixture
def load(repository: Repository) -> Callable[[str], Loaded]:
    """Loads a manifest text as include/projects/prices.yaml."""

    def load_text(text: str = FULL) -> Loaded:
        path = repository.projects / "prices.yaml"
        path.write_text(text, encoding="utf-8")
        return load_manifest(path, repository, [environment_of(repository)])

    return load_text
