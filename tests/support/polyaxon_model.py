"""Polyaxon CE 2.18 in memory, as far as a remote job meets it (polyaxon.md 1 to 4).

Its windows: a create is committed some time after it came, and no list shows it before; a server error is a 405 without
a body, whether the run was committed or not; the same body twice makes two runs; a run that waits for its approval is
inert, also after a resume; a restart loses what is not committed.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx

from mlfleet.clients.http import HttpClient
from mlfleet.clients.polyaxon import TERMINAL, PolyaxonClient
from mlfleet.systems.polyaxon import KEY, TASK, PolyaxonSystem
from tests.support.adversity import Clock, Wire
from tests.support.truth import Job, as_of

PROJECT = "lab"
_API = "/api/v1/default"
# From the approval to the first step, with an agent that polls.
_STARTS_IN = 3.0


class PolyaxonModel:
    """One server with one project, `PROJECT`, which its first client creates."""

    patience = PolyaxonSystem.lookup_grace - 1.0
    twins_work = False

    def __init__(self, clock: Clock) -> None:
        self.clock, self.epoch, self.forgotten, self.stop_takes = clock, 0, 0, 5.0
        self.jobs: dict[str, Job] = {}
        self._pending: set[str] = set()
        self._projects: set[str] = set()
        self._meta: dict[str, dict[str, Any]] = {}
        self._count = 0

    # The real adapter, and what the world sees and does

    def system(self, wire: Wire) -> PolyaxonSystem:
        http = HttpClient(
            "http://localhost:8000", system="polyaxon", transport=wire, sleep=self.clock.sleep, clock=self.clock,
            now=self.clock, draw=lambda: 0.5,
        )  # fmt: skip
        return PolyaxonSystem(PolyaxonClient(http), PROJECT)

    def spec(self, version: int) -> dict[str, object]:
        return {"content": json.dumps({"version": version}), "name": "train", "tags": ["test"]}

    def version(self, job: Job) -> int:
        return int(json.loads(job.spec)["version"])

    def is_live(self, job: Job) -> bool:
        return job.state not in TERMINAL and job.state != "stopping"

    def has_succeeded(self, job: Job) -> bool:
        return job.state == "succeeded"

    def has_failed(self, job: Job) -> bool:
        return job.state == "failed"

    def finish(self, job: Job, succeeded: bool) -> None:
        if job.begun and self.is_live(job):
            self._set(job, "succeeded" if succeeded else "failed")

    def stop(self, job: Job) -> None:
        if job.state == "running":
            self._set(job, "stopping")
            self._later(job, "stopping", self.stop_takes, "stopped")
        elif self.is_live(job):
            self._set(job, "stopped")

    def executions(self) -> dict[str, int]:
        """A run that is not committed is not approved either, so what works is what is shown."""
        return {}

    # The server

    def restart(self) -> None:
        for job in list(self.jobs.values()):
            if job.seen_from > self.clock.now:
                del self.jobs[job.id]

    def halve(self, request: httpx.Request) -> None:
        """A transaction either is committed or is not."""

    def handle(self, request: httpx.Request, late: float = 0.0, unlisted: float = 0.0) -> httpx.Response:
        path = request.url.path.removeprefix(_API)
        if request.method == "POST" and path == f"/{PROJECT}/runs":
            return self._create(request, late, unlisted)
        if late and request.method != "GET":
            epoch = self.epoch
            self.clock.after(late, lambda: as_of(self, epoch, lambda: self.handle(request)))
            return httpx.Response(200)
        if path == "/projects/create":
            self._projects.add(json.loads(request.content)["name"])
            return httpx.Response(201, json={})
        if path == f"/{PROJECT}":
            known = PROJECT in self._projects
            return httpx.Response(200 if known else 404, json={"detail": "No Project matches the given query."})
        if path == f"/{PROJECT}/runs":
            return self._list(request.url.params)
        found = re.fullmatch(rf"/{PROJECT}/runs/([0-9a-f]+)(?:/(\w+))?", path)
        assert found, f"no such address: {request.method} {path}"
        job = self.jobs.get(found[1])
        if job is None or job.seen_from > self.clock.now:
            return httpx.Response(404, json={"detail": "No Run matches the given query."})
        return self._act(job, request.method, found[2])

    def _create(self, request: httpx.Request, late: float, unlisted: float) -> httpx.Response:
        if PROJECT not in self._projects:
            return httpx.Response(404, json={"detail": "No Project matches the given query."})
        body = json.loads(request.content)
        if json.loads(body["content"])["version"] == -1:
            return httpx.Response(400, json=["Received non valid yaml."])
        self._count += 1
        job = Job(
            id=uuid.uuid5(uuid.NAMESPACE_OID, str(self._count)).hex, key=body["meta_info"][KEY],
            task=body["meta_info"][TASK], spec=body["content"], state="created", epoch=self.epoch,
            seen_from=self.clock.now + late, listed_from=self.clock.now + late + unlisted, created=self.clock.now,
            begun=False, history=["created"],
        )  # fmt: skip
        if body["pending"]:
            self._pending.add(job.id)
        self._meta[job.id] = body["meta_info"]
        self.jobs[job.id] = job
        if not body["pending"]:
            self._begin(job)
        return httpx.Response(201, json=self._row(job))

    def _act(self, job: Job, method: str, verb: str | None) -> httpx.Response:
        if method == "DELETE":
            job.deleted = True
            return httpx.Response(204)
        if verb == "statuses":
            return httpx.Response(200, json={**self._row(job), "status_conditions": _conditions(job)})
        if verb is None:
            return httpx.Response(200, json=self._row(job))
        acts: dict[str, Callable[[Job], httpx.Response | None]] = {
            "approve": self._approve, "stop": self.stop, "resume": self._resume,
        }  # fmt: skip
        return acts[verb](job) or httpx.Response(200, json={})

    def _approve(self, job: Job) -> None:
        if job.id in self._pending:
            self._pending.discard(job.id)
            if job.state in {"created", "resuming"}:
                self._begin(job)

    def _begin(self, job: Job) -> None:
        job.begun = True
        self._set(job, "queued")
        self._later(job, "queued", _STARTS_IN, "running")

    def _resume(self, job: Job) -> httpx.Response | None:
        if job.state not in TERMINAL:
            return httpx.Response(400, json=["Cannot resume a run that is not final."])
        job.epoch, job.finished = self.epoch, None
        self._set(job, "resuming")
        if job.id not in self._pending:
            self._begin(job)
        return httpx.Response(201, json=self._row(job))

    def _set(self, job: Job, state: str) -> None:
        job.state = state
        job.history.append(state)
        if state in TERMINAL:
            job.finished = self.clock.now

    def _later(self, job: Job, state: str, seconds: float, then: str) -> None:
        """`then` follows, unless something else does before."""
        turn = len(job.history)
        self.clock.after(seconds, lambda: self._set(job, then) if len(job.history) == turn else None)

    def _list(self, params: httpx.QueryParams) -> httpx.Response:
        if PROJECT not in self._projects:
            return httpx.Response(404, json={"detail": "No Project matches the given query."})
        field, _, values = params["query"].partition(":")
        wanted = set(values.split("|"))
        rows = [
            self._row(job)
            for job in sorted(self.jobs.values(), key=lambda job: job.created)
            if not job.deleted and job.listed_from <= self.clock.now and _value(job, field) in wanted
        ]
        return httpx.Response(200, json={"count": len(rows), "results": rows})

    def _row(self, job: Job) -> dict[str, Any]:
        return {
            "uuid": job.id,
            "name": "train",
            "status": job.state,
            "pending": "approval" if job.id in self._pending else None,
            "meta_info": self._meta.get(job.id, {KEY: job.key, TASK: job.task}),
            "created_at": _iso(job.created),
            "finished_at": _iso(job.finished),
        }


def _value(job: Job, field: str) -> str:
    return {"uuid": job.id, f"meta_info.{KEY}": job.key, f"meta_info.{TASK}": job.task}[field]


def _conditions(job: Job) -> list[dict[str, str]]:
    return [{"type": state, "status": "True", "reason": "", "message": ""} for state in job.history]


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat()
