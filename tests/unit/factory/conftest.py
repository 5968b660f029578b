from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow.sdk import DAG

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

    Checked as the bundle does before they are taken.
    """
    project = Project.model_validate(parse(text, "test.yaml").data)
    found, diagnostics = load_environment(ROOT / "include" / "environments" / f"{environment}.yaml")
    assert found is not None, diagnostics
    found = found.model_copy(update={"pages": Pages(**(pages or {}))})
    dags = build_dags(Plan(project, found, f"include/projects/{project.name}.yaml", commit))
    check(dags)
    return dags


def dag_of(text: str, **plan: Any) -> DAG:
    """The only DAG of a manifest, see `dags_of`."""
    (dag,) = dags_of(text, **plan)
    return dag
