"""What programs of Airflow import before they fork the processes of tasks; asked of its real command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlfleet.starting import PRELOADED

GIT = "airflow.providers.git.bundles.git"
# Airflow's command line, which asks the providers for their commands, and a function that is declared as one, in a
# wrapper that hides its name, as Celery's are (apache-airflow-providers-celery 3.26).
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


def imported(words: list[str], names: list[str], home: Path, **environment: str) -> list[str]:
    """Which of the modules a program of Airflow has when its command begins."""
    program = COMMAND.format(words=words, names=names)
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "AIRFLOW_HOME": str(home), **environment},
    )  # fmt: skip
    return list(json.loads(ran.stdout.splitlines()[-1].replace("'", '"')))


@pytest.mark.parametrize("words", [["scheduler", "--skip-serve-logs"], ["celery", "worker", "--queues", "default"]])
def test_what_forks_tasks_imports_what_they_need(words: list[str], tmp_path: Path) -> None:
    assert imported(words, list(PRELOADED), tmp_path) == list(PRELOADED)


@pytest.mark.parametrize(
    "words", [["celery", "stop"], ["triggerer"], ["dag-processor"], ["dags", "list", "scheduler"], []]
)
def test_no_other_command_does(words: list[str], tmp_path: Path) -> None:
    assert imported(words, list(PRELOADED), tmp_path) == []


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ([{"name": "p", "kwargs": {"source": {"classpath": f"{GIT}.GitDagBundle"}}}], [GIT]),
        ([{"name": "p", "kwargs": {"path": "/opt"}}, {"name": "other"}], []),
        ([{"name": "p", "kwargs": {"source": {"classpath": "nobody.knows.This"}}}], []),
        (["no bundle"], []),
    ],
)
def test_the_source_of_a_bundle_is_imported_too(config: list[Any], found: list[str], tmp_path: Path) -> None:
    """And a wrong one keeps no scheduler from starting."""
    told = {"AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(config)}
    assert imported(["scheduler"], [GIT], tmp_path, **told) == found
