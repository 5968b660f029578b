"""Cloud Build in memory (tests.support.cloud_build_wire) as one of the models that random histories run against.

Its windows: a create takes effect up to a minute after its caller has gone; lists lag behind, while GET knows at once;
two creates make two builds, and both work from the beginning.
"""

from __future__ import annotations

from datetime import datetime

import httpx

from mlfleet.clients.cloud_build import BASE, TERMINAL, CloudBuildClient
from mlfleet.clients.http import HttpClient
from mlfleet.systems.cloud_build import CloudBuildSystem
from tests.support.adversity import Clock, Wire
from tests.support.cloud_build_wire import LOCATION, PROJECT, CloudBuildWire
from tests.support.truth import Job, as_of

# How far lists always lag behind.
_LAG = 3.0
_STARTS_IN = 3.0


class CloudBuildModel:
    """One project in one location."""

    # Half of the adapter's grace is for the request, half for the list.
    patience = CloudBuildSystem.lookup_grace / 2 - 5.0
    twins_work = True

    def __init__(self, clock: Clock) -> None:
        self.clock, self.epoch, self.forgotten, self.stop_takes = clock, 0, 0, 0.0
        self._server = CloudBuildWire(clock, list_lag=_LAG)
        self._jobs: dict[str, Job] = {}
        self._restarts = 0

    # The real adapter, and what the world sees and does

    @property
    def jobs(self) -> dict[str, Job]:
        for build_id, stored in self._server.builds.items():
            job, now = self._jobs[build_id], stored.now
            job.state = now["status"]
            job.finished = datetime.fromisoformat(now["finishTime"]).timestamp() if "finishTime" in now else None
        return self._jobs

    def system(self, wire: Wire) -> CloudBuildSystem:
        http = HttpClient(
            BASE, system="cloud_build", transport=wire, sleep=self.clock.sleep, clock=self.clock, now=self.clock,
            draw=lambda: 0.5,
        )  # fmt: skip
        return CloudBuildSystem(CloudBuildClient(http), PROJECT, LOCATION)

    def spec(self, version: int) -> dict[str, object]:
        steps = [] if version == -1 else [{"name": "kaniko", "args": [str(version)]}]
        return {"build": {"steps": steps, "images": ["eu.test/churn:build-1"]}}

    def version(self, job: Job) -> int:
        return int(job.spec)

    def is_live(self, job: Job) -> bool:
        return job.state not in TERMINAL

    def has_succeeded(self, job: Job) -> bool:
        return job.state == "SUCCESS"

    def has_failed(self, job: Job) -> bool:
        return job.state == "FAILURE"

    def finish(self, job: Job, succeeded: bool) -> None:
        self._server.finish(job.id, "SUCCESS" if succeeded else "FAILURE")

    def stop(self, job: Job) -> None:
        self._server.finish(job.id, "CANCELLED")

    def executions(self) -> dict[str, int]:
        """A build that works is a build that GET knows."""
        return {}

    # The server

    def restart(self) -> None:
        """What was not committed never is."""
        self._restarts += 1

    def halve(self, request: httpx.Request) -> None:
        """A create is committed or is not."""

    def handle(self, request: httpx.Request, late: float = 0.0, unlisted: float = 0.0) -> httpx.Response:
        if late and request.method != "GET":
            restarts, epoch = self._restarts, self.epoch
            self.clock.after(
                late, lambda: as_of(self, epoch, lambda: self._answer(request)) if restarts == self._restarts else None
            )
            return httpx.Response(200)
        if unlisted and request.method == "POST" and request.url.path.endswith("/builds"):
            self._server.list_lag = max(self._server.list_lag, unlisted)
            self.clock.after(unlisted, self._catch_up)
        return self._answer(request)

    def _catch_up(self) -> None:
        self._server.list_lag = _LAG

    def _answer(self, request: httpx.Request) -> httpx.Response:
        before = set(self._server.builds)
        answer = self._server._answer(request)
        for build_id in set(self._server.builds) - before:
            build = self._server.builds[build_id].now
            key, task = (tag.rpartition("-")[2] for tag in build["tags"])
            self._jobs[build_id] = Job(
                id=build_id, key=key, task=task, spec=build["steps"][0]["args"][0], state="QUEUED", epoch=self.epoch,
                seen_from=self.clock.now, listed_from=self.clock.now + self._server.list_lag, created=self.clock.now,
            )  # fmt: skip
            self.clock.after(_STARTS_IN, lambda build_id=build_id: self._begin(build_id))
        return answer

    def _begin(self, build_id: str) -> None:
        if self._server.builds[build_id].now["status"] == "QUEUED":
            self._server.finish(build_id, "WORKING")
