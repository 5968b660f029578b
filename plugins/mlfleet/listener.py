"""What a program imports before it forks the processes of tasks, so that none of them has to.

Importing what builds a DAG takes several times as long as building it. Where the processes come from:

* LocalExecutor forks its workers when the scheduler starts (airflow/executors/local_executor.py, ``start``), and each
  of them forks one process per task: `on_starting` of the plugin's listener.
* ``airflow celery worker`` forks its pool when it starts, and each process of the pool one per task; no listener is
  called there (apache-airflow-providers-celery 3.26, cli/celery_command.py): `before_command`.

A task in a pod of its own imports it all, as it does Airflow.
"""

from __future__ import annotations

import importlib

from airflow.listeners import hookimpl

PRELOADED = ("mlfleet.bundles.bundle", "mlfleet.bundles.loader")
_SCHEDULER = "SchedulerJob"
_CELERY_WORKER = "'celery', 'worker'"


@hookimpl
def on_starting(component: object) -> None:
    """Airflow calls it at the start of each of its programs, and of each task, which gain nothing from it."""
    if getattr(component, "job_type", None) == _SCHEDULER:
        _preload()


def before_command(full_command: str = "", **_: object) -> None:
    """Airflow's command line calls it before each command, with the list of its words as text.

    See airflow/utils/cli.py. What it has for the name of the command is "wrapper" with Celery's.
    """
    if _CELERY_WORKER in full_command:
        _preload()


def _preload() -> None:
    for module in PRELOADED:
        importlib.import_module(module)
