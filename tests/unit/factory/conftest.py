from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from airflow.sdk import DAG

from mlfleet.factory.dags import build_dag
from mlfleet.factory.plan import Plan
from mlfleet.manifest.document import parse
from mlfleet.manifest.environments import load_environment
from mlfleet.manifest.models import Project
from tests.unit.manifest.samples import FULL

ROOT = Path(__file__).parents[3]
Write = Callable[[str, str], None]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A deployment repository with the real loaders and environments, one good project and nothing else."""
    for folder in ("dags", "include/environments"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "include" / "projects").mkdir()
    folder = tmp_path / "include" / "pipelines" / "prices"
    folder.mkdir(parents=True)
    for name in ("polyaxonfile.yaml", "train.py", "features.py", "pipeline.py", "Dockerfile"):
        (folder / name).write_text("")
    (tmp_path / "include" / "projects" / "prices.yaml").write_text(FULL)
    return tmp_path


def dag_of(text: str, commit: str = "c0ffee", environment: str = "dev") -> DAG:
    """The DAG of a manifest text that is known to be valid, in an environment of this repository."""
    project = Project.model_validate(parse(text, "test.yaml").data)
    found, diagnostics = load_environment(ROOT / "include" / "environments" / f"{environment}.yaml")
    assert found is not None, diagnostics
    return build_dag(Plan(project, found, f"include/projects/{project.name}.yaml", commit))
