"""An Airflow and the servers of both systems for the chaos tests, each a process group of its own that a test may kill.

Not the supervised sandbox: there a killed program comes back by itself, and no test could choose when. The settings
that differ from it make Airflow notice a death in seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import threading
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlfleet.systems.kfp_package import load_package
from sandbox import airflow
from sandbox.airflow import AirflowAPI
from sandbox.settings import DEFAULT_PORTS, REPOSITORY, Settings
from tests.support.chaos.interposer import Interposer
from tests.support.kfp import PATH
from tests.support.polyaxon import PolyaxonSandbox
from tests.support.processes import SERVICES_PYTHON, Service, free_port, start_service, wait_for

SYSTEMS = ("polyaxon", "kfp")
DEPLOYMENT = Path(__file__).with_name("deployment")
# Seconds after which Airflow takes a triggerer, a task for dead; above what a busy machine of two cores delays.
TRIGGERER_DEAD, TASK_DEAD = 12, 40
_DATABASE = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
# Waiting jobs of all cases at a time; they only sleep.
JOBS = 64


@dataclass(frozen=True)
class Deployed:
    """What a case's DAG needs to be told: see deployment/chaos.py."""

    dag_id: str
    system: str
    lane: str
    retries: int = 2
    timeout: float | None = None
    scheduled: bool = False
    deferrable: bool = True


