"""What mlfleet does when a program of Airflow starts: its command line calls `before_command` before each command.

The DAG processor is kept from a fault of Airflow (`reparsing`).

What forks the processes of tasks imports for them what they need, so that none of them has to. Importing what builds a
DAG takes as long as building it, and what reads a manifest or runs a remote job several times as long. LocalExecutor
forks its workers when the scheduler starts (airflow/executors/local_executor.py, ``start``), and each of them forks one
process per task; ``airflow celery worker`` forks its pool when it starts, and each process of the pool one per task. A
task in a pod of its own imports what it needs, as it does Airflow.

A listener's ``on_starting`` is no place for it: Airflow calls it while the Job of a program is made, which does not yet
say of which program it is (airflow/jobs/job.py, base_job_runner.py), and ``airflow celery worker`` makes none.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from airflow.sdk import conf

from mlfleet.reparsing import forget_callbacks

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


_PREPARED: Mapping[tuple[str, ...], Callable[[], None]] = {
    ("scheduler",): preload,
    ("celery", "worker"): preload,
    ("dag-processor",): forget_callbacks,
}


def before_command(**_: object) -> None:
    """Prepares the program that the words of this process name.

    Airflow hands on the name of the command's function, which Celery's commands hide (airflow/utils/cli.py). What is
    raised here it logs, and goes on with the command.
    """
    for command, prepare in _PREPARED.items():
        if tuple(sys.argv[1 : 1 + len(command)]) == command:
            prepare()
