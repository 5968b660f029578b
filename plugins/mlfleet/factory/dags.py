"""From a project to its DAG, and from all manifests of a repository to all DAGs that can be built."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

from mlfleet.errors import ManifestError, MlfleetError
from mlfleet.factory.delivery import deliver
from mlfleet.factory.facts import (
    commit_of,
    documentation_of,
    released_asset,
    schedule_of,
    start_of,
    tags_of,
)
from mlfleet.factory.plan import Plan
from mlfleet.factory.training import train
from mlfleet.manifest.diagnostics import Diagnostic, errors
from mlfleet.manifest.environments import select_environment
from mlfleet.manifest.loading import Loaded, Repository, find_manifest, load_fleet
from mlfleet.operators.base import REPOSITORY_ATTRIBUTE


@dataclass
class Assembly:
    """What can be built from a repository: DAGs by id, and the errors of the manifests that gave none."""

    dags: dict[str, DAG] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)

    def require_all(self) -> None:
        """Raises ManifestError with all problems, if there are any."""
        if self.problems:
            raise ManifestError(self.problems)


def build_dag(plan: Plan) -> DAG:
    """The DAG of one project; equal plans give DAGs that serialize alike."""
    project = plan.project
    dag = DAG(
        project.name,
        schedule=schedule_of(project),
        start_date=start_of(project),
        catchup=bool(project.schedule and project.schedule.catchup),
        # One release at a time per project is a rule of the design; overlapping runs would only wait for each other.
        max_active_runs=1,
        default_args=_default_args(plan),
        doc_md=documentation_of(project, plan.manifest),
        dag_display_name=project.title or project.name,
        tags=tags_of(project),
        # Loaders hand DAGs to Airflow themselves: one that is only being checked must not be picked up.
        auto_register=False,
    )
    with dag:
        trained = {experiment.slug: train(plan, experiment) for experiment in project.experiments}
        ends = {slug: task for slug, task in trained.items() if task is not None}
        last = deliver(plan, ends)
    if last is not None and project.image:
        last.outlets.append(released_asset(project.name))
    if plan.root is not None:
        # Not a field of Airflow's: never serialized, so that equal plans on two machines give equal DAGs.
        setattr(dag, REPOSITORY_ATTRIBUTE, str(plan.root))
    dag.validate()  # type: ignore[no-untyped-call]
    return dag


def assemble(root: Path) -> Assembly:
    """Builds every project of the repository at `root`; what is wrong with one does not touch another.

    Raises ConfigError or ManifestError when the environment itself (``MLFLEET_ENV``) cannot be used.
    """
    repository = Repository(root)
    environment = select_environment(repository.environments)
    assembly = Assembly()
    for loaded in load_fleet(repository).manifests:
        assembly.problems += errors(loaded.diagnostics)
        if loaded.project is None:
            continue
        plan = Plan(loaded.project, environment, loaded.document.file, commit_of(root))
        try:
            assembly.dags[loaded.project.name] = build_dag(plan)
        except Exception as error:  # a fault of the factory must stay with the one project that shows it
            assembly.problems.append(_fault(loaded, error))
    return assembly


def assemble_one(root: Path, dag_id: str) -> DAG | None:
    """The DAG called `dag_id` alone, which is all that a worker needs; None when no manifest has that name.

    Raises ManifestError or ConfigError when it cannot be built.
    """
    repository = Repository(root)
    path = find_manifest(repository, dag_id)
    if path is None:
        return None
    environment = select_environment(repository.environments)
    loaded = load_fleet(repository, [path]).manifests[0]
    return build_dag(Plan(loaded.require(), environment, loaded.document.file, commit_of(root)))


def _default_args(plan: Plan) -> dict[str, Any]:
    retries = plan.project.retries
    arguments: Mapping[str, int | str | datetime.timedelta] = {
        "owner": plan.project.owners[0].github,
        "retries": retries.count,
        "retry_delay": retries.delay,
    }
    return dict(arguments)


def _fault(loaded: Loaded, error: Exception) -> Diagnostic:
    said = str(error) if isinstance(error, MlfleetError) else f"{type(error).__name__}: {error}"
    loaded.document.report("MF020", (), f"no DAG could be built from this manifest: {said}")
    return loaded.document.diagnostics[-1]
