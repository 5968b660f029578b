"""One sandbox with Airflow for all acceptance tests, on ports of its own, so that a demo may run beside it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.airflow import AirflowAPI
from sandbox.settings import DEFAULT_PORTS, REPOSITORY, SandboxError, Settings
from tests.support.processes import SERVICES_PYTHON, free_port

ENDED = ("success", "failed")
BROKEN = "apiVersion: mlfleet/v1\nkind: Project\nname: broken\nowners: [{github: '@acme/x'}]\nexperimens: [{name: A}]\n"
# Started by the release of flight-delay, trains what that one trains, on the three days before it is started.
FOLLOWER = """\
kind: Project
name: delay-follower
owners: [{github: "@acme/travel"}]
schedule: {asset: flight-delay, window: 3d}
experiments: [{name: Default}]
training:
  polyaxon:
    polyaxonfile: polyaxonfile.yaml
    files: [train.py, features.py, tracking.py]
    params: {data: "${env.data_root}/flights.csv", data_end: "${data.end}", history_days: 28}
"""

# An image for each experiment; one of them has days of its own, and its backfills may go live.
SEGMENTS = """\
kind: Project
name: segments
owners: [{github: "@acme/travel", email: travel@example.com}]
schedule: {cron: "0 4 * * *", start_date: 2026-11-01, window: 1d}
experiments:
  - name: Default
  - name: Short Haul
    schedule: {cron: "0 5 * * *"}
training:
  kfp:
    pipeline: pipeline.py:train
    params: {data: "${env.data_root}/flights.csv", data_end: "${data.end}", history_days: 28}
evaluation: {metric: mae, direction: min, max: 60}
image: {per: experiment, repository: ml/segments, dockerfile: Dockerfile, args: {BASE: "${env.base_image}"}}
deploy:
  spinnaker: {application: segments, pipeline: "deploy-${experiment.slug}"}
  canary: false
  judgment: false
  backfill: newer
"""

# Trains until the file that its param names is there, and is judged afterwards; a room is told when it is late or done.
PATIENT = """\
kind: Project
name: {name}
owners: [{{github: "@acme/x"}}]
schedule: {{max_active_runs: 4}}
pools: {{polyaxon: patience}}
notify: {{webhook: patient_room, events: [failure, success], late_after: 10s}}
experiments: [{{name: Default}}]
training:
  polyaxon:
    polyaxonfile: polyaxonfile.yaml
    files: [train.py, tracking.py]
    params: {{gate: "{gate}"}}
evaluation: {{metric: mae, direction: min, max: 5}}
"""
PATIENT_POLYAXONFILE = """\
version: 1.1
kind: component
name: patient
inputs: [{name: gate, type: str}]
run:
  kind: job
  container:
    image: python:3.12-slim
    workingDir: /plx-context/artifacts
    command: [python, train.py]
    args: ["{{ gate }}"]
"""
PATIENT_TRAINING = """\
import pathlib
import sys
import time

import tracking

while not pathlib.Path(sys.argv[1]).exists():
    time.sleep(0.2)
tracking.log_outputs(mae=3.0)
"""


class Room:
    """A chat room on 127.0.0.1: what it was told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        room = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                room.told.append(str(body["text"]))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}/room"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@dataclass
class World:
    """A running sandbox and the calls that tests make to it."""

    settings: Settings
    airflow: AirflowAPI
    environment: dict[str, str]
    room: Room

    def wait_for_dag(self, dag_id: str, seconds: float = 120) -> None:
        wait_for(lambda: self.airflow.dag(dag_id), seconds, lambda: f"{dag_id} parsed; {self.airflow.import_errors()}")

    def wait_for_run(self, dag_id: str, run_id: str, seconds: float = 420) -> str:
        wait_for(
            lambda: self.airflow.run(dag_id, run_id)["state"] in ENDED, seconds,
            lambda: f"{run_id} ended; {self.states(dag_id, run_id)}",
        )  # fmt: skip
        return str(self.airflow.run(dag_id, run_id)["state"])

    def pool(self, name: str, slots: int) -> None:
        """Makes Airflow's pool."""
        self.airflow.call("POST", "/pools", json={"name": name, "slots": slots, "include_deferred": False})

    @property
    def deployment(self) -> Path:
        """The repository that Airflow runs; tests change its manifests."""
        return self.settings.deployment

    def states(self, dag_id: str, run_id: str) -> dict[str, str]:
        return {task["task_id"]: task["state"] for task in self.airflow.task_instances(dag_id, run_id)}

    def production(self, application: str) -> dict[str, Any] | None:
        """What the stand-in really serves for an application."""
        found = httpx.get(f"{self.settings.url('spinnaker')}/sandbox/production", timeout=10).raise_for_status().json()
        return found.get(application)

    def backfill(self, dag_id: str, first: str, last: str) -> None:
        """Starts a backfill of the intervals that begin on these days, as soon as Airflow takes it.

        SQLite lets it in only between two writers, and the scheduler looks only every 30 s whether the DAG's backfill
        before it has ended (jobs/scheduler_job_runner.py, ``_mark_backfills_complete``).
        """
        body = {"dag_id": dag_id, "from_date": f"{first}T00:00:00Z", "to_date": f"{last}T23:00:00Z",
                "max_active_runs": 1, "reprocess_behavior": "none", "dag_run_conf": {}}  # fmt: skip

        def begun() -> bool:
            try:
                self.airflow.call("POST", "/backfills", json=body)
            except SandboxError as error:
                if not any(told in str(error) for told in ("Database is locked", "already a running backfill")):
                    raise
                return False
            return True

        wait_for(begun, 180, lambda: "a moment in which Airflow takes a backfill")

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


