"""One DAG per case of the chaos tests, with one task; cases.json says which."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow.sdk import DAG

from mlfleet.operators.kfp import KFPRunOperator
from mlfleet.operators.polyaxon import PolyaxonRunOperator

HERE = Path(__file__).parent


def task(case: dict) -> None:
    shared = {
        "task_id": "job",
        "params": {"folder": case["folder"]},
        "retries": case["retries"],
        "retry_delay": timedelta(seconds=2),
        "poll_interval": 2.0,
        "deferrable": case["deferrable"],
        "timeout": timedelta(seconds=case["timeout"]) if case["timeout"] else None,
    }
    if case["system"] == "polyaxon":
        PolyaxonRunOperator(
            project=case["dag_id"],
            polyaxonfile=str(HERE / "polyaxonfile.yaml"),
            files={"job.sh": str(HERE / "job.sh")},
            polyaxon_conn_id=case["conn_id"],
            **shared,
        )
    else:
        KFPRunOperator(
            pipeline=str(HERE / "pipeline.yaml"),
            experiment=case["dag_id"],
            pipeline_root=case["pipeline_root"],
            kfp_conn_id=case["conn_id"],
            **shared,
        )


for case in json.loads((HERE / "cases.json").read_text()):
    schedule = "0 3 * * *" if case["scheduled"] else None
    # It ends in the past: its runs come by backfills alone.
    first, last = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 12, tzinfo=UTC)
    with DAG(case["dag_id"], schedule=schedule, start_date=first, end_date=last if schedule else None) as dag:
        task(case)
    globals()[case["dag_id"]] = dag
