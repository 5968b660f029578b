"""Waiting for one remote job: look, tail its log, keep the deadline, survive bad moments of the server.

The same code waits in the triggerer, where all waits on one connection share their looks (remote.polling), and, for
tasks that are not deferrable, in the worker.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mlfleet.errors import AuthError, MlfleetError, RemoteError, RequestRefused
from mlfleet.remote.budget import LogBudget
from mlfleet.remote.job import JobState, JobStatus
from mlfleet.remote.logs import MAX_BYTES, one_record
from mlfleet.remote.polling import Calm, Look, SharedPoll, again
from mlfleet.remote.protocol import Cursor, RemoteSystem

# Seconds without one good answer after which waiting is given up; the job itself is left alone.
PATIENCE = 900.0
# How often a job that failed without its own fault (a preempted node) is resumed within one wait.
RESUMES = 3
# Seconds a job that was resumed may still look failed.
_REVIVAL = 60.0
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
    """How a wait ended, with the last status seen and, for everything but FINISHED, one sentence.

    ``resumes`` is how often the job was resumed while it was waited for.
    """

    end: End
    status: JobStatus | None = None
    error: str = ""
    resumes: int = 0

    def as_json(self) -> dict[str, Any]:
        """JSON for a trigger event."""
        status = self.status.as_json() if self.status else None
        return {"outcome": self.end.value, "status": status, "error": self.error, "resumes": self.resumes}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Outcome:
        """The opposite."""
        status = JobStatus.from_json(data["status"]) if data.get("status") else None
        return cls(End(data["outcome"]), status, data.get("error", ""), int(data.get("resumes") or 0))


@dataclass(frozen=True)
class Memory:
    """What a wait knows that another triggerer needs: how far the log was read, how often the job was resumed."""

    cursor: Cursor = field(default_factory=dict)
    resumes: int = 0

    def as_json(self) -> dict[str, Any]:
        """JSON."""
        return {"cursor": dict(self.cursor), "resumes": self.resumes}

    @classmethod
    def from_json(cls, data: object) -> Memory:
        """The opposite; empty for anything that is not such a memory."""
        given = data if isinstance(data, Mapping) else {}
        cursor, resumes = given.get("cursor"), given.get("resumes")
        return cls(cursor if isinstance(cursor, Mapping) else {}, resumes if isinstance(resumes, int) else 0)


async def _nothing(value: object) -> None:
    """The default for callbacks that nobody needs."""


async def _blank() -> Memory:
    """The default of a wait that none came before."""
    return Memory()


@dataclass
class Watch:
    """Waits for one job.

    ``poll``       the connection, shared with others; ``make`` the job's system on the connection's client
    ``deadline``   epoch seconds, None for none; ``stop_at_deadline`` False leaves the job running then (sensors)
    ``interval``   seconds between looks at a job that runs for long; a young job is asked more often
    ``recall``     fetches what an earlier wait left, when it is first needed; ``save`` keeps it, every 15 s at most
    ``emit``       gets texts for the task's log, within ``budget``, each of at most ``record_bytes``; ``seen`` each
                   status that differs from the one before
    """

    poll: SharedPoll
    make: Callable[[Any], RemoteSystem]
    job_id: str
    deadline: float | None = None
    interval: float = 10.0
    recall: Callable[[], Awaitable[Memory]] = _blank
    emit: Callable[[str], None] = lambda text: None
    save: Callable[[Memory], Awaitable[None]] = _nothing
    seen: Callable[[JobStatus], Awaitable[None]] = _nothing
    stop_at_deadline: bool = True
    with_logs: bool = True
    record_bytes: int = MAX_BYTES
    patience: float = PATIENCE
    budget: LogBudget = field(default_factory=LogBudget)
    status: JobStatus | None = None
    memory: Memory | None = None
    _client: Any = None
    _system: RemoteSystem | None = None
    _unsaid: list[str] = field(default_factory=list)
    _started: float = 0.0
    _last_good: float = 0.0
    _saved_at: float = 0.0
    _next_tail: float = 0.0
    _reviving_until: float = 0.0
    # As the server told it; what it means may be another status.
    _told: JobStatus | None = None
    _missing: int = 0
    _failures: int = 0
    _refused: bool = False
    _refused_resume: bool = False

    async def run(self) -> Outcome:
        """Wait for the end. Never raises errors of mlfleet: they are outcomes."""
        self._started = self._last_good = self._now()
        self.budget.waits += 1
        self._next_tail = self._now() + self.budget.first_pause()
        try:
            pause = 0.0
            while True:
                outcome = await self._round(pause)
                if outcome is not None:
                    await self._say_all()
                    return replace(outcome, resumes=self.memory.resumes if self.memory else 0)
                pause = self._pause()
        finally:
            self.budget.waits -= 1

    def leave(self) -> Memory | None:
        """Say what is unsaid, at once, and hand over: the process that waits is about to end.

        None when nothing was recalled: what an earlier wait left still holds.
        """
        self._emit()
        return self.memory

    async def stop(self) -> str:
        """Stop the job; returns why that did not work, "" when it did."""
        problem = ""
        for attempt in range(_STOP_TRIES):
            if attempt:
                await self.poll.sleep(2.0**attempt)
            try:
                await (await self.system()).stop(self.job_id)
            except MlfleetError as exc:
                problem = str(exc)
                if not exc.retryable:
                    break
            else:
                return ""
        return problem

    async def system(self) -> RemoteSystem:
        """The job's system on the connection's present client. Raises ConfigError when the connection is gone."""
        client = await self.poll.client()
        if self._system is None or client is not self._client:
            self._client, self._system = client, self.make(client)
        return self._system

    def _now(self) -> float:
        return self.poll.now()

    def _pause(self) -> float:
        """A young job is asked every second or two, one that runs for minutes every ``interval``."""
        born = self._started
        if self.status is not None and self.status.created_at is not None:
            born = min(born, self.status.created_at.timestamp())
        return min(self.interval, 1.0 + (self._now() - born) / 10)

    async def _round(self, pause: float) -> Outcome | None:
        look = await self._look(pause)
        if look.error is None:
            outcome = await self._take_in(look.status)
        elif isinstance(look.error, AuthError):
            outcome = await self._not_allowed(look.error)
        elif look.error.retryable:
            outcome = self._not_now(look.error)
        else:
            outcome = Outcome(End.REFUSED, self.status, str(look.error))
        if outcome is None and self.deadline is not None and self._now() >= self.deadline:
            outcome = await self._too_late()
        return outcome

    async def _look(self, pause: float) -> Look:
        """A look with everybody else, ``pause`` seconds from now or up to a tenth later; several while all is calm."""
        try:
            system = await self.system()
        except MlfleetError as exc:
            if exc.retryable:
                await self.poll.sleep(pause or 1.0)
            return Look(error=exc)
        wish = again(self._now(), pause, self.poll.draw(), self.deadline, self._calm(pause))
        look = await self.poll.look(self.job_id, system, wish)
        self._last_good = max(self._last_good, look.good_at or 0.0)
        return look

    def _calm(self, pause: float) -> Calm | None:
        """In the long middle of a wait only a change matters, or the time to read the log."""
        busy = self._unsaid or self._missing or self._failures or self._now() < self._reviving_until
        if self._told is None or self._told.state.is_final or busy or pause < self.interval:
            return None
        ends = [self.deadline] if self.deadline is not None else []
        return Calm(self._told, pause, min([*ends, self._next_tail] if self.with_logs else ends, default=math.inf))

    async def _take_in(self, status: JobStatus | None) -> Outcome | None:
        """What a good answer means."""
        system = await self.system()
        self._last_good, self._failures, self._refused = self._now(), 0, False
        self._told = status
        if status is None:
            self._missing += 1
            gone = f"{system.name} job {self.job_id} does not exist any more; was it deleted?"
            return Outcome(End.VANISHED, self.status, gone) if self._missing >= _BELIEVE_MISSING else None
        self._missing = 0
        status = self._meaning(status)
        if status.state is JobState.FAILED and await self._gets_another_chance(system, status):
            return None
        final = status.state.is_final
        if self.with_logs and final:
            await self._tail(system, status)
        await self._note(system, status)
        if self.with_logs and not final and self._now() >= self._next_tail:
            await self._tail(system, status)
        self._say()
        return Outcome(End.FINISHED, self.status) if final else None

    def _meaning(self, status: JobStatus) -> JobStatus:
        before = self.status
        if before is not None and before.state is JobState.STOPPING and status.state is JobState.FAILED:
            # A KFP run that was terminated ends FAILED (kfp.md 4).
            return replace(status, state=JobState.STOPPED)
        return status

    async def _gets_another_chance(self, system: RemoteSystem, status: JobStatus) -> bool:
        """Whether to go on waiting for a failed job: it was just resumed, or is now because it was not its fault."""
        if self._now() < self._reviving_until:
            return True
        if not status.detail.get("infrastructure"):
            return False
        memory = await self._recalled()
        if memory.resumes >= RESUMES:
            return False
        why = status.reason or status.native
        try:
            await system.resume(self.job_id)
        except MlfleetError as exc:
            if isinstance(exc, RequestRefused) and not self._refused_resume:
                # Also what lives again by somebody else's doing, since the look, is refused.
                self._refused_resume = True
                return True
            self._unsaid.append(f"{why}: no fault of the job, but it can't be resumed: {exc}")
            return False
        self._refused_resume = False
        self.memory = replace(memory, resumes=memory.resumes + 1)
        which = f"({self.memory.resumes} of {RESUMES})"
        self._unsaid.append(f"{why}: no fault of the job, so it was resumed {which}")
        self._reviving_until = self._now() + _REVIVAL
        await self.save(self.memory)
        return True

    async def _note(self, system: RemoteSystem, status: JobStatus) -> None:
        before = self.status
        self.status = status
        if not status.state.is_final and status.state is not JobState.UNKNOWN:
            self._reviving_until = 0.0
        if before is None or (before.native, before.reason) != (status.native, status.reason):
            reason = f": {status.reason}" if status.reason else ""
            self._unsaid.append(f"{system.name} job {self.job_id} is {status.native or status.state.value}{reason}")
        elif before.url == status.url:
            return
        await self.seen(status)

    async def _tail(self, system: RemoteSystem, status: JobStatus) -> None:
        """What is new in the log; all that is left of it once the job ended."""
        self._next_tail = self._now() + self.budget.tail_pause(self.interval)
        lines: list[str] = []
        memory = await self._recalled()
        cursor = memory.cursor
        try:
            for _ in range(_MAX_DRAIN if status.state.is_final else 1):
                chunk = await system.logs(self.job_id, cursor)
                moved = chunk.cursor != cursor
                cursor = chunk.cursor
                lines += chunk.lines
                if not moved:
                    break
        except RemoteError as exc:
            # The job matters more than its log: what is missing now comes with the next look.
            if status.state.is_final:
                self._unsaid.append(f"the rest of the log could not be read: {exc}")
        self.memory = replace(memory, cursor=cursor)
        self._unsaid += lines
        if lines and self._now() - self._saved_at >= _CURSOR_EVERY:
            self._saved_at = self._now()
            await self._say_all()
            await self.save(self.memory)

    async def _recalled(self) -> Memory:
        """What is known of the job's log and resumes. Thousands of waits that begin at once need not ask for it."""
        if self.memory is None:
            self.memory = await self.recall()
            # The first lines are saved with their telling: a wait that is killed before would be followed by one that
            # repeats them and has no way to know, and to say, that it does.
            self._saved_at = self._now() if self.memory.cursor else -_CURSOR_EVERY
        return self.memory

    def _say(self) -> None:
        """What there is to say, in one record, if the triggerer has room for it now; else with the next look."""
        if self._unsaid and self.budget.take():
            self._emit()

    async def _say_all(self) -> None:
        """The same for what can't wait: the end, and lines that the saved cursor counts as said."""
        if self._unsaid:
            await self.budget.wait()
            self._emit()

    def _emit(self) -> None:
        said, self._unsaid = self._unsaid, []
        record = one_record(said, self.status.url if self.status else "", self.record_bytes)
        if record:
            self.emit(record)

    def _not_now(self, error: MlfleetError) -> Outcome | None:
        self._failures += 1
        waited = self._now() - self._last_good
        if waited > self.patience:
            sentence = f"no good answer for {waited:.0f} s and {self._failures} rounds; the last one: {error}"
            return Outcome(End.GAVE_UP, self.status, sentence)
        if self._failures == 1:
            self._unsaid.append(f"{error}; asking again for up to {self.patience:.0f} s, the job is left alone")
            self._say()
        return None

    async def _not_allowed(self, error: AuthError) -> Outcome | None:
        """A token may have been renewed during a long wait: read the connection once more, then believe it."""
        if self._refused:
            return Outcome(End.REFUSED, self.status, f"{error} (also after reading the connection again)")
        self._refused = True
        self._unsaid.append(f"{error}; reading the connection again")
        self._say()
        try:
            await self.poll.renew(self._client)
        except MlfleetError as exc:
            return Outcome(End.REFUSED, self.status, f"{error}; reading the connection again did not help: {exc}")
        return None

    async def _too_late(self) -> Outcome:
        if not self.stop_at_deadline:
            return Outcome(End.TIMEOUT, self.status, "the deadline passed; the job itself goes on")
        sentence = "its deadline passed"
        problem = await self.stop()
        sentence += f"; it could NOT be stopped and may still run: {problem}" if problem else " and it was stopped"
        return Outcome(End.TIMEOUT, self.status, sentence)
