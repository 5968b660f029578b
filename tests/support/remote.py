"""What tests of the remote job share: a record store, a watch that collects what it says, answers that get lost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

import httpx

from mlfleet.remote.job import TaskIdentity
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.remote.submission import Decision, Record, Submission
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
    system: RemoteSystem, store: MemoryStore, *, task: TaskIdentity = TASK, generation: int = 0
) -> tuple[Submission, list[str]]:
    """A submission and the kinds of decisions it makes."""
    kinds: list[str] = []

    def tell(decision: Decision) -> None:
        kinds.append(decision.kind)

    return Submission(system, store, task, generation, tell=tell), kinds


async def watch(system: RemoteSystem, job_id: str, *, seconds: float = 90) -> tuple[Outcome, str]:
    """Waits for a job with the real clock; returns how it ended and all that was said."""
    said: list[str] = []

    async def connect() -> RemoteSystem:
        return system

    waiting = Watch(connect=connect, job_id=job_id, interval=0.5, emit=said.append)
    try:
        return await asyncio.wait_for(waiting.run(), seconds), "\n".join(said)
    except TimeoutError:
        raise AssertionError(f"{job_id} did not end within {seconds} s; last seen: {waiting.status}; {said}") from None
