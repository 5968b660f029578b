"""Waiting: polls, failures of the server, deadlines, logs, stops."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from mlfleet.errors import (
    AuthError,
    ConfigError,
    JobFailed,
    JobStopped,
    JobTimedOut,
    MlfleetError,
    RequestRefused,
    SpecError,
    TransientError,
)
from mlfleet.remote.budget import LogBudget
from mlfleet.remote.conclusion import conclude, error_for
from mlfleet.remote.job import JobState, JobStatus
from mlfleet.remote.logs import MAX_BYTES, one_record, whole_lines
from mlfleet.remote.polling import SharedPoll
from mlfleet.remote.watching import RESUMES, End, Memory, Outcome, Watch
from tests.support.remote import MemorySystem, Time, alone, itself


def wait(system: MemorySystem, time: Time, **more: Any) -> tuple[Outcome, list[str], Watch]:
    said: list[str] = []

    async def watching() -> tuple[Outcome, Watch]:
        watch = Watch(
            poll=alone(system, now=time, sleep=time.sleep, draw=lambda: 0.5),
            make=itself,
            job_id="job-0",
            budget=LogBudget(now=time, sleep=time.sleep, draw=lambda: 0.5),
            **{"emit": said.append, **more},
        )
        return await watch.run(), watch

    outcome, watch = asyncio.run(watching())
    return outcome, said, watch


def running() -> MemorySystem:
    system = MemorySystem()
    system.put(JobState.RUNNING)
    return system


def ends(system: MemorySystem, state: JobState = JobState.SUCCEEDED, after: float = 30, **more: Any) -> Time:
    return Time(at={1000 + after: lambda: system.set("job-0", state, **more)})


def test_each_change_is_told_once_and_the_end_comes_last() -> None:
    system = running()
    system.lines = ["epoch 1"]
    outcome, said, _ = wait(system, ends(system))
    assert outcome.end is End.FINISHED
    assert said == ["memory job job-0 is running\nepoch 1", "memory job job-0 is succeeded"]


def test_a_young_job_is_asked_often_and_an_old_one_at_the_interval() -> None:
    system = running()
    wait(system, ends(system, after=20))
    young = system.calls.count("poll")
    system = running()
    wait(system, ends(system, after=3600))
    assert young >= 8
    assert system.calls.count("poll") < 3600 / (0.8 * 10) + 20


def test_an_outage_is_counted_from_the_last_look_that_went_well() -> None:
    system = running()
    down = {1000.0 + 3000: lambda: system.errors.extend([TransientError("memory", "down")] * 1000)}
    outcome, _, _ = wait(system, Time(at=down), patience=600.0, with_logs=False)
    assert outcome.end is End.GAVE_UP
    assert "no good answer for 6" in outcome.error


def test_a_calm_wait_keeps_its_deadline() -> None:
    system, time = running(), Time()
    outcome, _, _ = wait(system, time, deadline=5000.0, with_logs=False)
    assert outcome.end is End.TIMEOUT
    assert time.now == pytest.approx(5000.0)


def test_lines_come_once_and_the_cursor_is_saved_now_and_then() -> None:
    system = running()
    saved: list[Any] = []

    async def save(memory: Memory) -> None:
        saved.append(dict(memory.cursor))

    time = ends(system, after=100)
    time.at |= {1000.0 + s: lambda s=s: system.lines.append(f"line {s}") for s in range(1, 100)}  # type: ignore[misc]
    _, said, _ = wait(system, time, save=save)
    told = [line for record in said for line in record.splitlines() if line.startswith("line")]
    assert told == [f"line {s}" for s in range(1, 100)]
    assert saved[-1]["read"] >= 80
    assert len(saved) <= 100 / 15 + 2


def test_the_first_lines_are_saved_with_their_telling() -> None:
    # A wait that is killed in its first seconds leaves what the next one needs, to say that it repeats lines.
    system = running()
    system.lines = ["line 1"]
    told: list[tuple[list[str], Any]] = []

    async def save(memory: Memory) -> None:
        told.append((list(said), dict(memory.cursor)))

    said: list[str] = []
    wait(system, ends(system, after=5), emit=said.append, save=save)
    assert told[0] == (["memory job job-0 is running\nline 1"], {"read": 1})


def test_bad_moments_of_the_server_are_survived() -> None:
    system = running()
    system.errors = [TransientError("memory", "down")] * 8
    outcome, said, _ = wait(system, ends(system, after=400))
    assert outcome.end is End.FINISHED
    assert sum("down" in line for line in said) == 1  # not once per poll


def test_a_server_that_stays_away_ends_the_wait_and_leaves_the_job() -> None:
    system = running()
    system.errors = [TransientError("memory", "down")] * 1000
    outcome, _, _ = wait(system, Time())
    assert outcome.end is End.GAVE_UP
    assert "down" in outcome.error
    assert not any(call.startswith("stop") for call in system.calls)


def test_refused_credentials_are_read_again_once() -> None:
    system = running()
    system.errors = [AuthError("memory", "expired")]
    outcome, _, _ = wait(system, ends(system))
    assert outcome.end is End.FINISHED
    system = running()
    system.errors = [AuthError("memory", "expired")] * 2
    outcome, _, _ = wait(system, ends(system))
    assert outcome.end is End.REFUSED
    assert "also after reading the connection again" in outcome.error


def test_a_removed_connection_is_told() -> None:
    async def connect() -> MemorySystem:
        raise ConfigError("the connection 'x' does not exist")

    async def watching() -> Outcome:
        return await Watch(poll=SharedPoll(connect), make=itself, job_id="job-0").run()

    outcome = asyncio.run(watching())
    assert (outcome.end, outcome.error) == (End.REFUSED, "the connection 'x' does not exist")


def test_a_connection_that_is_removed_during_the_wait_is_told_when_its_credentials_expire() -> None:
    system = running()
    system.errors = [AuthError("memory", "expired")]
    given = [system]

    async def connect() -> MemorySystem:
        if not given:
            raise ConfigError("the connection 'x' does not exist")
        return given.pop()

    async def watching() -> Outcome:
        return await Watch(poll=SharedPoll(connect), make=itself, job_id="job-0").run()

    outcome = asyncio.run(watching())
    assert outcome.end is End.REFUSED
    assert "expired" in outcome.error
    assert "'x' does not exist" in outcome.error


def preempted(system: MemorySystem) -> None:
    system.set("job-0", JobState.FAILED, reason="node was preempted", detail={"infrastructure": True})


def test_a_preempted_job_is_resumed_and_costs_no_try() -> None:
    system = running()
    time = Time(at={1010.0: lambda: preempted(system), 1100.0: lambda: system.set("job-0", JobState.SUCCEEDED)})
    outcome, said, _ = wait(system, time)
    assert outcome.end is End.FINISHED
    assert outcome.status is not None
    assert outcome.status.state is JobState.SUCCEEDED
    assert outcome.resumes == 1
    assert any("no fault of the job, so it was resumed (1 of 3)" in record for record in said)


def test_resuming_has_a_budget_that_another_triggerer_knows() -> None:
    async def left() -> Memory:
        return Memory(resumes=1)

    system = running()
    time = Time(at={1000.0 + 100 * k: lambda: preempted(system) for k in range(1, 9)})
    outcome, _, _ = wait(system, time, recall=left)
    assert outcome.status is not None
    assert outcome.status.state is JobState.FAILED
    assert system.calls.count("resume job-0") == RESUMES - 1


def test_a_preempted_job_that_cannot_be_resumed_has_failed() -> None:
    system = running()
    system.resumes = False
    outcome, said, _ = wait(system, Time(at={1010.0: lambda: preempted(system)}))
    assert outcome.status is not None
    assert outcome.status.state is JobState.FAILED
    assert any("can't be resumed" in record for record in said)


def test_an_unknown_state_counts_as_live() -> None:
    system = running()
    time = Time(at={1010.0: lambda: system.set("job-0", JobState.UNKNOWN)})
    time.at[1050.0] = lambda: system.set("job-0", JobState.SUCCEEDED)
    outcome, _, _ = wait(system, time)
    assert outcome.status is not None
    assert outcome.status.state is JobState.SUCCEEDED


def test_what_the_triggerer_has_no_room_for_comes_with_the_next_look() -> None:
    system = running()
    system.lines = ["early"]
    time = ends(system, after=100)
    time.at[1040.0] = lambda: system.lines.append("late")
    said: list[str] = []

    async def watching() -> None:
        budget = LogBudget(records=1 / 30, now=time, sleep=time.sleep)
        poll = alone(system, now=time, sleep=time.sleep, draw=lambda: 0.5)
        await Watch(poll=poll, make=itself, job_id="job-0", emit=said.append, budget=budget).run()

    asyncio.run(watching())
    text = "\n".join(said)
    assert [text.count(word) for word in ("early", "late", "is running", "is succeeded")] == [1, 1, 1, 1]
    assert len(said) <= 100 / 30 + 1


def test_the_more_wait_the_more_seldom_each_log_is_read() -> None:
    budget = LogBudget(tails=10, draw=lambda: 0.5)
    assert budget.tail_pause(10.0) == 10.0
    budget.waits = 3000
    assert budget.tail_pause(10.0) == 300.0
    assert budget.first_pause() == 149.5


def test_a_missing_job_must_be_missing_several_times() -> None:
    system = running()
    status = system.jobs["job-0"]
    time = Time(at={1003.0: lambda: system.jobs.clear(), 1005.0: lambda: system.jobs.update({"job-0": status})})
    time.at[1030.0] = system.jobs.clear
    outcome, _, _ = wait(system, time)
    assert outcome.end is End.VANISHED
    assert time.now > 1030


def test_the_deadline_stops_the_job() -> None:
    system = running()
    outcome, _, _ = wait(system, Time(), deadline=1060.0)
    assert outcome.end is End.TIMEOUT
    assert "was stopped" in outcome.error
    assert system.jobs["job-0"].state is JobState.STOPPED


def test_the_deadline_of_somebody_elses_job_only_ends_the_wait() -> None:
    system = running()
    outcome, _, _ = wait(system, Time(), deadline=1060.0, stop_at_deadline=False)
    assert outcome.end is End.TIMEOUT
    assert system.jobs["job-0"].state is JobState.RUNNING


def test_a_stop_that_does_not_get_through_is_told() -> None:
    system = running()
    time = Time(at={1059.0: lambda: system.errors.extend([TransientError("memory", "down")] * 50)})
    outcome, _, _ = wait(system, time, deadline=1060.0)
    assert outcome.end is End.TIMEOUT
    assert "NOT be stopped" in outcome.error


def test_a_job_that_was_stopped_and_then_failed_was_stopped() -> None:
    system = running()
    time = Time(at={1010.0: lambda: system.set("job-0", JobState.STOPPING)})
    time.at[1020.0] = lambda: system.set("job-0", JobState.FAILED)
    outcome, _, _ = wait(system, time)
    assert outcome.status is not None
    assert outcome.status.state is JobState.STOPPED


def test_outcomes_travel_as_json() -> None:
    system = running()
    outcome, _, _ = wait(system, ends(system))
    assert Outcome.from_json(outcome.as_json()) == outcome


@pytest.mark.parametrize(
    ("outcome", "kind", "retryable"),
    [
        (Outcome(End.FINISHED, JobStatus("j", JobState.FAILED, "failed", "boom")), JobFailed, True),
        (Outcome(End.FINISHED, JobStatus("j", JobState.STOPPED, "stopped")), JobStopped, False),
        (Outcome(End.FINISHED, JobStatus("j", JobState.FAILED, detail={"spec_error": True})), SpecError, False),
        (Outcome(End.TIMEOUT, JobStatus("j", JobState.RUNNING)), JobTimedOut, True),
        (Outcome(End.GAVE_UP, None, "away"), TransientError, True),
        (Outcome(End.REFUSED, None, "no"), RequestRefused, False),
        (Outcome(End.VANISHED, None, "gone"), JobFailed, True),
    ],
)
def test_every_end_has_its_error(outcome: Outcome, kind: type[MlfleetError], retryable: bool) -> None:
    error = error_for("memory", outcome)
    assert type(error) is kind
    assert error.retryable is retryable


def test_a_failure_shows_the_last_lines() -> None:
    system = MemorySystem(lines=[f"line {n}" for n in range(100)])
    system.put(JobState.FAILED)
    with pytest.raises(JobFailed) as caught:
        asyncio.run(conclude(lambda: system, Outcome(End.FINISHED, system.jobs["job-0"])))
    assert caught.value.log_tail == tuple(f"line {n}" for n in range(80, 100))


def test_a_record_stays_below_the_limit_and_counts_what_it_leaves_out() -> None:
    record = one_record([f"epoch {n}: loss {'ü' * 40}" for n in range(5000)], "https://where")
    assert record is not None
    assert len(record.encode()) <= MAX_BYTES
    first, *_, last = record.splitlines()
    assert "lines left out; the whole log: https://where" in first
    assert last.startswith("epoch 4999")
    left_out = int(first.split()[1])
    assert left_out + len(record.splitlines()) - 1 == 5000


def test_a_record_has_no_control_characters_and_no_endless_line() -> None:
    record = one_record(["\x1b[31mred\x1b[0m\r", "x" * 100_000, "tab\tstays"])
    assert record is not None
    assert "\x1b" not in record
    assert "tab\tstays" in record
    assert len(record) < 1000
    assert one_record([]) is None


def test_half_a_line_waits_for_its_other_half() -> None:
    assert whole_lines("a\nb", closed=False) == (["a"], 2)
    assert whole_lines("a\nb", closed=True) == (["a", "b"], 3)
    assert whole_lines("", closed=False) == ([], 0)