@dataclass
class ChaosAirflow:
    """All processes. ``root`` holds everything; ``deployed`` are the DAGs."""

    root: Path
    deployed: tuple[Deployed, ...]
    services: dict[str, Service] = field(default_factory=dict)
    proxies: dict[str, Interposer] = field(default_factory=dict)
    # Two writing calls at the same time block each other in the API server's event loop for as long as SQLite waits.
    writing: threading.Lock = field(default_factory=threading.Lock)
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.ports = {name: free_port() for name in DEFAULT_PORTS}
        self.settings = Settings(self.root, REPOSITORY / ".sandbox" / "cache", self.root, self.ports)

    def __enter__(self) -> ChaosAirflow:
        with contextlib.ExitStack() as stack:
            self._stack = stack
            self._start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start(self) -> None:
        for system in SYSTEMS:
            proxy = self.proxies[system] = Interposer(self.ports[system])
            self._stack.callback(proxy.close)
        self._write_dags()
        self.variables = self._variables()
        self.start_server("kfp")
        self.start_server("polyaxon")
        self.polyaxon = PolyaxonSandbox(self.settings.url("polyaxon"), self.root / "polyaxon", self.root / "logs")
        self._stack.callback(self.polyaxon.close)
        self.polyaxon.start_agent()
        airflow.migrate(self.settings, self.variables)
        for name in airflow.PROGRAMS:
            self.start_program(name)
        self.api = AirflowAPI(self.settings.url("airflow"), timeout=60)
        self._stack.callback(self.api.close)
        self.api.log_in()

    def folder(self, dag_id: str) -> Path:
        """Where the jobs of a case write down what they do."""
        return self.root / "ledger" / dag_id

    def start_server(self, system: str) -> None:
        """Starts the server of Polyaxon or KFP, over the state that it left."""
        port, state = self.ports[system], self.root / system
        module, health, parallel = {
            "polyaxon": ("sandbox.polyaxon.server", "/healthz", "--max-concurrency"),
            "kfp": ("sandbox.kfp", "/apis/v2beta1/healthz", "--parallel"),
        }[system]
        command = [SERVICES_PYTHON, "-m", module, "--port", str(port), "--state", state, parallel, str(JOBS)]
        started = start_service(command, port, health, self.root / "logs" / f"{system}.log", env=PATH)
        self.services[system] = self._stack.enter_context(started)

    def start_program(self, program: str, name: str | None = None) -> Service:
        """Starts a program of Airflow, under a ``name`` of its own when it is not the first of its kind.

        Writers of SQLite wait for each other for 30 s instead of 5, except in the API server: there one that waits
        holds up the event loop, and with it the one that it waits for.
        """
        command = [self.settings.venv("airflow") / "airflow", *airflow.PROGRAMS[program]]
        api = program == "airflow-api"
        database = self.variables[_DATABASE]
        started = start_service(
            command, self.ports["airflow"] if api else None, "/api/v2/version",
            self.root / "logs" / f"{name or program}.log", cwd=self.root,
            env={**self.variables, _DATABASE: database if api else f"{database}?timeout=30"},
        )  # fmt: skip
        service = self.services[name or program] = self._stack.enter_context(started)
        return service

    def signal(self, name: str, number: int) -> None:
        """Sends a signal to a program and to everything that it started, as the end of a pod does."""
        os.killpg(self.services[name].pid, number)

    def end(self, name: str, number: int) -> None:
        """Ends a program with a signal; SIGTERM goes to the program alone and is the orderly way."""
        service = self.services.pop(name)
        if number == signal.SIGKILL:
            os.killpg(service.pid, number)
        else:
            os.kill(service.pid, number)
        service.process.wait(60)

    def revive(self, program: str) -> None:
        """Starts a program again that ended by itself, as a service manager does."""
        if self.services[program].process.poll() is not None:
            self.start_program(program)

    def jobs(self, kind: str) -> list[dict[str, Any]]:
        """Airflow's running jobs of a kind: "SchedulerJob", "TriggererJob"."""
        found = self.api.call("GET", "/jobs", params={"job_type": kind, "job_state": "running"})
        return list(found["jobs"])

    def next_beat(self, kind: str, ids: Container[int] | None = None) -> None:
        """Until one of the jobs, of those with the ``ids`` when given, has ended a round and said that it lives."""

        def beat() -> str:
            return max(str(job["latest_heartbeat"]) for job in self.jobs(kind) if ids is None or job["id"] in ids)

        before = beat()
        wait_for(lambda: beat() > before, f"a heartbeat of the {kind}", interval=0.5)

    def spent_tries(self, dag_id: str) -> int:
        """How many tries of the case's task Airflow ended itself so far."""
        return tries_spent((self.root / "logs" / "airflow-scheduler.log").read_text(errors="replace"), dag_id)

    def command(self, *words: str) -> str:
        """Runs Airflow's command line; returns what it printed."""
        import subprocess

        ran = subprocess.run(
            [str(self.settings.venv("airflow") / "airflow"), *words], env={**os.environ, **self.variables},
            capture_output=True, text=True, timeout=120, check=True,
        )  # fmt: skip
        return ran.stdout

    def _write_dags(self) -> None:
        dags = self.root / "dags"
        shutil.copytree(DEPLOYMENT, dags, ignore=shutil.ignore_patterns("__pycache__", "pipeline.py"))
        # Compiled here, once: in every worker it would take seconds of a core.
        package = load_package(DEPLOYMENT / "pipeline.py", "pipeline", enable_caching=False)
        (dags / "pipeline.yaml").write_text(yaml.safe_dump(package.spec))
        (dags / "cases.json").write_text(json.dumps([self._case(each) for each in self.deployed]))
        for each in self.deployed:
            self.folder(each.dag_id).mkdir(parents=True)

    def _case(self, each: Deployed) -> dict[str, Any]:
        return {
            "dag_id": each.dag_id, "system": each.system, "conn_id": _conn_id(each.system, each.lane),
            "folder": str(self.folder(each.dag_id)), "pipeline_root": str(self.root / "pipeline-root"),
            "retries": each.retries, "timeout": each.timeout, "scheduled": each.scheduled,
            "deferrable": each.deferrable,
        }  # fmt: skip

    def _variables(self) -> Mapping[str, str]:
        lanes = {(each.system, each.lane) for each in self.deployed}
        return {
            **airflow.environment(self.settings, ""),
            "AIRFLOW__CORE__DAGS_FOLDER": str(self.root / "dags"),
            "AIRFLOW__CORE__PARALLELISM": "8",
            # Set for the tests' own process, and inherited.
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "False",
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": str(TASK_DEAD),
            "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
            "AIRFLOW__TRIGGERER__JOB_HEARTBEAT_SEC": "1",
            "AIRFLOW__TRIGGERER__TRIGGERER_HEALTH_CHECK_THRESHOLD": str(TRIGGERER_DEAD),
            **dict(self._connections(lanes)),
        }

    def _connections(self, lanes: Iterable[tuple[str, str]]) -> Iterable[tuple[str, str]]:
        for system, lane in lanes:
            host = f"127.0.0.1/{lane}"
            connection = {"conn_type": system, "schema": "http", "host": host, "port": self.proxies[system].port}
            yield f"AIRFLOW_CONN_{_conn_id(system, lane).upper()}", json.dumps(connection)


def _conn_id(system: str, lane: str) -> str:
    return f"{system}_{lane}"


def tries_spent(told: str, dag_id: str) -> int:
    """How many tries of a DAG's task Airflow ended itself, by the scheduler's log.

    A scheduler that is behind takes the end of a process that deferred, or that of a namesake in a deleted DAG run, for
    the end of the process that it has just queued, and spends that one's try (3.3.2, process_executor_events).
    """
    return len(re.findall(rf"\[error +\] Executor .* <TaskInstance: {dag_id}\.\S+ \S+ \[(?:scheduled|queued)\]", told))
