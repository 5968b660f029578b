"""What the parts of the factory know together about the DAG that they build."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mlfleet.manifest.environments import Environment
from mlfleet.manifest.models import Project


@dataclass(frozen=True)
class Plan:
    """One DAG to build.

    ``manifest``  path of the manifest, relative to the repository
    ``commit``    of the code, or "unknown"
    ``root``      the repository that holds the code; None when it lies above the DAG's file
    """

    project: Project
    environment: Environment
    manifest: str
    commit: str
    root: Path | None = None

    def file(self, name: str) -> str:
        """A file of the project, relative to the repository: serialized DAGs must not depend on where it lies."""
        return f"include/pipelines/{self.project.name}/{name}"
