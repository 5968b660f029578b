"""What the scheduler imports before its executor forks workers, so that no process of a task has to.

LocalExecutor forks its workers when the scheduler starts (airflow/executors/local_executor.py, ``start``), and each
of them forks one process per task. Importing what builds a DAG takes several times as long as building it.
"""

from __future__ import annotations

import importlib

from airflow.listeners import hookimpl

PRELOADED = ("mlfleet.bundles.bundle", "mlfleet.bundles.loader")
_SCHEDULER = "SchedulerJob"


@hookimpl
def on_starting(component: object) -> None:
    """Airflow calls it at the start of each of its programs, and of each task, which gain nothing from it."""
    if getattr(component, "job_type", None) == _SCHEDULER:
        for module in PRELOADED:
            importlib.import_module(module)
