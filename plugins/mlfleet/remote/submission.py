"""One job per key, whatever crashes: record, look up, submit, look up again.

The record is written *before* the submit call, so a process that dies at any point leaves behind what the next one
needs to know. On entry:

======================  ============  ============  =============  =========  ==============
record says             live          succeeded     stopping       failed     spec changed
======================  ============  ============  =============  =========  ==============
same clear-generation   adopt         finish        wait, next n   on_failed  next n
a person cleared        stop, next n  next n        wait, next n   on_failed  next n
no record               stop what is live under the same task; never adopt a finished job
======================  ============  ============  =============  =========  ==============

A changed spec stops a live job before the next one starts. ``on_failed`` is asked when a *retry* meets a failed job; a
person's clear always means a new one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from typing import Any, Protocol

from mlfleet.errors import MlfleetError, OutcomeUnknown, RemoteError, TransientError
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity, digest, new_incarnation
from mlfleet.remote.protocol import RemoteSystem

# How long an entry waits for a job that it stopped, or found stopping, before it goes on without it.
STOP_PATIENCE = 120.0
_LOOK_AGAIN = 2.0


class Phase(StrEnum):
    """What the record knows about the submit call of its ordinal."""

    SUBMITTING = "submitting"
    SUBMITTED = "submitted"


class OnFailed(StrEnum):
    """What a retry does with a job that failed."""

    RESUBMIT = "resubmit"
    FAIL = "fail"


@dataclass(frozen=True)
class Record:
    """What is kept about a task's job; ``attempted_at`` is the epoch second of the last submit call."""

    incarnation: str
    n: int
    generation: int
    spec_hash: str
    phase: Phase
    job_id: str | None = None
    attempted_at: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """JSON for the store."""
        return {"v": 1, **asdict(self)}

    @classmethod
    def from_json(cls, data: object) -> Record | None:
        """The opposite; None for anything that is not such a record."""
        if not isinstance(data, Mapping):
            return None
        try:
            return cls(
                incarnation=str(data["incarnation"]),
                n=int(data["n"]),
                generation=int(data["generation"]),
                spec_hash=str(data["spec_hash"]),
                phase=Phase(data["phase"]),
                job_id=str(data["job_id"]) if data.get("job_id") else None,
                attempted_at=float(data.get("attempted_at") or 0.0),
            )
        except (KeyError, TypeError, ValueError):
            return None


class RecordStore(Protocol):
    """Where the record lives; survives the process."""

    def load(self) -> Record | None:
        """The record, None when there is none."""
        ...

    def save(self, record: Record) -> None:
        """Keep it before returning."""
        ...


@dataclass(frozen=True)
class Decision:
    """One decision: ``kind`` is what counters count, ``sentence`` what an on-call engineer reads."""

    kind: str
    sentence: str


