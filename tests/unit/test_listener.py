"""What a program imports for the processes of tasks that come from it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airflow.listeners.listener import get_listener_manager

from mlfleet import listener
from mlfleet.plugin import MLFleetPlugin

LOOK = """
import sys
from types import SimpleNamespace
from mlfleet import listener
listener.on_starting(SimpleNamespace(job_type={job_type!r}))
print([name for name in {names!r} if name in sys.modules])
"""

# As in apache-airflow-providers-celery 3.26: Airflow's command line, which asks the providers for their commands, and a
# function that is declared as one, in a wrapper that hides its name.
COMMAND = """
import sys
from argparse import Namespace
sys.argv = ["/usr/local/bin/airflow", *{words!r}]
import airflow.cli.cli_parser
from airflow.utils.cli import action_cli
def wrapper(args):
    print([name for name in {names!r} if name in sys.modules])
action_cli(check_db=False)(wrapper)(Namespace())
"""


@pytest.mark.parametrize(
    ("job_type", "imported"),
    [("SchedulerJob", list(listener.PRELOADED)), ("TriggererJob", []), ("DagProcessorJob", []), (None, [])],
)
def test_only_the_scheduler_imports_what_builds_dags(job_type: str | None, imported: list[str]) -> None:
    program = LOOK.format(job_type=job_type, names=listener.PRELOADED)
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert ran.stdout.splitlines()[-1] == str(imported)


@pytest.mark.parametrize(
    ("config", "imported"),
    [
        ([{"name": "p", "kwargs": {"source": {"classpath": "airflow.providers.git.bundles.git.GitDagBundle"}}}], True),
        ([{"name": "p", "kwargs": {"path": "/opt"}}, {"name": "other"}], False),
        ([{"name": "p", "kwargs": {"source": {"classpath": "nobody.knows.This"}}}], False),
        (["no bundle"], False),
    ],
)
def test_the_source_of_a_bundle_is_imported_too(config: list[Any], imported: bool, tmp_path: Path) -> None:
    """And a wrong one keeps no scheduler from starting."""
    program = LOOK.format(job_type="SchedulerJob", names=["airflow.providers.git.bundles.git"])
    home = {**os.environ, "AIRFLOW_HOME": str(tmp_path),
            "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(config)}  # fmt: skip
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True,
                         env=home)  # fmt: skip
    assert ran.stdout.splitlines()[-1] == str(["airflow.providers.git.bundles.git"] if imported else [])


def test_what_starts_a_task_has_no_job_type() -> None:
    """A task process of another project must not pay for ours."""
    from airflow.sdk.execution_time.task_runner import TaskRunnerMarker

    assert getattr(TaskRunnerMarker(), "job_type", None) is None


def test_airflow_takes_it_from_the_plugin() -> None:
    assert MLFleetPlugin.listeners == [listener]
    manager = get_listener_manager()
    manager.add_listener(listener)
    try:
        assert manager.has_listeners
        manager.hook.on_starting(component=object())
    finally:
        manager.pm.unregister(listener)


@pytest.mark.parametrize(
    ("words", "imported"),
    [
        (["celery", "worker", "--queues", "default"], list(listener.PRELOADED)),
        (["celery", "stop"], []),
        (["scheduler"], []),
    ],
)
def test_a_celery_worker_imports_it_before_it_forks(words: list[str], imported: list[str], tmp_path: Path) -> None:
    program = COMMAND.format(words=words, names=listener.PRELOADED)
    home = {**os.environ, "AIRFLOW_HOME": str(tmp_path)}
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True,
                         env=home)  # fmt: skip
    assert ran.stdout.splitlines()[-1] == str(imported)
