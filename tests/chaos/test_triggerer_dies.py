"""The triggerer is killed while jobs run: nothing is stopped, nothing is submitted twice, the run goes on."""

from __future__ import annotations

import os
import signal
import subprocess

import httpx

from mlfleet.operators.records import REPORT_KEY
from mlfleet.systems.polyaxon import TASK
from sandbox.settings import REPOSITORY
from tests.support.processes import SERVICES_PYTHON
from tests.support.world import World, wait_for

PROJECT = "flight-delay"


def pid_of(world: World, service: str) -> int:
    """The process that the sandbox's supervisor started for a service."""
    script = (
        "import sys; from sandbox.bring_up import Sandbox; from sandbox.settings import Settings\n"
        "box = Sandbox(Settings.from_environment(), with_airflow=True)\n"
        "print(next(s.pid for s in box.supervisor.status(box.services()) if s.service.name == sys.argv[1]))"
    )
    ran = subprocess.run([str(SERVICES_PYTHON), "-c", script, service], cwd=REPOSITORY, env=world.environment,
                         capture_output=True, text=True, timeout=60, check=True)  # fmt: skip
    return int(ran.stdout)


def polyaxon_runs(world: World, job_id: str) -> list[str]:
    """Statuses of all Polyaxon runs of the task that submitted the job; the schedule's own run has others."""
    url = f"{world.settings.url('polyaxon')}/api/v1/default/{PROJECT}/runs"
    task = httpx.get(f"{url}/{job_id}", timeout=10).raise_for_status().json()["meta_info"][TASK]
    found = httpx.get(url, params={"query": f"meta_info.{TASK}:{task}", "limit": 100}, timeout=10).raise_for_status()
    return [run["status"] for run in found.json()["results"]]


def test_a_killed_triggerer_loses_and_doubles_nothing(world: World) -> None:
    world.wait_for_dag(PROJECT)
    world.airflow.unpause(PROJECT)
    run_id = world.airflow.trigger(PROJECT)
    wait_for(lambda: world.states(PROJECT, run_id)["default.polyaxon"] == "deferred", 120, lambda: "polyaxon waits")
    os.kill(pid_of(world, "airflow-triggerer"), signal.SIGKILL)
    assert world.wait_for_run(PROJECT, run_id) == "success", world.logs_of_failures(PROJECT, run_id)
    job = world.airflow.xcom(PROJECT, run_id, "default.polyaxon", REPORT_KEY)
    assert polyaxon_runs(world, job["job_id"]) == ["succeeded"]
    assert (job["submissions"], job["attempts"]) == (1, 1)
