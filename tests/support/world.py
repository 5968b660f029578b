"""One sandbox with Airflow for all acceptance tests, on ports of its own, so that a demo may run beside it."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.airflow import AirflowAPI
from sandbox.settings import DEFAULT_PORTS, REPOSITORY, Settings
from tests.support.processes import SERVICES_PYTHON, free_port

ENDED = ("success", "failed")


@dataclass
class World:
    """A running sandbox and the calls that tests make to it."""

    settings: Settings
    airflow: AirflowAPI
    environment: dict[str, str]

    def wait_for_dag(self, dag_id: str, seconds: float = 120) -> None:
        wait_for(lambda: self.airflow.dag(dag_id), seconds, lambda: f"{dag_id} parsed; {self.airflow.import_errors()}")

    def wait_for_run(self, dag_id: str, run_id: str, seconds: float = 420) -> str:
        wait_for(
            lambda: self.airflow.run(dag_id, run_id)["state"] in ENDED, seconds,
            lambda: f"{run_id} ended; {self.states(dag_id, run_id)}",
        )  # fmt: skip
        return str(self.airflow.run(dag_id, run_id)["state"])

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.airflow.task_instances(dag_id, run_id)}

    def production(self, application: str) -> dict[str, Any] | None:
        """What the stand-in really serves for an application."""
        found = httpx.get(f"{self.settings.url('spinnaker')}/sandbox/production", timeout=10).raise_for_status().json()
        return found.get(application)

    def logs_of_failures(self, dag_id: str, run_id: str) -> str:
        failed = [task for task in self.airflow.task_instances(dag_id, run_id) if task["state"] == "failed"]
        return "\n".join(
            f"--- {task['task_id']}\n{self.airflow.log(dag_id, run_id, task['task_id'])[-3000:]}" for task in failed
        )


def wait_for(condition: Callable[[], Any], seconds: float, what: Callable[[], str]) -> Any:
    """Polls until the condition holds; the time is a bound for a fault, never an expectation."""
    deadline = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < deadline, f"not in {seconds} s: {what()}"
        time.sleep(1)
    return value


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home: Path = tmp_path_factory.mktemp("sandbox")
    ports = {f"MLFLEET_{name.upper()}_PORT": str(free_port()) for name in DEFAULT_PORTS}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    environment = {**kept, **ports, "MLFLEET_SANDBOX_HOME": str(home)}

    def sandbox(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(SERVICES_PYTHON), "-m", "sandbox", *words], cwd=REPOSITORY, env=environment,
            capture_output=True, text=True, timeout=400, check=False,
        )  # fmt: skip

    started = sandbox("up", "--airflow")
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        settings = Settings.from_environment(environment)
        airflow = AirflowAPI(settings.url("airflow"))
        airflow.log_in()
        yield World(settings, airflow, environment)
        airflow.close()
    finally:
        ended = sandbox("down")
    assert ended.returncode == 0, ended.stderr
    assert "ended singly" not in ended.stdout, ended.stdout
