"""One Airflow DAG per manifest in include/projects.

A worker runs one task of one DAG: it builds only that one. Manifests with errors give no DAG here; they are named by
broken_projects.py, because Airflow marks all DAGs of a failing file stale.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import get_parsing_context

from mlfleet.factory.dags import assemble, assemble_one

ROOT = Path(__file__).resolve().parents[1]

wanted = get_parsing_context().dag_id
if wanted is None:
    globals().update({f"dag_{name}": dag for name, dag in assemble(ROOT).dags.items()})
else:
    dag = assemble_one(ROOT, wanted)
