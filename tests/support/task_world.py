"""One task of Airflow, the people around it and a server in memory: a history of actions, checked after each.

What must be true is in :meth:`TaskWorld.check` and :meth:`TaskWorld.check_entry`; it is said in terms of what is really
there (tests.support.truth), not of what mlfleet believes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from mlfleet.errors import MlfleetError
from mlfleet.remote.decisions import Decision
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity
from mlfleet.remote.policies import OnFailed, RerunMode
from mlfleet.remote.record import note_end
from mlfleet.remote.submission import Submission
from tests.support.adversity import NOBODY, Fault, Kill, Records, Wire
from tests.support.truth import Job, ServerModel, forget, visible

TASK = TaskIdentity("test", "price-suggestion", "scheduled__2026-11-10", "default.train")
# No entry may take longer, whatever the weather (seconds).
ENTRY_LIMIT = 3600.0


@dataclass(frozen=True)
class Finish:
    """The remote jobs that work come to their end."""

    succeeded: bool


@dataclass(frozen=True)
class StopJobs:
    """Somebody stops the remote jobs: in the system's UI, or by marking the task."""


@dataclass(frozen=True)
class Try:
    """A worker runs the task: it enters, with bad luck. `kill_at_save`: dies at that save, before or after it.

    `meanwhile` happens before the n-th call.
    """

    faults: tuple[Fault, ...] = ()
    kill_at_save: int | None = None
    before_save: bool = True
    on_failed: OnFailed = OnFailed.RESUBMIT
    meanwhile: tuple[int, Finish | StopJobs] | None = None


@dataclass(frozen=True)
class Told:
    """The task is told how its job ended, if it did, and notes it (operators.records.report)."""


@dataclass(frozen=True)
class Clear:
    """A person clears the task. If it waited for a live job, the old trigger stops that job: now (0), in the middle of
    the next try (before its n-th call), or never (None, the triggerer died)."""

    stop_at: int | None = 0


@dataclass(frozen=True)
class Wish:
    """A person sets `rerun_mode` for the next try that gets through."""

    mode: RerunMode


@dataclass(frozen=True)
class ChangeSpec:
    """The manifest changes; `refused`: to something that the server refuses."""

    refused: bool = False


@dataclass(frozen=True)
class LoseRecord:
    """The state store is cleaned."""


@dataclass(frozen=True)
class Recreate:
    """The DAG run is deleted and made again under the same id."""


@dataclass(frozen=True)
class SlowStops:
    """From now on a stop takes that long."""

    seconds: float


@dataclass(frozen=True)
class Restart:
    """The server restarts, and is away for some seconds."""

    seconds: float


@dataclass(frozen=True)
class Pass:
    """Time passes."""

    seconds: float


Action = Try | Told | Clear | Wish | ChangeSpec | LoseRecord | Recreate | Finish | StopJobs | SlowStops | Restart | Pass