def deployment(folder: Path) -> Path:
    """This repository's dags and include in a folder of their own, with projects more, and one that is broken."""
    shutil.copytree(REPOSITORY / "dags", folder / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    (folder / "dags/inherited.py").write_text(INHERITED)
    shutil.copytree(REPOSITORY / "include", folder / "include", symlinks=True)
    for name, text in (("delay-follower", FOLLOWER), ("segments", SEGMENTS)):
        shutil.copytree(folder / "include/pipelines/flight-delay", folder / f"include/pipelines/{name}", symlinks=True)
        (folder / f"include/projects/{name}.yaml").write_text(text)
    (folder / "include/projects/broken.yaml").write_text(BROKEN)
    _add_patient(folder, "patient")
    return folder


# Written by hand, and no project's: what its task has of mlfleet it has from the process that forked it.
INHERITED = """\
import sys
from airflow.sdk import dag, task


@dag(schedule=None)
def inherited():
    @task
    def modules():
        return [name for name in sys.modules if name.startswith("mlfleet.")]

    modules()


inherited()
"""


def git_deployment(folder: Path) -> Path:
    """One project in a git repository."""
    shutil.copytree(REPOSITORY / "include/environments", folder / "include/environments")
    shutil.copytree(REPOSITORY / "include/components", folder / "include/components", symlinks=True)
    (folder / "include/projects").mkdir()
    _add_patient(folder, "patient-git")
    git(folder, "init", "--quiet", "--initial-branch=main")
    commit(folder)
    return folder


def commit(folder: Path) -> str:
    """Commits everything in the repository; its id."""
    git(folder, "add", "--all")
    git(folder, "-c", "user.name=t", "-c", "user.email=t@example.com", "commit", "--quiet", "--message=change")
    return git(folder, "rev-parse", "HEAD")


def git(folder: Path, *words: str) -> str:
    ran = subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True, timeout=60)
    return ran.stdout.strip()


def _add_patient(folder: Path, name: str) -> None:
    code = folder / "include/pipelines" / name
    code.mkdir(parents=True)
    (code / "polyaxonfile.yaml").write_text(PATIENT_POLYAXONFILE)
    (code / "train.py").write_text(PATIENT_TRAINING)
    (code / "tracking.py").symlink_to("../../components/polyaxon_tracking.py")
    # Not in the repository, where it would be a change of the project.
    gate = folder.with_name(f"{folder.name}-gate")
    (folder / f"include/projects/{name}.yaml").write_text(PATIENT.format(name=name, gate=gate))


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    home: Path = tmp_path_factory.mktemp("sandbox")
    room = Room()
    ports = {f"MLFLEET_{name.upper()}_PORT": str(free_port()) for name in DEFAULT_PORTS}
    kept = {key: value for key, value in os.environ.items() if not key.startswith("AIRFLOW")}
    places = {
        "MLFLEET_SANDBOX_HOME": str(home),
        "MLFLEET_DEPLOYMENT": str(deployment(tmp_path_factory.mktemp("fleet"))),
        "MLFLEET_GIT_DEPLOYMENT": str(git_deployment(tmp_path_factory.mktemp("git-fleet"))),
        "AIRFLOW_CONN_PATIENT_ROOM": json.dumps({"conn_type": "http", "password": room.address}),
    }
    environment = {**kept, **ports, **places}

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
        yield World(settings, airflow, environment, room)
        airflow.close()
    finally:
        room.close()
        ended = sandbox("down")
    assert ended.returncode == 0, ended.stderr
    assert "ended singly" not in ended.stdout, ended.stdout
