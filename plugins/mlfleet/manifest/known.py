"""What is known of a project before any run of it: the commit of its code, what references stand for."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlfleet.manifest.environments import Environment
    from mlfleet.manifest.models import Experiment, Project

COMMIT_VARIABLE = "MLFLEET_COMMIT"
UNKNOWN_COMMIT = "unknown"


def static_references(
    project: Project, environment: Environment, commit: str, experiment: Experiment | None = None
) -> dict[str, Any]:
    """What is known without a run; values of ``env.*`` may hold ``${process.NAME}``, which is read at run time."""
    found: dict[str, Any] = {"project.name": project.name, "git.commit": commit}
    found.update({f"env.{name}": value for name, value in environment.values.items()})
    if experiment is not None:
        found.update({"experiment.name": experiment.name, "experiment.slug": experiment.slug})
        found.update({f"experiment.params.{name}": value for name, value in experiment.params.items()})
    return dict(sorted(found.items()))


@functools.lru_cache(maxsize=64)
def commit_of(root: Path) -> str:
    """The commit of the code below `root`: of its git checkout, else of the variable MLFLEET_COMMIT, else "unknown".

    Images are often built without the .git folder; their build sets the variable.
    """
    # Starting git takes longer than building a DAG.
    if not any((folder / ".git").exists() for folder in (root, *root.absolute().parents)):
        return os.environ.get(COMMIT_VARIABLE) or UNKNOWN_COMMIT
    try:
        asked = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        if asked.returncode == 0:
            return asked.stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        pass
    return os.environ.get(COMMIT_VARIABLE) or UNKNOWN_COMMIT
