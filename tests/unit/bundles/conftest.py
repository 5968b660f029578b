from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from airflow.dag_processing.dagbag import DagBag

from mlfleet.bundles import ManifestDagBundle
from tests.unit.manifest.samples import FULL, MINIMAL

ROOT = Path(__file__).parents[3]
GIT = "airflow.providers.git.bundles.git.GitDagBundle"


@dataclass
class Repo:
    """A repository with manifests, and what a bundle makes of it."""

    root: Path
    storage: Path

    def manifest(self, name: str) -> Path:
        return self.root / "include" / "projects" / f"{name}.yaml"

    def write(self, name: str, text: str | None = None) -> None:
        """A good minimal manifest of that name, or the given text."""
        self.manifest(name).write_text(MINIMAL.replace("prices", name) if text is None else text, encoding="utf-8")

    def breaks(self, name: str) -> None:
        path = self.manifest(name)
        path.write_text(path.read_text().replace("experiments:", "experimnets:"), encoding="utf-8")

    def git(self, *words: str) -> str:
        command = ["git", "-C", str(self.root), "-c", "user.name=t", "-c", "user.email=t@example.com", *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    def commit(self) -> str:
        self.git("add", "-A")
        self.git("commit", "-qm", "change")
        return self.git("rev-parse", "HEAD")

    def bundle(self, **kwargs: Any) -> ManifestDagBundle:
        return ManifestDagBundle(name="projects", path=str(self.root), **kwargs)

    def git_bundle(self, version: str | None = None, **kwargs: Any) -> ManifestDagBundle:
        source = {"classpath": GIT, "kwargs": {"tracking_ref": "main", "git_conn_id": "fleet"}}
        return ManifestDagBundle(name="projects", source=source, version=version, **kwargs)

    def worker(self, dag_id: str, make: Callable[..., ManifestDagBundle], **kwargs: Any) -> tuple[Any, DagBag, Path]:
        """What a task process of that DAG does first (task_runner.parse): the DAG or None, the bag, the folder."""
        # Airflow's own context manager leaves its variables behind, which is right for a process of one task.
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("_AIRFLOW_PARSING_CONTEXT_DAG_ID", dag_id)
            bundle = make(**kwargs)
            bundle.initialize()
            file = bundle.path / f"{dag_id.partition('.')[0]}.py"
            bag = bag_of(file if file.is_file() else next(bundle.path.glob("group-*.py"), file), bundle.path)
        return bag.dags.get(dag_id), bag, bundle.path


def bag_of(file: Path, folder: Path) -> DagBag:
    return DagBag(file, bundle_path=folder, safe_mode=True)


def files(bundle: ManifestDagBundle) -> dict[str, tuple[int, int]]:
    """Laid-out files with what changes when one is written."""
    return {
        path.relative_to(bundle.path).as_posix(): (path.stat().st_ino, path.stat().st_mtime_ns)
        for path in sorted(bundle.path.rglob("*.py"))
    }


@pytest.fixture
def repo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """Three good projects; `prices` is a full one with code. The storage is empty."""
    root, storage = tmp_path / "repo", tmp_path / "storage"
    shutil.copytree(ROOT / "include" / "environments", root / "include" / "environments")
    folder = root / "include" / "pipelines" / "prices"
    folder.mkdir(parents=True)
    for name in ("polyaxonfile.yaml", "train.py", "features.py", "pipeline.py", "Dockerfile"):
        (folder / name).write_text("")
    (root / "include" / "projects").mkdir()
    monkeypatch.setenv("AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH", str(storage))
    monkeypatch.setenv("AIRFLOW_CONN_FLEET", json.dumps({"conn_type": "git", "host": str(root)}))
    found = Repo(root, storage)
    found.write("prices", FULL)
    found.write("cards")
    found.write("toys")
    return found


@pytest.fixture
def git_repo(repo: Repo) -> Repo:
    repo.git("init", "-q", "-b", "main")
    repo.commit()
    return repo


@pytest.fixture
def bundle(repo: Repo) -> ManifestDagBundle:
    made = repo.bundle()
    made.initialize()
    return made
