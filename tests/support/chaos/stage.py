"""One case on the running Airflow: the steps that cases are made of, and what came of it."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from sandbox.settings import SandboxError
from tests.support.chaos.airflow import ChaosAirflow, Deployed
from tests.support.chaos.interposer import Act, Interposer, Rule
from tests.support.chaos.ledger import Execution, Job, Servers, executions
from tests.support.processes import descendants, identify, wait_for

TASK = "job"
PATIENCE = 240.0


@dataclass
class Stage:
    """``run_id`` is that of the DAG run under test; the remote job ends when the case says so."""

    airflow: ChaosAirflow
    servers: Servers
    deployed: Deployed
    run_id: str = "chaos"
    notes: list[str] = field(default_factory=list)

    # Airflow

    @property
    def dag_id(self) -> str:
        return self.deployed.dag_id

    def start(self) -> None:
        """Starts the DAG run."""
        self.insist("POST", f"/dags/{self.dag_id}/dagRuns", {"dag_run_id": self.run_id, "logical_date": None})

    def fail_run(self) -> None:
        self.insist("PATCH", f"/dags/{self.dag_id}/dagRuns/{self.run_id}", {"state": "failed"})

    def delete_run(self) -> None:
        self.insist("DELETE", f"/dags/{self.dag_id}/dagRuns/{self.run_id}")

    def task(self) -> dict[str, Any]:
        """The task instance as Airflow's API shows it; empty while there is none."""
        try:
            return dict(self.insist("GET", self._task))
        except SandboxError as error:
            if "404" in str(error):
                return {}
            raise

    def wait_task(self, *states: str, tries: int = 1, seconds: float = PATIENCE) -> dict[str, Any]:
        """Until the task is in one of the states, in its try number ``tries`` or a later one."""
        seen: dict[str, Any] = {}

        def probe() -> bool:
            seen.update(self.task())
            return seen.get("state") in states and seen["try_number"] >= tries

        try:
            wait_for(probe, f"{self.dag_id} {states}", seconds, 0.7)
        except AssertionError as error:
            told = f"{seen.get('state')} in try {seen.get('try_number')}"
            raise AssertionError(f"{error}; it is {told}\n{self.log()[-3000:]}") from None
        return seen

    def mark(self, state: str) -> None:
        self.insist("PATCH", self._task, {"new_state": state})

    def clear(self) -> None:
        self.insist("POST", f"/dags/{self.dag_id}/clearTaskInstances", {
            "dry_run": False, "only_failed": False, "dag_run_id": self.run_id, "task_ids": [TASK],
            "reset_dag_runs": True,
        })  # fmt: skip

    def forget(self) -> None:
        """Deletes what the task keeps in the task state store."""
        self.insist("DELETE", f"{self._task}/state-store")

    def record(self) -> str:
        """What the task keeps in the task state store, as text."""
        return str(self.insist("GET", f"{self._task}/state-store"))

    def log(self) -> str:
        with contextlib.suppress(SandboxError, httpx.HTTPError):
            return self.airflow.api.log(self.dag_id, self.run_id, TASK)
        return ""

    def worker(self) -> int:
        """The id of the process that runs the task's code; it must be one that our scheduler started."""
        pid = int(self.task()["pid"])
        process = identify(pid)
        assert process in descendants(self.airflow.services["airflow-scheduler"].pid), f"{pid} is not a task of ours"
        return pid

    def signal_worker(self, number: int) -> None:
        os.kill(self.worker(), number)

    def triggerer(self) -> int | None:
        """The id of the triggerer that has the task's trigger, None while none has it."""
        trigger = self.task().get("trigger") or {}
        return trigger.get("triggerer_id")

    def insist(self, method: str, path: str, body: Any = None) -> Any:
        """One call of Airflow's API, again while SQLite is locked by another writer."""
        answers: list[Any] = []

        def call() -> bool:
            try:
                with contextlib.nullcontext() if method == "GET" else self.airflow.writing:
                    answers.append(self.airflow.api.call(method, path, json=body))
            except httpx.TransportError:
                return False
            except SandboxError as error:
                if not re.search(r"locked|answered 500", str(error)):
                    raise
                return False
            return True

        wait_for(call, f"{method} {path}", 60, 1)
        return answers[0]

    @property
    def _task(self) -> str:
        return f"/dags/{self.dag_id}/dagRuns/{self.run_id}/taskInstances/{TASK}"

    # The remote side

    def on_submit(self, act: Act) -> Rule:
        """A rule for the next submit request."""
        return self._rule(act, "POST", r"/runs$")

    def on_list(self, act: Act) -> Rule:
        """A rule for the next list of runs: the very first call of a task, before its record exists."""
        return self._rule(act, "GET", r"/runs\?")

    def on_one(self, act: Act) -> Rule:
        """A rule for the next request for one run by its id: what the task reads the result with."""
        return self._rule(act, "GET", r"/runs/[0-9a-f-]+$")

    def on_approve(self, act: Act) -> Rule:
        """A rule for the next approval, the second half of a submit to Polyaxon."""
        return self._rule(act, "POST", r"/approve$")

    def on_anything(self, act: Act, method: str) -> Rule:
        """A rule for all requests."""
        return self._rule(act, method, "", None)

    def drop(self, rule: Rule) -> None:
        self._proxy.drop(self.deployed.lane, rule)

    def calls(self) -> int:
        """How many requests came so far, of all tasks with this connection."""
        return len(self._proxy.requests(self.deployed.lane))

    def looks(self) -> int:
        """How many times runs were looked for so far."""
        return len(self._proxy.requests(self.deployed.lane, "GET", r"/runs[/?]"))

    def wait_polled(self) -> None:
        """Until a triggerer that has the task has asked for runs."""
        self.until(self.triggerer, "a triggerer has the task")
        lane = self.deployed.lane
        polls = len(self._proxy.requests(lane, "GET", r"/runs\?"))
        self.until(lambda: len(self._proxy.requests(lane, "GET", r"/runs\?")) > polls, "a poll")

    def _rule(self, act: Act, method: str, path: str, count: int | None = 1) -> Rule:
        return self._proxy.rule(self.deployed.lane, act, method, path, count)

    @property
    def _proxy(self) -> Interposer:
        return self.airflow.proxies[self.deployed.system]

    def jobs(self) -> list[Job]:
        """All jobs of the task; a run of KFP that ended FAILED after it was terminated counts as stopped."""
        terminated = {seen.path for seen in self._proxy.requests(self.deployed.lane, "POST", r":terminate$")}
        return [
            replace(job, state="stopped")
            if job.state == "failed" and any(f"/{job.id}:" in path for path in terminated) else job
            for job in self.servers.jobs(self.deployed.system, self.dag_id)
        ]  # fmt: skip

    def executions(self) -> list[Execution]:
        return executions(self.airflow.folder(self.dag_id))

    def wait_running(self, count: int = 1) -> None:
        """Until the job has begun to run for the ``count``-th time."""
        self.until(lambda: len(self.executions()) >= count, f"execution {count}")

    def finish(self) -> None:
        """Lets the job, and every later one, end well."""
        (self.airflow.folder(self.dag_id) / "finish").touch()

    def fail(self) -> None:
        """Lets the running job, or the next one, fail."""
        (self.airflow.folder(self.dag_id) / "fail").touch()

    def until(self, condition: Callable[[], Any], what: str, seconds: float = PATIENCE) -> None:
        try:
            wait_for(lambda: condition() or None, f"{self.dag_id}: {what}", seconds, 0.7)
        except AssertionError as error:
            raise AssertionError(
                f"{error}; task {self.task().get('state')}, jobs {self.jobs()}\n{self.log()[-3000:]}"
            ) from None

    def settle(self) -> None:
        """Until the task and every job have ended; jobs that go on are left for the verdict."""
        self.wait_task("success", "failed", tries=0)
        with contextlib.suppress(AssertionError):
            self.until(lambda: not any(job.live for job in self.jobs()), "all jobs ended", 60)
