"""The table "on entry" and the submit call, against a system in memory and a clock that only sleeping moves."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import replace
from typing import Any

import pytest

from mlfleet.errors import OutcomeUnknown, RequestRefused, SpecError, TransientError
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity, digest
from mlfleet.remote.policies import OnFailed, RerunMode
from mlfleet.remote.record import Phase, Record
from mlfleet.remote.submission import Submission
from tests.support.remote import TASK, MemoryStore, MemorySystem, Time

SPEC = {"a": 1}


def enter(
    system: MemorySystem,
    store: MemoryStore,
    *,
    generation: int = 0,
    spec: dict[str, Any] | None = None,
    time: Time | None = None,
    **more: Any,
) -> tuple[JobStatus, list[str]]:
    clock = time or Time()
    kinds: list[str] = []
    submission = Submission(
        system, store, TASK, generation, tell=lambda d: kinds.append(d.kind), now=clock, sleep=clock.sleep, **more
    )
    return asyncio.run(submission.enter(spec or SPEC)), kinds


def record(job_id: str | None = "job-0", *, generation: int = 0, spec: dict[str, Any] | None = None) -> Record:
    phase = Phase.SUBMITTED if job_id else Phase.SUBMITTING
    return Record("inc", 0, generation, digest(spec or SPEC), phase, job_id)


def with_job(state: JobState) -> tuple[MemorySystem, MemoryStore]:
    system = MemorySystem()
    system.put(state, JobKey(TASK, "inc", 0))
    return system, MemoryStore(record())


def test_the_record_is_written_before_the_submit_call() -> None:
    system, store = MemorySystem(), MemoryStore()
    status, kinds = enter(system, store)
    assert kinds == ["submitted"]
    assert [(saved.phase, saved.job_id) for saved in store.saved] == [("submitting", None), ("submitted", status.id)]
    assert system.calls == ["find_task", "find", "submit", "find", "confirm job-0"]


def test_another_label_makes_no_other_job() -> None:
    system, store = MemorySystem(), MemoryStore()
    first, _ = enter(system, store, spec={**SPEC, "labels": {"commit": "old"}})
    again, kinds = enter(system, store, spec={**SPEC, "labels": {"commit": "new"}})
    assert (again.id, kinds) == (first.id, ["adopted"])


@pytest.mark.parametrize("state", [JobState.PENDING, JobState.RUNNING, JobState.UNKNOWN, JobState.SUCCEEDED])
def test_a_retry_adopts_what_is_live_or_succeeded(state: JobState) -> None:
    system, store = with_job(state)
    status, kinds = enter(system, store)
    assert (status.id, kinds) == ("job-0", ["adopted"])
    assert "submit" not in system.calls


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.STOPPED])
def test_a_retry_of_a_failed_job_submits_the_next_one(state: JobState) -> None:
    system, store = with_job(state)
    status, kinds = enter(system, store)
    assert (status.id, kinds) == ("job-1", ["resubmit", "submitted"])
    assert store.record is not None
    assert (store.record.n, store.record.incarnation) == (1, "inc")


def test_a_retry_can_be_told_to_leave_a_failed_job_failed() -> None:
    system, store = with_job(JobState.FAILED)
    status, kinds = enter(system, store, on_failed=OnFailed.FAIL)
    assert (status.id, status.state, kinds) == ("job-0", JobState.FAILED, ["kept_failed"])


def test_a_stopping_job_is_waited_for_and_never_adopted() -> None:
    system, store = with_job(JobState.STOPPING)
    time = Time(at={1007.0: lambda: system.set("job-0", JobState.STOPPED)})
    status, kinds = enter(system, store, time=time)
    assert (status.id, kinds) == ("job-1", ["stopping", "submitted"])
    assert time.now >= 1007


def test_a_job_that_never_ends_does_not_hold_the_next_one_for_ever() -> None:
    system, store = with_job(JobState.STOPPING)
    _, kinds = enter(system, store)
    assert kinds == ["stopping", "stop_slow", "submitted"]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        (JobState.RUNNING, ["cleared", "stopped", "submitted"]),
        (JobState.SUCCEEDED, ["cleared", "submitted"]),
        (JobState.FAILED, ["cleared", "submitted"]),
    ],
)
def test_a_clear_runs_again(state: JobState, expected: list[str]) -> None:
    system, store = with_job(state)
    status, kinds = enter(system, store, generation=1)
    assert (status.id, kinds) == ("job-1", expected)
    assert system.jobs["job-0"].state in {JobState.STOPPED, JobState.SUCCEEDED, JobState.FAILED}


def test_a_clear_waits_for_a_job_that_another_process_is_stopping() -> None:
    system, store = with_job(JobState.STOPPING)
    time = Time(at={1005.0: lambda: system.set("job-0", JobState.STOPPED)})
    _, kinds = enter(system, store, generation=1, time=time)
    assert kinds == ["cleared", "submitted"]
    assert time.now >= 1005


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUCCEEDED])
def test_a_changed_specification_is_a_new_job(state: JobState) -> None:
    system, store = with_job(state)
    status, kinds = enter(system, store, spec={"a": 2})
    assert status.id == "job-1"
    assert kinds[0] == "spec_changed"
    assert kinds[-1] == "submitted"


def test_without_a_record_live_jobs_are_stopped_and_finished_ones_left_alone() -> None:
    system = MemorySystem()
    system.put(JobState.RUNNING, JobKey(TASK, "other", 3))
    system.put(JobState.SUCCEEDED, JobKey(TASK, "other", 2))
    status, kinds = enter(system, MemoryStore())
    assert (status.id, kinds) == ("job-2", ["reaped", "stopped", "submitted"])
    assert system.jobs["job-0"].state is JobState.STOPPED


def test_a_lost_answer_is_looked_up_and_not_sent_again() -> None:
    system, store = MemorySystem(lose=1), MemoryStore()
    status, kinds = enter(system, store)
    assert (status.id, kinds) == ("job-0", ["answer_lost", "submitted"])
    assert system.calls.count("submit") == 1


def test_a_lost_answer_waits_for_a_slow_list() -> None:
    """Four look-ups see nothing: one before the call, three after it."""
    system, store, time = MemorySystem(lose=1, visible_after=4), MemoryStore(), Time()
    _, kinds = enter(system, store, time=time)
    assert kinds == ["answer_lost", "submitted"]
    assert (system.calls.count("submit"), len(system.jobs)) == (1, 1)


def test_a_call_that_had_no_effect_is_sent_again_after_the_grace() -> None:
    system, time = MemorySystem(swallow=1), Time()
    status, kinds = enter(system, MemoryStore(), time=time)
    assert (status.id, kinds) == ("job-0", ["answer_lost", "submitted"])
    assert time.now - 1000 >= system.lookup_grace


def test_two_calls_without_effect_end_the_try_and_the_next_one_waits_for_the_grace() -> None:
    system, store, time = MemorySystem(swallow=2), MemoryStore(), Time()
    with pytest.raises(OutcomeUnknown):
        enter(system, store, time=time)
    assert store.record is not None
    assert store.record.phase is Phase.SUBMITTING
    _, kinds = enter(system, store, time=time)
    assert kinds == ["unanswered", "submitted"]
    assert len(system.jobs) == 1


def test_a_try_that_died_before_the_answer_is_found_by_its_key() -> None:
    system, store = MemorySystem(), MemoryStore(record(None))
    system.put(JobState.RUNNING, JobKey(TASK, "inc", 0))
    status, kinds = enter(system, store)
    assert (status.id, kinds) == ("job-0", ["adopted"])
    assert "confirm job-0" in system.calls  # it may have died before its job was let go


def test_of_two_jobs_with_one_key_the_older_one_stays() -> None:
    system, store = MemorySystem(), MemoryStore(record(None))
    for _ in range(2):
        system.put(JobState.PENDING, JobKey(TASK, "inc", 0))
    status, kinds = enter(system, store)
    assert (status.id, list(system.jobs)) == ("job-0", ["job-0"])
    assert kinds == ["adopted", "duplicate"]


def test_a_job_that_vanished_is_followed_by_the_next_one() -> None:
    system, store = MemorySystem(), MemoryStore(record("gone"))
    _, kinds = enter(system, store)
    assert kinds == ["lost", "submitted"]


def test_errors_of_the_look_up_are_not_taken_for_an_absence() -> None:
    system, store = MemorySystem(errors=[TransientError("memory", "down")]), MemoryStore(record())
    with pytest.raises(TransientError):
        enter(system, store)
    assert "submit" not in system.calls


def test_a_refused_specification_is_passed_on() -> None:
    refusal = SpecError("memory", "x")
    system = MemorySystem()
    submit = system.submit

    async def refuse(key: JobKey, spec: Any) -> JobStatus:
        raise refusal

    system.submit = refuse  # type: ignore[method-assign]
    store = MemoryStore()
    with pytest.raises(SpecError):
        enter(system, store)
    system.submit = submit  # type: ignore[method-assign]
    # The record is there, no job came of it: the corrected specification is submitted without further ado.
    time = Time()
    _, kinds = enter(system, store, spec={"a": 2}, time=time)
    assert kinds == ["unanswered", "submitted"]
    assert time.now == 1000  # nothing was accepted, so nothing is waited for


def test_keys_differ_by_everything_that_makes_a_job_another_one() -> None:
    tasks = [TASK, *(replace(TASK, **{f: "x"}) for f in ("environment", "dag_id", "run_id", "task_id"))]
    tasks.append(replace(TASK, map_index=1))
    keys = {JobKey(t, i, n).value for t, i, n in itertools.product(tasks, ("a", "b"), (0, 1))}
    assert len(keys) == len(tasks) * 4
    assert all(len(key) == 16 and key.isalnum() for key in keys)


def test_a_record_survives_json_and_garbage_is_no_record() -> None:
    assert Record.from_json(record().as_json()) == record()
    for garbage in (None, "x", [], {}, {"incarnation": "a"}, {**record().as_json(), "n": "many"}):
        assert Record.from_json(garbage) is None


def test_identities_are_readable() -> None:
    key = JobKey(TaskIdentity("dev", "d", "r", "g.t", 3), "i", 0)
    assert key.name == f"d.g.t.3-{key.task.hash}-{key.value}"


def failed(ended: str = "failed", **more: Any) -> tuple[MemorySystem, MemoryStore]:
    """A job that failed; `ended` is what its task was told, "" if a person ended the task before."""
    system, store = with_job(JobState.FAILED)
    assert store.record is not None
    store.record = replace(store.record, ended=ended, **more)
    return system, store


def test_a_retry_resumes_a_failed_job_when_told_so() -> None:
    system, store = failed()
    status, kinds = enter(system, store, on_failed=OnFailed.RESUME)
    assert (status.id, status.state, kinds) == ("job-0", JobState.RUNNING, ["resumed"])
    assert store.record is not None
    assert (store.record.n, store.record.ended) == (0, "")


def test_a_job_that_cannot_be_resumed_is_followed_by_the_next_one() -> None:
    system, store = failed()
    system.resumes = False
    status, kinds = enter(system, store, on_failed=OnFailed.RESUME)
    assert (status.id, kinds) == ("job-1", ["resumed", "resume_refused", "submitted"])


def test_a_job_that_is_live_after_all_is_not_followed_by_another() -> None:
    """The answer to an earlier resume was lost, and this one is refused because that one had its effect."""
    system, store = failed()

    async def late(job_id: str) -> None:
        system.set(job_id, JobState.RUNNING)
        raise RequestRefused("memory", "it is running")

    system.resume = late  # type: ignore[method-assign]
    status, kinds = enter(system, store, on_failed=OnFailed.RESUME)
    assert (status.id, status.state, kinds) == ("job-0", JobState.RUNNING, ["resumed"])


def test_a_lost_answer_to_a_resume_is_looked_up_and_makes_no_second_job() -> None:
    system, store = failed()
    time = Time(at={1009.0: lambda: system.set("job-0", JobState.RUNNING)})
    system.resume = lost  # type: ignore[method-assign]
    status, kinds = enter(system, store, on_failed=OnFailed.RESUME, time=time)
    assert (status.state, kinds) == (JobState.RUNNING, ["resumed", "answer_lost"])
    system, store = failed()
    system.resume = lost  # type: ignore[method-assign]
    with pytest.raises(TransientError, match="did not come back"):
        enter(system, store, on_failed=OnFailed.RESUME)
    assert len(system.jobs) == 1


async def lost(job_id: str) -> None:
    raise OutcomeUnknown("memory", "nobody knows")


@pytest.mark.parametrize(
    ("ended", "on_failed", "expected"),
    [
        ("failed", OnFailed.RESUME, ["cleared", "resumed"]),
        ("failed", OnFailed.RESUBMIT, ["cleared", "submitted"]),
        ("failed", OnFailed.FAIL, ["cleared", "submitted"]),  # clear means run again
        ("", OnFailed.RESUME, ["cleared", "submitted"]),  # it was live until the clear ended it
    ],
)
def test_a_clear_after_a_failure_goes_by_on_failed(ended: str, on_failed: OnFailed, expected: list[str]) -> None:
    system, store = failed(ended)
    _, kinds = enter(system, store, generation=1, on_failed=on_failed)
    assert kinds == expected
    assert store.record is not None
    assert store.record.generation == 1


@pytest.mark.parametrize("state", [JobState.RUNNING, JobState.SUCCEEDED, JobState.FAILED])
@pytest.mark.parametrize("generation", [0, 1])
def test_a_person_may_ask_for_a_fresh_job(state: JobState, generation: int) -> None:
    system, store = with_job(state)
    status, kinds = enter(system, store, generation=generation, mode=RerunMode.FRESH)
    assert status.id == "job-1"
    assert (kinds[0], kinds[-1]) == ("fresh", "submitted")
    assert system.jobs["job-0"].state.is_final


@pytest.mark.parametrize("ended", ["failed", ""])
def test_a_person_may_ask_for_a_resume(ended: str) -> None:
    system, store = failed(ended)
    status, kinds = enter(system, store, generation=1, mode=RerunMode.RESUME)
    assert (status.id, kinds) == ("job-0", ["cleared", "resumed"])


@pytest.mark.parametrize(
    ("state", "expected"),
    [(JobState.RUNNING, ["cleared", "stopped", "submitted"]), (JobState.SUCCEEDED, ["cleared", "submitted"])],
)
def test_there_is_nothing_to_resume_in_a_live_or_succeeded_job(state: JobState, expected: list[str]) -> None:
    system, store = with_job(state)
    _, kinds = enter(system, store, generation=1, mode=RerunMode.RESUME)
    assert kinds == expected


def test_a_clear_in_the_middle_of_a_submit_call_waits_for_what_may_still_appear() -> None:
    """Else a job that comes late would run unseen beside the next one."""
    system, time = MemorySystem(), Time()
    store = MemoryStore(replace(record(None), attempted_at=995.0))
    time.at[1011.0] = lambda: system.put(JobState.RUNNING, JobKey(TASK, "inc", 0))
    status, kinds = enter(system, store, generation=1, time=time)
    assert kinds == ["cleared", "stopped", "submitted"]
    assert (status.id, system.jobs["job-0"].state) == ("job-1", JobState.STOPPED)


def test_what_happened_is_counted_over_all_tries() -> None:
    system, store = MemorySystem(), MemoryStore()
    enter(system, store)
    enter(system, store)
    enter(system, store, generation=1)
    system.set("job-1", JobState.FAILED)
    enter(system, store, generation=1, on_failed=OnFailed.RESUME)
    assert store.record is not None
    assert store.record.tally == {"entries": 4, "submissions": 2, "adoptions": 1, "stops": 1, "resumes": 1}
