"""What a system must offer to run remote jobs. Another system is one client and one class that does this."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mlfleet.remote.job import JobKey, JobStatus, TaskIdentity

Cursor = Mapping[str, Any]
"""How far a job's log was read: JSON, made and understood by the system alone; ``{}`` is the beginning."""


@dataclass(frozen=True)
class LogChunk:
    """Lines after a cursor, in the order of the log, and the cursor behind them."""

    lines: tuple[str, ...] = ()
    cursor: Cursor = field(default_factory=dict)


class RemoteSystem(Protocol):
    """One kind of job on one server.

    Errors are those of mlfleet.errors: TransientError for "not now", OutcomeUnknown from ``submit`` when the answer was
    lost, SpecError when the system refuses the specification.
    """

    name: str
    """"polyaxon", "kfp", ..."""

    lookup_grace: float
    """Seconds after a lost answer during which ``find`` may not see the job although it was accepted."""

    @property
    def lane(self) -> Hashable:
        """Jobs of one connection whose systems have equal lanes can be polled with one request."""
        ...

    async def find(self, key: JobKey) -> list[JobStatus]:
        """The jobs that were submitted under ``key``, oldest first; several only if something went wrong."""
        ...

    async def find_task(self, task: TaskIdentity) -> list[JobStatus]:
        """The live jobs of any key of ``task``."""
        ...

    async def submit(self, key: JobKey, spec: Mapping[str, Any]) -> JobStatus:
        """Start a job that :meth:`find` can find by ``key``. Sent once."""
        ...

    async def confirm(self, job_id: str) -> None:
        """Let a submitted job begin, where submitting has two phases; may be called again, also for a finished job."""
        ...

    async def poll_many(self, jobs: Mapping[str, RemoteSystem]) -> dict[str, JobStatus]:
        """The status of each job; one that does not exist is left out.

        ``jobs`` maps the id of each job to the system that was made for it, all of them of this one's kind, connection
        and lane. At most one request per hundred jobs; one more for a job whose end needs an explanation is fine.
        """
        ...

    async def stop(self, job_id: str) -> None:
        """Ask for the end of the job; a finished or missing one is fine."""
        ...

    async def discard(self, job_id: str) -> None:
        """Get rid of a job that a race submitted twice: as :meth:`stop`, or better where it never began."""
        ...

    async def resume(self, job_id: str) -> None:
        """Let a job that failed go on from where it got to, under the same id.

        Raises RequestRefused when it can't be (also: when it is live), NotFound when it is gone, OutcomeUnknown.
        """
        ...

    async def logs(self, job_id: str, cursor: Cursor) -> LogChunk:
        """What the log has behind ``cursor``; nothing where the system has no logs."""
        ...

    async def result(self, job_id: str) -> dict[str, Any]:
        """What a succeeded job hands on (JSON)."""
        ...

    async def aclose(self) -> None:
        """Close the client."""
        ...


async def look(system: RemoteSystem, job_id: str) -> JobStatus | None:
    """One look at one job; None when it does not exist."""
    return (await system.poll_many({job_id: system})).get(job_id)
