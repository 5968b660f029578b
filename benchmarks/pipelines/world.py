"""A git repository of generated pipelines, and a commit that changes three of them in three ways."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

MANIFEST = """\
kind: Project
name: {name}
owners: [{{github: "@acme/team"}}]
experiments: [{{name: default}}]
training: {{kfp: {{pipeline: "pipeline.py:train"}}}}
"""
PIPELINE = """\
from pathlib import Path

from _lib.steps import publish
from components.{component} import prepare
from kfp import dsl

QUERY = Path(__file__).with_name("query.sql").read_text()


@dsl.component(base_image="python:3.11")
def fit(rows: str, rate: float) -> str:
    return f"{{rows}} {{rate}}"


@dsl.pipeline(name="{name}")
def train(rate: float = 0.1):
    rows = prepare(query=QUERY)
    model = fit(rows=rows.output, rate=rate)
    publish(model=model.output)
"""
COMPONENT = """\
from kfp import dsl


@dsl.component(base_image="python:3.11")
def {name}({parameter}: str) -> str:
    return {parameter} + "{value}"
"""
# A component for ten pipelines each, and one for a single one.
SHARED_BY = 10
ALONE = 7


def name_of(number: int) -> str:
    return f"project-{number:04}"


def write_repository(root: Path, pipelines: int) -> str:
    """The repository with its first commit, whose id is returned."""
    include = root / "include"
    put(include / "environments/dev.yaml", "name: dev\n")
    put(include / "pipelines/_lib/__init__.py", "")
    put(include / "pipelines/_lib/steps.py", COMPONENT.format(name="publish", parameter="model", value=""))
    put(include / "components/__init__.py", "")
    put(root / "requirements.txt", "kfp==2.16.1\n")
    for number in range(pipelines):
        name = name_of(number)
        component = "alone" if number == ALONE else f"group_{number // SHARED_BY}"
        put(include / f"components/{component}.py", COMPONENT.format(name="prepare", parameter="query", value="1"))
        put(include / f"projects/{name}.yaml", MANIFEST.format(name=name))
        folder = include / "pipelines" / name
        put(folder / "pipeline.py", PIPELINE.format(name=name, component=component))
        put(folder / "query.sql", "select 1\n")
        put(folder / "train.py", "print('training')\n" * 200)
    git(root, "init", "--quiet", "--initial-branch=main")
    return commit(root)


def change_three(root: Path) -> str:
    """The second commit: one pipeline's text, the component that one has alone, the file that one reads."""
    code = root / "include/pipelines" / name_of(3) / "pipeline.py"
    code.write_text(code.read_text().replace("0.1", "0.2"))
    put(root / "include/components/alone.py", COMPONENT.format(name="prepare", parameter="query", value="2"))
    put(root / "include/pipelines" / name_of(9) / "query.sql", "select 2\n")
    put(root / "README.md", "Not part of any pipeline.\n")
    return commit(root)


def put(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def commit(root: Path) -> str:
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "generated")
    return git(root, "rev-parse", "HEAD")


def git(root: Path, *words: str) -> str:
    who = {
        f"GIT_{role}_{what}": "generated@example.com" for role in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    return subprocess.run(
        ["git", *words], cwd=root, env={**os.environ, **who}, check=True, capture_output=True, text=True
    ).stdout.strip()
