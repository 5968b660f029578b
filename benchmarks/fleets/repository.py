"""A deployment repository with thousands of projects, as a plain folder and as a git repository."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
MODEL = "price-suggestion"


def name_of(number: int) -> str:
    return f"project-{number:04d}"


def make(root: Path, projects: int) -> None:
    """So many copies of the example project: eleven tasks a DAG."""
    include = REPOSITORY / "include"
    for folder in ("environments", "components", "pipelines/_lib"):
        shutil.copytree(include / folder, root / "include" / folder, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "include" / "projects").mkdir()
    for number in range(projects):
        shutil.copytree(include / "pipelines" / MODEL, root / "include" / "pipelines" / name_of(number), symlinks=True,
                        ignore=shutil.ignore_patterns("__pycache__"))  # fmt: skip
        edit(root, number, "first")


def edit(root: Path, number: int, tag: str) -> None:
    """Writes a project's manifest with this tag, which is what is looked for in Airflow's database."""
    text = (REPOSITORY / "include" / "projects" / f"{MODEL}.yaml").read_text(encoding="utf-8")
    text = text.replace(f"name: {MODEL}", f"name: {name_of(number)}") + f"\ntags: [{tag}]\n"
    path = root / "include" / "projects" / f"{name_of(number)}.yaml"
    # As editors and git write: the new file takes the place of the old one.
    temporary = path.with_suffix(".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def commit(root: Path, message: str) -> None:
    """Everything that has changed, as one commit; the repository is made if there is none."""
    if not (root / ".git").is_dir():
        git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "-c", "user.name=bench", "-c", "user.email=bench@example.com", "commit", "-q", "-m", message)


def git(root: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", str(root), *words], check=True, capture_output=True, text=True).stdout.strip()
