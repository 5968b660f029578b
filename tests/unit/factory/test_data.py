"""From `data` to the tasks that wait."""

from __future__ import annotations

import subprocess
import sys
from datetime import timedelta
from typing import Any

from airflow.serialization.serialized_objects import DagSerialization

from tests.unit.factory.conftest import ROOT, dag_of
from tests.unit.manifest.samples import FULL

DATA = """\
data:
  - name: features
    gcs: {bucket: acme-features, object: "${data.end}/_SUCCESS"}
    timeout: 6h
    every: 5m
  - name: orders
    bigquery: {project: acme, dataset: sales, table: orders}
  - name: rates
    asset: {uri: "x-mlfleet://rates/released", since: end}
"""
STEPS = "steps: {before_training: [{name: look, operator: airflow.providers.standard.operators.empty.EmptyOperator}]}\n"


def after(dag: Any, task: str) -> set[str]:
    found: set[str] = dag.get_task(task).downstream_task_ids
    return found


def test_all_of_it_comes_before_every_training() -> None:
    dag = dag_of(FULL + DATA)
    for name in ("features", "orders", "rates"):
        assert after(dag, f"data.{name}") == {"default.polyaxon", "trading-cards.polyaxon"}
    features, orders, rates = (dag.get_task(f"data.{name}") for name in ("features", "orders", "rates"))
    assert (features.bucket, features.object) == ("acme-features", "${data.end}/_SUCCESS")
    assert (features.timeout, features.poke_interval) == (6 * 3600, 300)
    assert (orders.project, orders.dataset, orders.table, orders.partition) == (
        "acme",
        "sales",
        "orders",
        "${data.start}",
    )
    assert (rates.asset_uri, rates.since, rates.mode) == ("x-mlfleet://rates/released", "end", "reschedule")
    assert {task.gcp_conn_id for task in (features, orders)} == {"google_cloud_default"}
    assert orders.references["static"]["project.name"] == "prices"
    assert orders.retry_delay == timedelta(minutes=1)
    DagSerialization.to_dict(dag)


def test_steps_before_training_see_the_data() -> None:
    dag = dag_of(FULL + DATA + STEPS)
    assert after(dag, "data.features") == {"look"}
    assert after(dag, "look") == {"default.polyaxon", "trading-cards.polyaxon"}


def test_the_pool_of_those_that_wait() -> None:
    dag = dag_of(FULL + DATA + "pools: {default: ml, data: sensors}\n")
    assert {dag.get_task(f"data.{name}").pool for name in ("features", "orders", "rates")} == {"sensors"}


def test_building_such_a_dag_imports_no_google_provider() -> None:
    """It takes a second, in every process that builds the DAG; without such a section not even our own are loaded."""
    program = f"""
import sys
from tests.unit.factory.conftest import dag_of
from tests.unit.manifest.samples import FULL
dag_of(FULL)
assert "mlfleet.operators.data" not in sys.modules
dag_of(FULL + {DATA!r})
print([name for name in sys.modules if name.startswith(("airflow.providers.google.cloud", "google.cloud."))])
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.stdout.splitlines()[-1:] == ["[]"], ran.stderr
