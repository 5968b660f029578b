from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG

from mlfleet.factory.dags import build_dag
from mlfleet.factory.plan import Plan
from mlfleet.manifest.document import parse
from mlfleet.manifest.environments import load_environment
from mlfleet.manifest.models import Project

ROOT = Path(__file__).parents[3]


def dag_of(text: str, commit: str = "c0ffee", environment: str = "dev") -> DAG:
    """The DAG of a manifest text that is known to be valid, in an environment of this repository."""
    project = Project.model_validate(parse(text, "test.yaml").data)
    found, diagnostics = load_environment(ROOT / "include" / "environments" / f"{environment}.yaml")
    assert found is not None, diagnostics
    return build_dag(Plan(project, found, f"include/projects/{project.name}.yaml", commit))