@dataclass
class TaskWorld:
    """The state of all; `seen` counts what happened, so that a test can't pass for lack of cases."""

    model: ServerModel
    runner: asyncio.Runner
    records: Records = field(default_factory=Records)
    generation: int = 0
    version: int = 1
    wish: RerunMode | None = None
    waits_for: str | None = None
    seen: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = self.model.clock
        self.wire = Wire(self.model, self.clock)
        self.system = self.model.system(self.wire)
        self._strays: set[str] = set()

    def do(self, action: Action) -> None:
        """One action, and the check after it."""
        self.story.append(f"{self.clock.now - 1.8e9:9.1f}  -- {action}")
        doing: Callable[..., None] = getattr(self, f"_{type(action).__name__.lower()}")
        doing(action)
        self.check()

    # A try

    def _try(self, action: Try) -> None:
        self.wire.begin(action.faults)
        self.records.begin(action.kill_at_save, action.before_save)
        if action.meanwhile is not None:
            call, event = action.meanwhile
            happens = self._finish if isinstance(event, Finish) else self._stopjobs
            self.wire.hooks.setdefault(call, lambda: happens(event))
        try:
            status = self.enter(action.on_failed)
        except Kill:
            self.note("killed")
        except MlfleetError as exc:
            self.note(f"raised {type(exc).__name__}", str(exc))
        else:
            self.check_entry(status)
        finally:
            self.wire.begin()
            self.wire.hooks.clear()
            self.records.begin()
            self.clock.limit = float("inf")

    def enter(self, on_failed: OnFailed = OnFailed.RESUBMIT) -> JobStatus:
        """One entry; raises Kill, errors of mlfleet, or Endless."""
        self.waits_for = None
        self._strays = {
            job.id for job in visible(self.model) if job.epoch == NOBODY and job.listed_from <= self.clock.now
        }
        self.clock.limit = self.clock.now + ENTRY_LIMIT
        submission = Submission(
            self.system, self.records, TASK, self.generation, on_failed=on_failed, mode=self.wish, tell=self._hear,
            now=self.clock, sleep=self.clock.sleep,
        )  # fmt: skip
        status = self.runner.run(submission.enter(self.model.spec(self.version)))
        self.wish = None
        self.waits_for = None if status.state.is_final else status.id
        self.note("entered", f"{status.id} {status.native}")
        return status

    def _hear(self, decision: Decision) -> None:
        self.note(f"decided {decision.kind.value}", decision.sentence)

    def note(self, what: str, more: str = "") -> None:
        self.seen[what] += 1
        self.story.append(f"{self.clock.now - 1.8e9:9.1f}     {what} {more}".rstrip())

    # Everybody else

    def _told(self, action: Told) -> None:
        job = self.model.jobs.get(self.records.record.job_id or "") if self.records.record else None
        if job is None or job.finished is None:
            return
        ended = JobState.FAILED if self.model.has_failed(job) else JobState.STOPPED
        note_end(self.records, JobState.SUCCEEDED if self.model.has_succeeded(job) else ended)
        self.waits_for = None

    def _clear(self, action: Clear) -> None:
        self.generation += 1
        self.model.epoch += 1
        job = self.model.jobs.get(self.waits_for or "")
        if job is None or action.stop_at is None:
            return
        if action.stop_at == 0:
            self.model.stop(job)
        else:
            self.wire.hooks[action.stop_at] = lambda: self.model.stop(job)

    def _wish(self, action: Wish) -> None:
        self.wish = action.mode

    def _changespec(self, action: ChangeSpec) -> None:
        self.version = -1 if action.refused else abs(self.version) + 1

    def _loserecord(self, action: LoseRecord) -> None:
        self.records.record = None
        forget(self.model)

    def _recreate(self, action: Recreate) -> None:
        self.records.record = None
        self.generation, self.waits_for, self.wish = 0, None, None
        forget(self.model)

    def _finish(self, action: Finish) -> None:
        for job in list(self.model.jobs.values()):
            self.model.finish(job, action.succeeded)

    def _stopjobs(self, action: StopJobs) -> None:
        for job in visible(self.model):
            self.model.stop(job)

    def _slowstops(self, action: SlowStops) -> None:
        self.model.stop_takes = action.seconds

    def _restart(self, action: Restart) -> None:
        self.model.restart()
        self.wire.down_until = self.clock.now + action.seconds

    def _pass(self, action: Pass) -> None:
        self.clock.advance(action.seconds)

    # What must be true

    def check(self) -> None:
        """After every action: no second live job of one key, and no live job that nobody can find again."""
        live = self._work()
        keys = Counter(job.key for job in live)
        assert all(count == 1 for count in keys.values()), f"two live jobs of one key: {live}"
        record = self.records.record
        key = JobKey(TASK, record.incarnation, record.n).value if record is not None else ""
        for job in live:
            # Without a record, the search by the task's identity finds all of them (settle asks for it).
            known = record is None or job.id == record.job_id or job.key == key
            assert known, f"a lost job: {job} beside {record}"
        doubled = sum(call.endswith("/runs") for call in self.wire.doubled)
        for name, count in self.model.executions().items():
            assert count <= 1 + doubled, (
                f"{count} executions of {name}, though the network doubled {doubled} calls only"
            )
        self.seen["executions doubled by the network"] += sum(c > 1 for c in self.model.executions().values())

    def check_entry(self, status: JobStatus) -> None:
        """After an entry that came back: the job is today's work, it works, and it is the only one of the task."""
        job = self.model.jobs[status.id]
        live = self._work()
        assert len(live) <= 1, f"several live jobs of the task: {live}"
        left = [one for one in visible(self.model) if one.id in self._strays and one is not job]
        assert not left, f"seen and not reaped: {left}"
        if status.state.is_live or status.state is JobState.SUCCEEDED:
            assert job.epoch in {self.model.epoch, NOBODY}, f"a job of before: {job}, but now it is {self.model.epoch}"
            assert self.model.version(job) == self.version, f"a job of another spec: {job}"
            assert job.begun, f"a job that will never begin: {job}"
        self.seen[f"entry gave {status.state.value}"] += 1

    def _work(self) -> list[Job]:
        """What works and could have been foreseen. The rest is a named window: counted, and reaped when it is seen."""
        strays = [job for job in visible(self.model) if job.epoch == NOBODY]
        self.seen["strays"] += len(strays)
        return [job for job in visible(self.model) if job.epoch != NOBODY]

    def settle(self) -> None:
        """In good weather: after at most three tries the task has its job, and nothing else lives."""
        self.wire.quiet()
        self.wish, self.model.stop_takes, self.version = None, 5.0, abs(self.version)
        for _ in range(3):
            self.clock.advance(300.0)
            try:
                status = self.enter()
            except MlfleetError as exc:
                self.note(f"raised {type(exc).__name__} in good weather", str(exc))
                continue
            self.check_entry(status)
            if status.state.is_live or status.state is JobState.SUCCEEDED:
                break
        else:
            raise AssertionError("three quiet tries brought the task no job")
        self.clock.advance(300.0)
        self.check()
        living = [job.id for job in visible(self.model)]
        assert living == [status.id] * (not status.state.is_final), f"{living} live, the task has {status}"
        found = self.runner.run(self.system.find_task(TASK))
        assert {one.id for one in found if one.state.is_live} >= set(living)
