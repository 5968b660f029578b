from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import DAG
from airflow.serialization.serialized_objects import DagSerialization

from mlfleet.bundles.definition import Definition
from mlfleet.factory.dags import build_dags, check
from mlfleet.factory.plan import Plan
from mlfleet.manifest.document import parse
from mlfleet.manifest.environments import Pages, load_environment
from mlfleet.manifest.models import Project

ROOT = Path(__file__).parents[3]


def dags_of(
    text: str, commit: str = "c0ffee", environment: str = "dev", pages: Mapping[str, str] | None = None
) -> list[DAG]:
    """The DAGs of a manifest text that is known to be valid, in an environment of this repository with these pages.

    Checked as the bundle does before they are taken; and they are those that a process builds from what was laid out.
    """
    project = Project.model_validate(parse(text, "test.yaml").data)
    found, diagnostics = load_environment(ROOT / "include" / "environments" / f"{environment}.yaml")
    assert found is not None, diagnostics
    found = found.model_copy(update={"pages": Pages(**(pages or {}))})
    manifest = f"include/projects/{project.name}.yaml"
    dags = build_dags(Plan(project, found, manifest, commit))
    check(dags)
    laid_out = build_dags(Definition.of(project, found, manifest).plan(ROOT, commit)._replace(root=None))
    assert [DagSerialization.to_dict(dag) for dag in laid_out] == [DagSerialization.to_dict(dag) for dag in dags]
    return laid_out


def dag_of(text: str, **plan: Any) -> DAG:
    """The only DAG of a manifest, see `dags_of`."""
    (dag,) = dags_of(text, **plan)
    return dag