class Submission:
    """Brings one task instance to the one job it waits for.

    ``generation`` counts the clears of the task (Airflow's ``ti.max_tries``); ``tell`` is given every decision;
    ``now`` (epoch seconds) and ``sleep`` replace time in tests.
    """

    def __init__(
        self,
        system: RemoteSystem,
        store: RecordStore,
        task: TaskIdentity,
        generation: int,
        *,
        on_failed: OnFailed = OnFailed.RESUBMIT,
        tell: Callable[[Decision], None] = lambda decision: None,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.system, self.store, self.task, self.generation = system, store, task, generation
        self.on_failed = on_failed
        self._tell, self._now, self._sleep = tell, now, sleep

    async def enter(self, spec: Mapping[str, Any]) -> JobStatus:
        """The job of this task: live, succeeded, or (``on_failed`` fail) failed.

        Raises SpecError when the system refuses ``spec``, OutcomeUnknown when the answer to the submit call was lost
        and the job did not show up, other errors of mlfleet.errors when the system can't be asked.
        """
        spec_hash = digest(spec)
        record = self.store.load()
        if record is None:
            return await self._begin(spec, spec_hash)
        if record.generation != self.generation:
            return await self._after_clear(record, spec, spec_hash)
        return await self._carry_on(record, spec, spec_hash)

    def key(self, record: Record) -> JobKey:
        """The key of a record's job."""
        return JobKey(self.task, record.incarnation, record.n)

    async def _begin(self, spec: Mapping[str, Any], spec_hash: str) -> JobStatus:
        for status in await self.system.find_task(self.task):
            self._say("reaped", f"job {status.id} of this task is {status.native} without a record: stopping it")
            await self._stop_and_wait(status)
        return await self._submit(Record(new_incarnation(), 0, self.generation, spec_hash, Phase.SUBMITTING), spec)

    async def _after_clear(self, record: Record, spec: Mapping[str, Any], spec_hash: str) -> JobStatus:
        self._say("cleared", f"a person cleared this task: job {record.n + 1} will be a new one")
        await self._end_all(record)
        return await self._next(record, spec, spec_hash)

    async def _carry_on(self, record: Record, spec: Mapping[str, Any], spec_hash: str) -> JobStatus:
        status = await self._resolve(record)
        if status is None:
            if record.phase is Phase.SUBMITTED:
                self._say("lost", f"job {record.job_id} does not exist any more: submitting the next one")
                return await self._next(record, spec, spec_hash)
            self._say("resumed", "an earlier try ended before its submit call was answered, and no job came of it")
            return await self._submit(replace(record, spec_hash=spec_hash), spec)
        if record.spec_hash != spec_hash:
            self._say("spec_changed", f"the specification changed since job {status.id} was submitted")
            await self._end_all(record)
            return await self._next(record, spec, spec_hash)
        return await self._judge(record, status, spec)

    async def _judge(self, record: Record, status: JobStatus, spec: Mapping[str, Any]) -> JobStatus:
        """The row "same clear-generation" of the table, for a job that exists."""
        if status.state is JobState.STOPPING:
            self._say("stopping", f"job {status.id} is being stopped: waiting for its end, then the next one")
            await self._wait_for_end(status)
            return await self._next(record, spec, record.spec_hash)
        if status.state is JobState.SUCCEEDED or status.state.is_live:
            verb = "already succeeded" if status.state.is_final else f"is {status.native or status.state}"
            self._say("adopted", f"job {status.id} {verb}: carrying on with it, nothing is submitted")
            if record.phase is Phase.SUBMITTING:
                return await self._keep_oldest(record, await self.system.find(self.key(record)) or [status])
            return status
        if self.on_failed is OnFailed.FAIL:
            self._say("kept_failed", f"job {status.id} ended {status.native}, and on_failed says fail")
            return status
        self._say("resubmit", f"job {status.id} ended {status.native}: submitting the next one")
        return await self._next(record, spec, record.spec_hash)

    async def _resolve(self, record: Record) -> JobStatus | None:
        """The record's job, or None when there is none and none can appear any more."""
        if record.job_id:
            return (await self.system.poll_many([record.job_id])).get(record.job_id)
        return await self._look_until(record, record.attempted_at + self.system.lookup_grace)

    async def _next(self, record: Record, spec: Mapping[str, Any], spec_hash: str) -> JobStatus:
        following = Record(record.incarnation, record.n + 1, self.generation, spec_hash, Phase.SUBMITTING)
        return await self._submit(following, spec)

    async def _submit(self, record: Record, spec: Mapping[str, Any]) -> JobStatus:
        found = await self.system.find(self.key(record))
        if found:
            self._say("adopted", f"job {found[0].id} was submitted under this key before: carrying on with it")
            return await self._keep_oldest(record, found)
        status = await self._send(record, spec)
        return await self._keep_oldest(record, await self.system.find(self.key(record)) or [status])

    async def _send(self, record: Record, spec: Mapping[str, Any]) -> JobStatus:
        """The submit call; a second one only after the look-up could have seen the first one's job."""
        for last in (False, True):
            record = replace(record, attempted_at=self._now())
            self.store.save(record)
            try:
                status = await self.system.submit(self.key(record), spec)
            except OutcomeUnknown as exc:
                self._say("answer_lost", f"the answer to the submit call was lost ({exc}): looking whether a job came")
                found = await self._look_until(record, self._now() + self.system.lookup_grace)
                if found is not None:
                    return found
                if last:
                    raise
                continue
            except MlfleetError:
                # Refused, or never sent: nothing can appear, so the next try need not wait for it.
                self.store.save(replace(record, attempted_at=0.0))
                raise
            self._say("submitted", f"submitted job {status.id} (number {record.n}, key {self.key(record).value})")
            return status
        raise AssertionError("the loop returns or raises")

    async def _look_until(self, record: Record, until: float) -> JobStatus | None:
        """Look up the record's key, at least once, and again until the epoch second ``until``."""
        while True:
            try:
                found = await self.system.find(self.key(record))
            except TransientError:
                if self._now() >= until:
                    raise
                found = []
            if found:
                return found[0]
            if self._now() >= until:
                return None
            await self._sleep(_LOOK_AGAIN)

    async def _keep_oldest(self, record: Record, found: list[JobStatus]) -> JobStatus:
        """Save the first of ``found`` and get rid of the others, which only a race can have made."""
        winner, *others = found
        await self.system.confirm(winner.id)
        self.store.save(replace(record, phase=Phase.SUBMITTED, job_id=winner.id))
        for status in others:
            if not status.state.is_final:
                self._say("duplicate", f"job {status.id} has the same key as the older {winner.id}: removing it")
                await self.system.discard(status.id)
        return winner

    async def _end_all(self, record: Record) -> None:
        """Stop whatever of the record is still live."""
        found = await self.system.find(self.key(record))
        if record.job_id and record.job_id not in {status.id for status in found}:
            found += (await self.system.poll_many([record.job_id])).values()
        for status in found:
            if not status.state.is_final:
                await self._stop_and_wait(status)

    async def _stop_and_wait(self, status: JobStatus) -> None:
        if status.state is not JobState.STOPPING:
            self._say("stopped", f"stopping job {status.id}, which is {status.native or status.state}")
            await self.system.stop(status.id)
        await self._wait_for_end(status)

    async def _wait_for_end(self, status: JobStatus) -> None:
        until = self._now() + STOP_PATIENCE
        while self._now() < until:
            try:
                seen = (await self.system.poll_many([status.id])).get(status.id)
            except RemoteError as exc:
                if not exc.retryable:
                    raise
            else:
                if seen is None or seen.state.is_final:
                    return
            await self._sleep(_LOOK_AGAIN)
        self._say("stop_slow", f"job {status.id} did not end within {STOP_PATIENCE:g} s of being stopped: going on")

    def _say(self, kind: str, sentence: str) -> None:
        self._tell(Decision(kind, sentence))
