"""What a new worker process does before its task runs (task_runner.parse), timed; prints one line of JSON.

Run as a process of its own, in the environment that a worker has: ``python -m fleets.worker HOW DAG_ID [VERSION]``. HOW
is ``forked``, with what LocalExecutor's workers have from the scheduler (mlfleet.starting), or ``cold``, as other
executors start a task.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time


def main() -> None:
    how, dag_id, version = sys.argv[1], sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None
    os.environ["_AIRFLOW_PARSING_CONTEXT_DAG_ID"] = dag_id
    # What the supervisor of a worker has imported before it forks the process of a task.
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag
    from airflow.sdk.execution_time import supervisor, task_runner  # noqa: F401

    if how == "forked":
        _start_as("scheduler")
    # As Airflow does before it forks (airflow/executors/local_executor.py): a collection would look at all of Airflow.
    gc.freeze()
    began, cpu = time.perf_counter(), time.process_time()

    bundle = DagBundlesManager().get_bundle(name="projects", version=version)
    bundle.initialize()
    file = next(bundle.path.glob("*.py"))
    bag = BundleDagBag(dag_folder=os.fspath(file), safe_mode=False, bundle_path=bundle.path, bundle_name="projects")
    assert list(bag.dags) == [dag_id], bag.import_errors
    done = time.perf_counter()
    print(json.dumps({"find_ms": 1000 * (done - began), "cpu_ms": 1000 * (time.process_time() - cpu)}))


def _start_as(program: str) -> None:
    """What Airflow's command line does before a program begins, providers' part included."""
    sys.argv = ["airflow", program]
    import airflow.cli.cli_parser  # noqa: F401
    from airflow.utils.cli import action_cli

    action_cli(check_db=False)(lambda _: None)(argparse.Namespace())


if __name__ == "__main__":
    main()
