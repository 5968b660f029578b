"""What tests of the remote job share: a record store, a watch that collects what it says, answers that get lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from mlfleet.errors import OutcomeUnknown, RequestRefused
from mlfleet.remote.decisions import Decision
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity
from mlfleet.remote.polling import SharedPoll
from mlfleet.remote.protocol import Cursor, LogChunk, RemoteSystem
from mlfleet.remote.record import Record
from mlfleet.remote.submission import Submission
from mlfleet.remote.watching import Outcome, Watch

TASK = TaskIdentity("test", "price-suggestion", "manual__1", "default.polyaxon")


@dataclass
class MemoryStore:
    """A record store that lives as long as the test; `saved` holds every record in order."""

    record: Record | None = None
    saved: list[Record] = field(default_factory=list)

    def load(self) -> Record | None:
        # Through JSON, as the real store does it.
        return Record.from_json(self.record.as_json()) if self.record else None

    def save(self, record: Record) -> None:
        self.record = record
        self.saved.append(record)


class LosesAnswers(httpx.AsyncBaseTransport):
    """The real network, but the answers to the first `count` requests that `which` picks are lost on the way back."""

    def __init__(self, which: Callable[[httpx.Request], bool], count: int = 1) -> None:
        self.which, self.left = which, count
        self.inner = httpx.AsyncHTTPTransport()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.inner.handle_async_request(request)
        if self.left and self.which(request):
            self.left -= 1
            await response.aread()
            await response.aclose()
            raise httpx.ReadTimeout("the answer was lost", request=request)
        return response

    async def aclose(self) -> None:
        await self.inner.aclose()


def submission(
    system: RemoteSystem, store: MemoryStore, *, task: TaskIdentity = TASK, generation: int = 0, **more: Any
) -> tuple[Submission, list[str]]:
    """A submission and the kinds of decisions it makes."""
    kinds: list[str] = []

    def tell(decision: Decision) -> None:
        kinds.append(decision.kind)

    return Submission(system, store, task, generation, tell=tell, **more), kinds


def alone(system: RemoteSystem, **more: Any) -> SharedPoll:
    """A connection that one system is."""

    async def connect() -> RemoteSystem:
        return system

    return SharedPoll(connect, **more)


def itself(system: Any) -> Any:
    """Makes the system of a connection that is one."""
    return system


async def watch(system: RemoteSystem, job_id: str, *, seconds: float = 90) -> tuple[Outcome, str]:
    """Waits for a job with the real clock; returns how it ended and all that was said."""
    said: list[str] = []

    waiting = Watch(poll=alone(system), make=itself, job_id=job_id, interval=0.5, emit=said.append)
    try:
        return await asyncio.wait_for(waiting.run(), seconds), "\n".join(said)
    except TimeoutError:
        raise AssertionError(f"{job_id} did not end within {seconds} s; last seen: {waiting.status}; {said}") from None


@dataclass
class MemorySystem:
    """A system that lives in memory: jobs by id, in the order of their making. `lose` answers of submit get lost."""

    name: str = "memory"
    lookup_grace: float = 30.0
    jobs: dict[str, JobStatus] = field(default_factory=dict)
    keys: dict[str, JobKey] = field(default_factory=dict)
    lose: int = 0
    swallow: int = 0
    visible_after: int = 0
    errors: list[Exception] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    slow_stop: bool = False
    resumes: bool = True
    lane: Hashable = None
    closed: bool = False

    def put(self, state: JobState, key: JobKey | None = None, **more: Any) -> str:
        job_id = f"job-{len(self.jobs)}"
        self.jobs[job_id] = JobStatus(job_id, state, state.value, url=f"https://memory/{job_id}", **more)
        if key is not None:
            self.keys[job_id] = key
        return job_id

    def set(self, job_id: str, state: JobState, **more: Any) -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], state=state, native=state.value, **more)

    def _called(self, what: str) -> None:
        self.calls.append(what)
        if self.errors:
            raise self.errors.pop(0)

    async def find(self, key: JobKey) -> list[JobStatus]:
        self._called("find")
        if self.visible_after:
            self.visible_after -= 1
            return []
        return [self.jobs[job_id] for job_id, has in self.keys.items() if has == key and job_id in self.jobs]

    async def find_task(self, task: TaskIdentity) -> list[JobStatus]:
        self._called("find_task")
        mine = [self.jobs[job_id] for job_id, key in self.keys.items() if key.task == task and job_id in self.jobs]
        return [status for status in mine if not status.state.is_final]

    async def submit(self, key: JobKey, spec: Mapping[str, Any]) -> JobStatus:
        self._called("submit")
        if self.swallow:
            self.swallow -= 1
            raise OutcomeUnknown(self.name, "nobody knows")
        job_id = self.put(JobState.PENDING, key)
        if self.lose:
            self.lose -= 1
            raise OutcomeUnknown(self.name, "nobody knows")
        return self.jobs[job_id]

    async def confirm(self, job_id: str) -> None:
        self._called(f"confirm {job_id}")

    async def poll_many(self, jobs: Mapping[str, RemoteSystem]) -> dict[str, JobStatus]:
        self._called("poll")
        return {job_id: self.jobs[job_id] for job_id in jobs if job_id in self.jobs}

    async def stop(self, job_id: str) -> None:
        self._called(f"stop {job_id}")
        if job_id in self.jobs and not self.jobs[job_id].state.is_final:
            self.set(job_id, JobState.STOPPING if self.slow_stop else JobState.STOPPED)

    async def discard(self, job_id: str) -> None:
        self._called(f"discard {job_id}")
        del self.jobs[job_id]

    async def resume(self, job_id: str) -> None:
        self._called(f"resume {job_id}")
        if not self.resumes or not self.jobs[job_id].state.is_final:
            raise RequestRefused(self.name, "only a failed job can be resumed")
        self.set(job_id, JobState.RUNNING, detail={}, finished_at=None)

    async def logs(self, job_id: str, cursor: Cursor) -> LogChunk:
        read = int(cursor.get("read", 0))
        return LogChunk(tuple(self.lines[read:]), {"read": len(self.lines)})

    async def result(self, job_id: str) -> dict[str, Any]:
        return {"system": self.name, "id": job_id}

    async def aclose(self) -> None:
        self.closed = True


@dataclass
class Time:
    """A clock that only sleeping moves; `at` maps a second to something that happens then."""

    now: float = 1000.0
    at: dict[float, Callable[[], object]] = field(default_factory=dict)

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for when in sorted(moment for moment in self.at if moment <= self.now):
            self.at.pop(when)()
