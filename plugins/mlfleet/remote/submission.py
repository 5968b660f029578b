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

A changed spec stops a live job before the next one starts. ``on_failed``: "resubmit" takes the next n, "resume" lets
the failed job go on, "fail" fails again on a retry. After a person's clear "fail" takes the next n too (clear means run
again), and "resume" resumes only a job that had failed *before* the clear: one that the clear ended is done with. For
one rerun a person may choose: "fresh" is always the next n, "resume" resumes what is neither live nor succeeded.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from mlfleet.errors import MlfleetError, NotFound, OutcomeUnknown, RemoteError, RequestRefused, TransientError
from mlfleet.remote.decisions import Decision, Kind, Tell, nobody
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity, new_incarnation, spec_digest
from mlfleet.remote.policies import OnFailed, RerunMode
from mlfleet.remote.protocol import RemoteSystem, look
from mlfleet.remote.record import TALLIED, Phase, Record, RecordStore

# How long an entry waits for a job that it stopped, or found stopping, before it goes on without it.
STOP_PATIENCE = 120.0
# How long before its submit call is sent a system may be busy with what the job needs (KFP's experiment, Polyaxon's
# project), within the budgets of clients.retry.
LONGEST_SUBMIT = 600.0
# How long a resumed job may still look ended.
REVIVAL_PATIENCE = 60.0
_LOOK_AGAIN = 2.0
_ENDED_BADLY = frozenset({JobState.FAILED, JobState.STOPPED})


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
        mode: RerunMode | None = None,
        tell: Tell = nobody,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.system, self.store, self.task, self.generation = system, store, task, generation
        self.on_failed, self.mode = on_failed, mode
        self._tell, self._now, self._sleep = tell, now, sleep
        self._counts: dict[str, int] = {"entries": 1}

    async def enter(self, spec: Mapping[str, Any]) -> JobStatus:
        """The job of this task: live, succeeded, or (``on_failed`` fail) failed.

        A spec whose ``labels`` alone have changed is the same one: they are written on a job, and change nothing of it.

        Raises SpecError when the system refuses ``spec``, OutcomeUnknown when the answer to the submit call was lost
        and the job did not show up, other errors of mlfleet.errors when the system can't be asked.
        """
        spec_hash = spec_digest(spec)
        record = self.store.load()
        if record is not None:
            await self._reap(record)
        if record is None:
            status = await self._begin(spec, spec_hash)
        elif self.mode is RerunMode.FRESH:
            self._say(Kind.FRESH, f"a person asked for a fresh job: job {record.n + 1} will be a new one", n=record.n)
            await self._end_all(record)
            status = await self._next(record, spec, spec_hash)
        elif record.generation != self.generation:
            status = await self._after_clear(record, spec, spec_hash)
        else:
            status = await self._carry_on(record, spec, spec_hash)
        self._flush()
        return status

    def key(self, record: Record) -> JobKey:
        """The key of a record's job."""
        return JobKey(self.task, record.incarnation, record.n)

    async def _begin(self, spec: Mapping[str, Any], spec_hash: str) -> JobStatus:
        for status in await self.system.find_task(self.task):
            why = f"job {status.id} of this task is {status.native} without a record: stopping it"
            self._say(Kind.REAPED, why, status.id)
            await self._stop_and_wait(status)
        return await self._submit(Record(new_incarnation(), 0, self.generation, spec_hash, Phase.SUBMITTING), spec)

    async def _reap(self, record: Record) -> None:
        """Stop what lives of this task beside the record's job: it came of a call that took effect unseen."""
        others = [s for s in await self.system.find_task(self.task) if s.state.is_live and s.id != record.job_id]
        same_key = {status.id for status in await self.system.find(self.key(record))} if others else set()
        for status in others:
            if status.id in same_key:
                await self._remove_twin(record, status, record.job_id)
            else:
                why = f"job {status.id} of this task is {status.native} and not the one in the record: stopping it"
                self._say(Kind.REAPED, why, status.id)
                await self._stop_and_wait(status)

    async def _remove_twin(self, record: Record, status: JobStatus, winner: str | None) -> None:
        """Nothing while it is not decided which one counts (``winner`` None)."""
        if winner is not None:
            double = f"job {status.id} has the same key as {winner}: removing it"
            self._say(Kind.DUPLICATE, double, status.id, record.n)
            await self.system.discard(status.id)

    async def _after_clear(self, record: Record, spec: Mapping[str, Any], spec_hash: str) -> JobStatus:
        status = await self._resolve(record) if self._may_resume(record) else None
        if status is not None and status.state in _ENDED_BADLY and record.spec_hash == spec_hash:
            after = f"a person cleared this task after job {status.id} ended {status.native}"
            self._say(Kind.CLEARED, after, status.id)
            return await self._resume(replace(record, generation=self.generation), status, spec)
        self._say(Kind.CLEARED, f"a person cleared this task: job {record.n + 1} will be a new one", n=record.n)
        await self._end_all(record)
        return await self._next(record, spec, spec_hash)

    def _may_resume(self, record: Record) -> bool:
        """Whether a clear may resume: a job that the clear itself stopped was live, and is replaced."""
        asked = self.mode is RerunMode.RESUME
        return asked or (self.on_failed is OnFailed.RESUME and record.ended == JobState.FAILED.value)

    async def _carry_on(self, record: Record, spec: Mapping[str, Any], spec_hash: str) -> JobStatus:
        status = await self._resolve(record)
        if status is None:
            if record.job_id:
                gone = f"job {record.job_id} does not exist any more: submitting the next one"
                self._say(Kind.LOST, gone, record.job_id or "")
                return await self._next(record, spec, spec_hash)
            if record.phase is Phase.PLANNED:
                self._say(Kind.FIRST, "nothing was submitted for this task yet", n=record.n)
            else:
                unanswered = "an earlier try ended before its submit call was answered, and no job came of it"
                self._say(Kind.UNANSWERED, unanswered, n=record.n)
            return await self._submit(replace(record, spec_hash=spec_hash), spec)
        if record.spec_hash != spec_hash:
            self._say(Kind.SPEC_CHANGED, f"the specification changed since job {status.id} was submitted", status.id)
            await self._end_all(record)
            return await self._next(record, spec, spec_hash)
        return await self._judge(record, status, spec)

    async def _judge(self, record: Record, status: JobStatus, spec: Mapping[str, Any]) -> JobStatus:
        """The row "same clear-generation" of the table, for a job that exists."""
        if status.state is JobState.STOPPING:
            waits = f"job {status.id} is being stopped: waiting for its end, then the next one"
            self._say(Kind.STOPPING, waits, status.id)
            await self._wait_for_end(status)
            return await self._next(record, spec, record.spec_hash)
        if status.state is JobState.SUCCEEDED or status.state.is_live:
            return await self._adopt(record, status)
        if self.on_failed is OnFailed.RESUME or self.mode is RerunMode.RESUME:
            return await self._resume(record, status, spec)
        if self.on_failed is OnFailed.FAIL:
            kept = f"job {status.id} ended {status.native}, and on_failed says fail"
            self._say(Kind.KEPT_FAILED, kept, status.id)
            return status
        self._say(Kind.RESUBMIT, f"job {status.id} ended {status.native}: submitting the next one", status.id)
        return await self._next(record, spec, record.spec_hash)

    async def _adopt(self, record: Record, status: JobStatus) -> JobStatus:
        verb = "already succeeded" if status.state.is_final else f"is {status.native or status.state}"
        carrying = f"job {status.id} {verb}: carrying on with it, nothing is submitted"
        self._say(Kind.ADOPTED, carrying, status.id, record.n)
        # A job that the record knows has won already: the entry began with the removal of its twins.
        known = record.phase is not Phase.SUBMITTING
        return await self._keep_first(record, [status] if known else await self._all_of(record, status))

    async def _resume(self, record: Record, status: JobStatus, spec: Mapping[str, Any]) -> JobStatus:
        """Let a failed job go on; where the system refuses, the next one."""
        self._say(Kind.RESUMED, f"job {status.id} ended {status.native}: resuming it", status.id, record.n)
        record = replace(record, phase=Phase.RESUMING, job_id=status.id, ended="", attempted_at=self._now())
        self._save(record)
        try:
            await self.system.resume(status.id)
        except OutcomeUnknown as exc:
            lost = f"the answer to the resume call was lost ({exc}): looking whether it had its effect"
            self._say(Kind.ANSWER_LOST, lost, status.id)
        except RequestRefused as exc:
            seen = None if isinstance(exc, NotFound) else await look(self.system, status.id)
            if seen is None or seen.state.is_final:
                refused = f"job {status.id} can't be resumed ({exc}): submitting the next one"
                self._say(Kind.RESUME_REFUSED, refused, status.id)
                return await self._next(record, spec, record.spec_hash)
        # It may have been ended before it was confirmed, and would wait for that for ever.
        return await self._keep_first(record, [await self._revived(status)])

    async def _revived(self, status: JobStatus) -> JobStatus:
        """The job once it is seen live again. Raises TransientError: submitting another one could make two."""
        until = self._now() + REVIVAL_PATIENCE
        while True:
            seen = await look(self.system, status.id)
            # A short job may have run to its end between two looks; another end than the one it was resumed from shows.
            if seen is not None and (not seen.state.is_final or seen.finished_at != status.finished_at):
                return seen
            if self._now() >= until:
                waited = f"job {status.id} was resumed and did not come back within {REVIVAL_PATIENCE:g} s"
                raise TransientError(self.system.name, waited)
            await self._sleep(_LOOK_AGAIN)

    async def _resolve(self, record: Record) -> JobStatus | None:
        """The record's job, or None when there is none and none can appear any more."""
        if not record.job_id:
            return await self._look_until(record, self._settled_at(record))
        until = self._settled_at(record)
        while True:
            status = await look(self.system, record.job_id)
            # A list may lag behind a job whose submit call was answered, and a job behind its resume call.
            due = status is None or (record.phase is Phase.RESUMING and status.state in _ENDED_BADLY)
            if not due or self._now() >= until:
                return status
            await self._sleep(_LOOK_AGAIN)

    def _settled_at(self, record: Record) -> float:
        """From when on the record's last call has had its effect, if it ever has one.

        The call was sent some time after ``attempted_at``, and if its process died, before this entry began.
        """
        if not record.attempted_at:
            return self._now()
        return min(self._now(), record.attempted_at + LONGEST_SUBMIT) + self.system.lookup_grace

    async def _next(self, record: Record, spec: Mapping[str, Any], spec_hash: str) -> JobStatus:
        return await self._submit(record.following(self.generation, spec_hash), spec)

    async def _submit(self, record: Record, spec: Mapping[str, Any]) -> JobStatus:
        found = await self.system.find(self.key(record))
        if found:
            before = f"job {found[0].id} was submitted under this key before: carrying on with it"
            self._say(Kind.ADOPTED, before, found[0].id, record.n)
            return await self._keep_first(record, found)
        record, status = await self._send(record, spec)
        return await self._keep_first(record, await self._all_of(record, status))

    async def _send(self, record: Record, spec: Mapping[str, Any]) -> tuple[Record, JobStatus]:
        """The submit call; a second one only after the look-up could have seen the first one's job."""
        for last in (False, True):
            record = replace(record, phase=Phase.SUBMITTING, attempted_at=self._now())
            self._save(record)
            try:
                status = await self.system.submit(self.key(record), spec)
            except OutcomeUnknown as exc:
                lost = f"the answer to the submit call was lost ({exc}): looking whether a job came"
                self._say(Kind.ANSWER_LOST, lost, n=record.n)
                found = await self._look_until(record, self._now() + self.system.lookup_grace)
                if found is not None:
                    self._say(Kind.SUBMITTED, f"job {found.id} came of it (number {record.n})", found.id, record.n)
                    return record, found
                if last:
                    raise
                continue
            except MlfleetError:
                # Refused, or never sent: nothing can appear, so the next try need not wait for it.
                self._save(replace(record, attempted_at=0.0))
                raise
            submitted = f"submitted job {status.id} (number {record.n}, key {self.key(record).value})"
            self._say(Kind.SUBMITTED, submitted, status.id, record.n)
            return record, status
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

    async def _all_of(self, record: Record, status: JobStatus) -> list[JobStatus]:
        """All jobs of the record's key, oldest first; ``status`` is one of them, also while the list lags behind."""
        found = await self.system.find(self.key(record))
        if status.id in {each.id for each in found}:
            return found
        return sorted([*found, status], key=lambda each: (each.created_at is None, each.created_at or 0, each.id))

    async def _keep_first(self, record: Record, found: list[JobStatus]) -> JobStatus:
        """Save the first of ``found`` and get rid of the others, which only a race can have made."""
        winner, *others = found
        if (record.phase, record.job_id) != (Phase.SUBMITTED, winner.id):
            await self.system.confirm(winner.id)
            self._save(replace(record, phase=Phase.SUBMITTED, job_id=winner.id))
        for status in others:
            if not status.state.is_final:
                await self._remove_twin(record, status, winner.id)
        return winner

    async def _end_all(self, record: Record) -> None:
        """Stop whatever of the record is still live, or may still appear."""
        status = await self._resolve(record)
        found = await self.system.find(self.key(record))
        if status is not None and status.id not in {one.id for one in found}:
            found.append(status)
        for status in found:
            if not status.state.is_final:
                await self._stop_and_wait(status)

    async def _stop_and_wait(self, status: JobStatus) -> None:
        if status.state is not JobState.STOPPING:
            stopping = f"stopping job {status.id}, which is {status.native or status.state}"
            self._say(Kind.STOPPED, stopping, status.id)
            await self.system.stop(status.id)
        await self._wait_for_end(status)

    async def _wait_for_end(self, status: JobStatus) -> None:
        until = self._now() + STOP_PATIENCE
        while self._now() < until:
            try:
                seen = await look(self.system, status.id)
            except RemoteError as exc:
                if not exc.retryable:
                    raise
            else:
                if seen is None or seen.state.is_final:
                    return
            await self._sleep(_LOOK_AGAIN)
        slow = f"job {status.id} did not end within {STOP_PATIENCE:g} s of being stopped: going on"
        self._say(Kind.STOP_SLOW, slow, status.id)

    def _say(self, kind: Kind, sentence: str, job_id: str = "", n: int | None = None) -> None:
        if kind in TALLIED:
            self._counts[TALLIED[kind]] = self._counts.get(TALLIED[kind], 0) + 1
        self._tell(Decision(kind, sentence, job_id, n))

    def _save(self, record: Record) -> None:
        """Keep the record, with what this entry counted since the last time."""
        kept = self.store.load()
        tally = dict(kept.tally if kept is not None else record.tally)
        for name, count in self._counts.items():
            tally[name] = tally.get(name, 0) + count
        self._counts = {}
        self.store.save(replace(record, tally=tally))

    def _flush(self) -> None:
        record = self.store.load()
        if self._counts and record is not None:
            self._save(record)
