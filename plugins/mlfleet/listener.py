"""What a program imports before it forks the processes of tasks, so that none of them has to.

Importing what builds a DAG takes as long as building it, and what reads a manifest or runs a remote job several times
as long. Where the processes come from:

* LocalExecutor forks its workers when the scheduler starts (airflow/executors/local_executor.py, ``start``), and each
  of them forks one process per task: `on_starting` of the plugin's listener.
* ``airflow celery worker`` forks its pool when it starts, and each process of the pool one per task; no listener is
  called there (apache-airflow-providers-celery 3.26, cli/celery_command.py): `before_command`.

A task in a pod of its own imports what it needs, as it does Airflow.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Iterator
from typing import Any

from airflow.listeners import hookimpl
from airflow.sdk import conf

log = logging.getLogger(__name__)
PRELOADED = (
    # What builds a DAG, and what lays a project out for the first time on this machine.
    "mlfleet.bundles.bundle",
    "mlfleet.bundles.loader",
    "mlfleet.bundles.survey",
    # What the operators import when they run.
    "mlfleet.hooks.registry_access",
    "mlfleet.operators.image_labels",
    "mlfleet.operators.releasing",
    "mlfleet.operators.waiting",
    "mlfleet.remote.submission",
    "mlfleet.systems.kfp",
    "mlfleet.systems.kfp_package",
    "mlfleet.systems.polyaxon",
    "mlfleet.systems.polyaxon_operation",
    "mlfleet.systems.spinnaker",
    "mlfleet.triggers.container_registry",
    "mlfleet.triggers.kfp",
    "mlfleet.triggers.polyaxon",
    "mlfleet.triggers.spinnaker",
)
_SCHEDULER = "SchedulerJob"
_CELERY_WORKER = "'celery', 'worker'"


@hookimpl
def on_starting(component: object) -> None:
    """Airflow calls it at the start of each of its programs, and of each task, which gain nothing from it."""
    if getattr(component, "job_type", None) == _SCHEDULER:
        preload()


def before_command(full_command: str = "", **_: object) -> None:
    """Airflow's command line calls it before each command, with the list of its words as text.

    See airflow/utils/cli.py. What it has for the name of the command is "wrapper" with Celery's.
    """
    if _CELERY_WORKER in full_command:
        preload()


def preload() -> None:
    """Imports it, and the bundles that ours take their repositories from: git's takes longest of all."""
    for module in PRELOADED:
        importlib.import_module(module)
    try:
        for module in _sources():
            importlib.import_module(module)
    except Exception as error:
        # The DAG processor says what is wrong with a bundle, and nothing here needs it.
        log.warning("the source of a DAG bundle was not imported beforehand: %s", error)


def _sources() -> Iterator[str]:
    """The modules of sources in Airflow's ``dag_bundle_config_list``."""
    bundles: Any = conf.getjson("dag_processor", "dag_bundle_config_list", fallback=None)
    for bundle in bundles or ():
        source = (bundle.get("kwargs") or {}).get("source")
        if source:
            yield str(source["classpath"]).rpartition(".")[0]
