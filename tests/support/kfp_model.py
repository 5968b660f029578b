"""KFP 2 in memory, as far as a remote job meets it (kfp.md 4).

Its windows: the workflow is started before the run is stored, so a second POST of one run id makes a second execution
and then answers 500; a workflow whose run never was stored is invisible to the API until the server removes it after
120 s; a run may be stored late. Terminating leads to CANCELING and then to FAILED; a finished run can't be terminated.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote_plus

import httpx

from mlfleet.clients.http import HttpClient
from mlfleet.clients.kfp import TERMINAL, KFPClient
from mlfleet.systems.kfp import KFPSystem
from tests.support.adversity import Clock, Wire
from tests.support.truth import Job, as_of

_API = "/apis/v2beta1"
# WORKFLOW_GC_GRACE_PERIOD_SECONDS.
_GRACE = 120.0
_STARTS_IN = 3.0


@dataclass(eq=False)
class Workflow:
    """One execution in the cluster; without `job` the API does not know it."""

    run_id: str
    started: float
    job: Job | None = None


class KFPModel:
    """One server in single-user mode."""

    # A run that is stored later than that is collected as garbage before.
    patience = _GRACE - 5.0
    twins_work = False

    def __init__(self, clock: Clock) -> None:
        self.clock, self.epoch, self.forgotten, self.stop_takes = clock, 0, 0, 5.0
        self.jobs: dict[str, Job] = {}
        self.workflows: list[Workflow] = []
        self._experiments: dict[str, str] = {}
        self._specs: dict[str, dict[str, Any]] = {}

    # The real adapter, and what the world sees and does

    def system(self, wire: Wire) -> KFPSystem:
        http = HttpClient(
            "http://localhost:8888", system="kfp", transport=wire, sleep=self.clock.sleep, clock=self.clock,
            now=self.clock, draw=lambda: 0.5,
        )  # fmt: skip
        return KFPSystem(KFPClient(http))

    def spec(self, version: int) -> dict[str, object]:
        return {"pipeline_spec": {"root": {}}, "parameters": {"version": version}, "experiment": "lab"}

    def version(self, job: Job) -> int:
        return int(job.spec)

    def is_live(self, job: Job) -> bool:
        return job.state not in TERMINAL and job.state != "CANCELING"

    def has_succeeded(self, job: Job) -> bool:
        return job.state == "SUCCEEDED"

    def has_failed(self, job: Job) -> bool:
        return job.state == "FAILED" and "CANCELING" not in job.history[-2:]

    def finish(self, job: Job, succeeded: bool) -> None:
        if self.is_live(job) and job.seen_from <= self.clock.now:
            self._set(job, "SUCCEEDED" if succeeded else "FAILED")

    def stop(self, job: Job) -> None:
        if self.is_live(job):
            self._set(job, "CANCELING")
            self._later(job, "CANCELING", self.stop_takes, "FAILED")

    def executions(self) -> dict[str, int]:
        """Workflows that are alive, by run id."""
        now = self.clock.now
        alive = [
            flow
            for flow in self.workflows
            if (flow.job is None and now - flow.started < _GRACE) or (flow.job is not None and self.is_live(flow.job))
        ]
        return dict(Counter(flow.run_id for flow in alive))

    # The server

    def restart(self) -> None:
        """A run that was to be stored never is."""
        for job in list(self.jobs.values()):
            if job.seen_from > self.clock.now:
                del self.jobs[job.id]
                for flow in self.workflows:
                    flow.job = None if flow.job is job else flow.job

    def halve(self, request: httpx.Request) -> None:
        """Dies between starting the workflow and storing the run."""
        if request.method == "POST" and request.url.path == f"{_API}/runs":
            body = json.loads(request.content)
            if not _refused(body):
                self.workflows.append(Workflow(body["run_id"], self.clock.now))

    def handle(self, request: httpx.Request, late: float = 0.0, unlisted: float = 0.0) -> httpx.Response:
        path = request.url.path.removeprefix(_API)
        if request.method == "POST" and path == "/runs":
            return self._create(json.loads(request.content), late, unlisted)
        if late and request.method != "GET":
            epoch = self.epoch
            self.clock.after(late, lambda: as_of(self, epoch, lambda: self.handle(request)))
            return httpx.Response(200)
        if path == "/experiments":
            return self._experiment(request)
        if path == "/runs":
            return self._list(request)
        found = re.fullmatch(r"/runs/([^/:]+)(?::(\w+))?", path)
        assert found, f"no such address: {request.method} {path}"
        job = self.jobs.get(found[1])
        if job is None or job.seen_from > self.clock.now:
            return _error(404, 5, f"run {found[1]} not found")
        if found[2] is None:
            return httpx.Response(200, json=self._row(job))
        return self._terminate(job) if found[2] == "terminate" else self._retry(job)

    def _create(self, body: dict[str, Any], late: float, unlisted: float) -> httpx.Response:
        if _refused(body):
            return _error(500, 13, "Failed to fetch a template")
        flow = Workflow(body["run_id"], self.clock.now)
        self.workflows.append(flow)
        if body["run_id"] in self.jobs:
            # The primary key; the second execution is there nonetheless, and lives as long as the first.
            flow.job = self.jobs[body["run_id"]]
            return _error(500, 13, "Failed to store run")
        self._specs[body["run_id"]] = body
        job = flow.job = self.jobs[body["run_id"]] = Job(
            id=body["run_id"], key=json.loads(body["description"])["mlfleet_key"],
            task=body["display_name"].split("-")[-2], spec=str(body["runtime_config"]["parameters"]["version"]),
            state="PENDING", epoch=self.epoch, seen_from=self.clock.now + late,
            listed_from=self.clock.now + late + unlisted, created=self.clock.now, history=["PENDING"],
        )  # fmt: skip
        self._later(job, "PENDING", late + _STARTS_IN, "RUNNING")
        return httpx.Response(200, json=self._row(job))

    def _terminate(self, job: Job) -> httpx.Response:
        if not self.is_live(job):
            return _error(400, 3, "Failed to terminate the run: Row not found")
        self.stop(job)
        return httpx.Response(200, json={})

    def _retry(self, job: Job) -> httpx.Response:
        if job.state not in {"FAILED", "CANCELED"}:
            return _error(400, 3, "Workflow must be Failed/Error to retry")
        job.epoch, job.finished = self.epoch, None
        self._set(job, "PENDING")
        self._later(job, "PENDING", _STARTS_IN, "RUNNING")
        return httpx.Response(200, json={})

    def _set(self, job: Job, state: str) -> None:
        job.state = state
        job.history.append(state)
        if state in TERMINAL:
            job.finished = self.clock.now

    def _later(self, job: Job, state: str, seconds: float, then: str) -> None:
        """`then` follows, unless something else does before."""
        turn = len(job.history)
        self.clock.after(seconds, lambda: self._set(job, then) if len(job.history) == turn else None)

    def _experiment(self, request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            rows = [{"experiment_id": value, "display_name": name} for name, value in self._experiments.items()]
            return httpx.Response(200, json={"experiments": rows} if rows else {})
        name = json.loads(request.content)["display_name"]
        if name in self._experiments:
            return _error(409, 6, "Already exist error")
        self._experiments[name] = f"e{len(self._experiments)}"
        return httpx.Response(200, json={"experiment_id": self._experiments[name], "display_name": name})

    def _list(self, request: httpx.Request) -> httpx.Response:
        # The server unescapes the filter once more than HTTP does (list_request_util.go, parseAPIFilter).
        asked = json.loads(unquote_plus(request.url.params["filter"]))["predicates"]
        rows = [
            row
            for job in sorted(self.jobs.values(), key=lambda job: job.created)
            if job.listed_from <= self.clock.now and all(_fits(row := self._row(job), one) for one in asked)
        ]
        return httpx.Response(200, json={"runs": rows} if rows else {})

    def _row(self, job: Job) -> dict[str, Any]:
        body = self._specs[job.id]
        return {
            "run_id": job.id,
            "display_name": body["display_name"],
            "experiment_id": body["experiment_id"],
            "state": job.state,
            # Whole seconds, and the epoch while there is no end (kfp.md 4).
            "created_at": _iso(job.created),
            "finished_at": _iso(job.finished or 0.0),
        }


def _refused(body: dict[str, Any]) -> bool:
    return bool(body["runtime_config"]["parameters"]["version"] == -1)


def _fits(row: dict[str, Any], predicate: dict[str, Any]) -> bool:
    value = row[predicate["key"]]
    if predicate["operation"] == "IN":
        return value in predicate["string_values"]["values"]
    if predicate["operation"] == "IS_SUBSTRING":
        return predicate["string_value"] in value
    return bool(predicate["string_value"] == value)


def _error(status: int, code: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"code": code, "message": message, "details": []})


def _iso(seconds: float) -> str:
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
