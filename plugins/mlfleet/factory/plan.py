"""What the parts of the factory know together about the DAG that they build."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from mlfleet.factory.retries import FleetRetryPolicy

if TYPE_CHECKING:
    from mlfleet.manifest.environments import Environment
    from mlfleet.manifest.models import Project

RETRIES = FleetRetryPolicy()


class Plan(NamedTuple):
    """One DAG to build.

    ``manifest``  path of the manifest, relative to the repository
    ``commit``    of the code, or "unknown"
    ``root``      the repository that holds the code; None when it lies above the DAG's file
    ``resolved``  the project as YAML, where somebody has made it already
    """

    project: Project
    environment: Environment
    manifest: str
    commit: str
    root: Path | None = None
    resolved: str | None = None

    def common(self, task: str) -> dict[str, Any]:
        """Arguments that every task has; ``task`` is its name as ``pools`` of the manifest knows it.

        The policy is given to each task and not by default arguments: Airflow serializes those, and with them the
        address of an object.
        """
        pool = getattr(self.project.pools, task, None)
        return {"retry_policy": RETRIES, **({"pool": pool} if pool else {})}

    def file(self, name: str) -> str:
        """A file of the project, relative to the repository: serialized DAGs must not depend on where it lies."""
        return f"include/pipelines/{self.project.name}/{name}"
