"""Waiting for one remote job: poll, tail its log, keep the deadline, survive bad moments of the server.

The same code waits in the triggerer and, for tasks that are not deferrable, in the worker.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mlfleet.errors import AuthError, MlfleetError, RemoteError
from mlfleet.remote.job import JobState, JobStatus
from mlfleet.remote.logs import one_record
from mlfleet.remote.protocol import Cursor, RemoteSystem

# Seconds without one good answer after which waiting is given up; the job itself is left alone.
PATIENCE = 900.0
# So often a job that was seen before must be missing before we believe that it is gone.
_BELIEVE_MISSING = 3
_STOP_TRIES = 5
_CURSOR_EVERY = 15.0
_MAX_DRAIN = 50


class End(StrEnum):
    """How a wait ended."""

    FINISHED = "finished"  # the job is in a final state
    TIMEOUT = "timeout"  # the deadline passed; the job was asked to stop
    GAVE_UP = "gave_up"  # the server could not be asked for PATIENCE seconds
    REFUSED = "refused"  # the server refuses to tell: credentials, connection
    VANISHED = "vanished"  # the job does not exist any more


@dataclass(frozen=True)
class Outcome:
    """How a wait ended, with the last status seen and, for everything but FINISHED, one sentence."""

    end: End
    status: JobStatus | None = None
    error: str = ""

    def as_json(self) -> dict[str, Any]:
        """JSON for a trigger event."""
        status = self.status.as_json() if self.status else None
        return {"outcome": self.end.value, "status": status, "error": self.error}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """The opposite."""
        status = JobStatus.from_json(data["status"]) if data.get("status") else None
        return cls(End(data["outcome"]), status, data.get("error", ""))


async def _nothing(value: object) -> None:
    """The default for callbacks that nobody needs."""


@dataclass
class Watch:
    """Waits for one job.

    ``connect``    makes a system with fresh credentials; called at the start and once more when they are refused
    ``deadline``   epoch seconds, None for none; ``stop_at_deadline`` False leaves the job running then (sensors)
    ``interval``   seconds between polls of a job that runs for long; a young job is asked more often
    ``cursor``     where its log was read to; ``emit`` gets texts for the task's log, ``save_cursor`` the cursor, every
                   15 s at most, ``seen`` each status that differs from the one before
    """

    connect: Callable[[], Awaitable[RemoteSystem]]
    job_id: str
    deadline: float | None = None
    interval: float = 10.0
    cursor: Cursor = field(default_factory=dict)
    emit: Callable[[str], None] = lambda text: None
    save_cursor: Callable[[Cursor], Awaitable[None]] = _nothing
    seen: Callable[[JobStatus], Awaitable[None]] = _nothing
    stop_at_deadline: bool = True
    with_logs: bool = True
    patience: float = PATIENCE
    now: Callable[[], float] = time.time
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    draw: Callable[[], float] = random.random
    system: RemoteSystem | None = None
    status: JobStatus | None = None
    _last_good: float = 0.0
    _saved_at: float = 0.0
    _missing: int = 0
    _failures: int = 0
    _refused: bool = False

    async def run(self) -> Outcome:
        """Wait for the end. Never raises errors of mlfleet: they are outcomes."""
        started = self._last_good = self._saved_at = self.now()
        while True:
            outcome = await self._round()
            if outcome is not None:
                await self.save_cursor(self.cursor)
                return outcome
            # A young job is asked every second or two, one that runs for minutes every `interval`.
            pause = min(self.interval, 1.0 + (self.now() - started) / 10)
            pause *= 0.8 + 0.4 * self.draw()
            if self.deadline is not None:
                pause = max(0.0, min(pause, self.deadline - self.now()))
            await self.sleep(pause)

    async def _round(self) -> Outcome | None:
        try:
            outcome = await self._look()
        except AuthError as exc:
            outcome = await self._not_allowed(exc)
        except RemoteError as exc:
            if not exc.retryable:
                return Outcome(End.REFUSED, self.status, str(exc))
            outcome = self._not_now(exc)
        except MlfleetError as exc:
            return Outcome(End.REFUSED, self.status, str(exc))
        if outcome is None and self.deadline is not None and self.now() >= self.deadline:
            outcome = await self._too_late()
        return outcome

    async def _look(self) -> Outcome | None:
        """One poll and one look into the log."""
        system = await self._connected()
        status = (await system.poll_many([self.job_id])).get(self.job_id)
        self._last_good, self._failures, self._refused = self.now(), 0, False
        if status is None:
            self._missing += 1
            gone = f"{system.name} job {self.job_id} does not exist any more; was it deleted?"
            return Outcome(End.VANISHED, self.status, gone) if self._missing >= _BELIEVE_MISSING else None
        self._missing = 0
        if status.state.is_final and self.with_logs:
            await self._tail(system, status)
        await self._note(system, status)
        if self.with_logs and not status.state.is_final:
            await self._tail(system, status)
        return Outcome(End.FINISHED, self.status) if status.state.is_final else None

    async def _note(self, system: RemoteSystem, status: JobStatus) -> None:
        before = self.status
        if before is not None and before.state is JobState.STOPPING and status.state is JobState.FAILED:
            # A KFP run that was terminated ends FAILED (kfp.md 4).
            status = replace(status, state=JobState.STOPPED)
        self.status = status
        if before is not None and (before.native, before.reason, before.url) == (
            status.native,
            status.reason,
            status.url,
        ):
            return
        if before is None or (before.native, before.reason) != (status.native, status.reason):
            reason = f": {status.reason}" if status.reason else ""
            self.emit(f"{system.name} job {self.job_id} is {status.native or status.state.value}{reason}")
        await self.seen(status)

    async def _tail(self, system: RemoteSystem, status: JobStatus) -> None:
        """One record with what is new in the log; all that is left of it once the job ended."""
        lines: list[str] = []
        try:
            for _ in range(_MAX_DRAIN if status.state.is_final else 1):
                chunk = await system.logs(self.job_id, self.cursor)
                moved = chunk.cursor != self.cursor
                self.cursor = chunk.cursor
                lines += chunk.lines
                if not moved:
                    break
        except RemoteError as exc:
            # The job matters more than its log: what is missing now comes with the next poll.
            if status.state.is_final:
                self.emit(f"the rest of the log could not be read: {exc}")
        record = one_record(lines, status.url)
        if record:
            self.emit(record)
        if lines and self.now() - self._saved_at >= _CURSOR_EVERY:
            self._saved_at = self.now()
            await self.save_cursor(self.cursor)

    def _not_now(self, error: RemoteError) -> Outcome | None:
        self._failures += 1
        waited = self.now() - self._last_good
        if waited > self.patience:
            sentence = f"no good answer for {waited:.0f} s and {self._failures} rounds; the last one: {error}"
            return Outcome(End.GAVE_UP, self.status, sentence)
        if self._failures == 1:
            self.emit(f"{error}; asking again for up to {self.patience:.0f} s, the job is left alone")
        return None

    async def _not_allowed(self, error: AuthError) -> Outcome | None:
        """A token may have been renewed during a long wait: read the connection once more, then believe it."""
        if self._refused:
            return Outcome(End.REFUSED, self.status, f"{error} (also after reading the connection again)")
        self._refused = True
        self.emit(f"{error}; reading the connection again")
        await self.close()
        return None

    async def _too_late(self) -> Outcome:
        if not self.stop_at_deadline:
            return Outcome(End.TIMEOUT, self.status, "the deadline passed; the job itself goes on")
        sentence = "its deadline passed"
        problem = await self.stop()
        sentence += f"; it could NOT be stopped and may still run: {problem}" if problem else " and it was stopped"
        return Outcome(End.TIMEOUT, self.status, sentence)

    async def stop(self) -> str:
        """Stop the job; returns why that did not work, "" when it did."""
        problem = ""
        for attempt in range(_STOP_TRIES):
            if attempt:
                await self.sleep(2.0**attempt)
            try:
                await (await self._connected()).stop(self.job_id)
            except MlfleetError as exc:
                problem = str(exc)
                if not exc.retryable:
                    break
            else:
                return ""
        return problem

    async def _connected(self) -> RemoteSystem:
        if self.system is None:
            self.system = await self.connect()
        return self.system

    async def close(self) -> None:
        """Close the system; the next call connects again."""
        system, self.system = self.system, None
        if system is not None:
            await system.aclose()
