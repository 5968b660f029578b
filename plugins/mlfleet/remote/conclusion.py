"""From the end of a wait to a result, or to the error that fits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlfleet.errors import (
    JobFailed,
    JobStopped,
    JobTimedOut,
    MlfleetError,
    RequestRefused,
    SpecError,
    TransientError,
)
from mlfleet.remote.job import JobState, JobStatus
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.remote.watching import End, Outcome

_TAIL_LINES = 20
_TAIL_CHUNKS = 200


async def conclude(connect: Callable[[], RemoteSystem], outcome: Outcome) -> dict[str, Any]:
    """The result of a succeeded job.

    Raises JobFailed (with the last lines of the log), JobStopped, SpecError, JobTimedOut, TransientError when the
    server could not be asked, RequestRefused when it would not tell.
    """
    status = outcome.status
    system = connect()
    try:
        if status is not None and outcome.end is End.FINISHED and status.state is JobState.SUCCEEDED:
            return await system.result(status.id)
        raise error_for(system.name, outcome, await log_tail(system, status))
    finally:
        await system.aclose()


async def log_tail(system: RemoteSystem, status: JobStatus | None) -> Sequence[str]:
    """The last lines of a failed job's log, read from its beginning; empty when there are none to be had."""
    if status is None or status.state is not JobState.FAILED:
        return ()
    tail: list[str] = []
    cursor: Mapping[str, Any] = {}
    try:
        for _ in range(_TAIL_CHUNKS):
            chunk = await system.logs(status.id, cursor)
            tail = [*tail, *chunk.lines][-_TAIL_LINES:]
            if chunk.cursor == cursor:
                break
            cursor = chunk.cursor
    except MlfleetError:
        # The job's own failure is the news; a log that can't be read must not hide it.
        return tail
    return tail


def error_for(system: str, outcome: Outcome, tail: Sequence[str] = ()) -> MlfleetError:
    """The error for an outcome other than success."""
    status = outcome.status
    job_id, url, native = (status.id, status.url, status.native) if status else ("?", "", "")
    if outcome.end is End.TIMEOUT:
        return JobTimedOut(system, job_id, native, outcome.error, url)
    if outcome.end is End.GAVE_UP:
        return TransientError(system, outcome.error)
    if outcome.end is End.REFUSED:
        return RequestRefused(system, outcome.error)
    if outcome.end is End.VANISHED or status is None:
        return JobFailed(system, job_id, "gone", outcome.error, url)
    if status.detail.get("spec_error"):
        return SpecError(system, job_id, native, status.reason, url, tail)
    kind = JobStopped if status.state is JobState.STOPPED else JobFailed
    return kind(system, job_id, native, status.reason, url, tail)
