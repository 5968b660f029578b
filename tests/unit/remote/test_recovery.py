"""A task whose process keeps nothing finds its job by the jobs alone: exactly one works, wherever a process dies."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import httpx
import pytest

from mlfleet.errors import TransientError
from mlfleet.remote.job import JobState, TaskIdentity, digest
from mlfleet.remote.policies import OnFailed
from mlfleet.remote.record import Phase
from mlfleet.remote.recovery import recover
from mlfleet.remote.submission import Submission
from tests.support.adversity import Clock, Fault, Kill, What, Wire
from tests.support.polyaxon_model import PROJECT, PolyaxonModel

TASK = TaskIdentity("test", "kfp", "6b1d2a5e", "polyaxon-job[17]")
DEATHS = (What.KILL_BEFORE, What.KILL_AFTER, What.KILL_LATE)


class World:
    """One Polyaxon in memory, and processes that come and go before it."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.model = PolyaxonModel(self.clock)
        self.wire = Wire(self.model, self.clock)
        self.model._projects.add(PROJECT)

    def enter(
        self, *faults: Fault, version: int = 1, on_failed: OnFailed = OnFailed.RESUBMIT, task: TaskIdentity = TASK
    ) -> tuple[str, list[str]]:
        """A process: the job that it waits for, and the kinds of its decisions."""
        self.wire.begin(faults)
        kinds: list[str] = []

        async def process() -> str:
            system, spec = self.model.system(self.wire), self.model.spec(version)
            store = await recover(system, task, digest(spec))
            submission = Submission(
                system, store, task, 0, on_failed=on_failed, tell=lambda decision: kinds.append(decision.kind),
                now=self.clock, sleep=self.clock.sleep,
            )  # fmt: skip
            return (await submission.enter(spec)).id

        return asyncio.run(process()), kinds

    def works(self) -> list[str]:
        """Jobs that do, or will do, something."""
        self.clock.advance(30)
        return [job.id for job in self.model.jobs.values() if job.begun and self.model.is_live(job)]

    def end(self, job_id: str, succeeded: bool) -> None:
        self.clock.advance(30)
        self.model.finish(self.model.jobs[job_id], succeeded)


def test_the_first_process_submits_and_the_next_ones_adopt() -> None:
    world = World()
    first, kinds = world.enter()
    assert kinds == ["first", "submitted"]
    for _ in range(2):
        assert world.enter() == (first, ["adopted"])
    assert world.works() == [first]


def test_another_iteration_is_another_job() -> None:
    world = World()
    other = TaskIdentity("test", "kfp", "6b1d2a5e", "polyaxon-job[18]")
    assert {world.enter()[0], world.enter(task=other)[0]} == set(world.works())


@pytest.mark.parametrize("call", range(8))
@pytest.mark.parametrize("death", DEATHS)
def test_a_process_may_die_at_any_call(death: What, call: int) -> None:
    world = World()
    try:
        world.enter(Fault(call, death))
    except Kill:
        pass
    else:
        assert call >= len(world.wire.calls)
    job_id, _ = world.enter()
    assert world.works() == [job_id]


@pytest.mark.parametrize("what", sorted(set(What) - set(DEATHS) - {What.TWICE, What.TWICE_LATE, What.SLOW_LIST}))
@pytest.mark.parametrize("call", range(7))
def test_answers_may_get_lost(what: What, call: int) -> None:
    world = World()
    with contextlib.suppress(TransientError):
        world.enter(Fault(call, what))
    job_id, _ = world.enter()
    assert world.works() == [job_id]


def test_the_window_a_list_that_lags_behind_a_job_that_works() -> None:
    world = World()
    creates = next(number for number in range(20) if _is_create_at(number))
    first, _ = world.enter(Fault(creates, What.SLOW_LIST, delay=8.0))
    second, _ = world.enter()
    assert set(world.works()) == {first, second}
    assert world.enter() == (first, ["adopted", "duplicate"])  # and once both are seen, the older one stays
    assert world.works() == [first]


def _is_create_at(number: int) -> bool:
    world = World()
    world.enter()
    return (
        world.wire.calls[number].startswith(f"POST /api/v1/default/{PROJECT}/runs")
        and "approve" not in (world.wire.calls[number])
    )


def test_what_succeeded_is_not_done_again() -> None:
    world = World()
    job_id, _ = world.enter()
    world.end(job_id, succeeded=True)
    assert world.enter() == (job_id, ["adopted"])
    assert len(world.model.jobs) == 1


def test_a_failed_job_is_followed_by_the_next_number_each_time() -> None:
    world, seen = World(), []
    for _ in range(3):
        job_id, kinds = world.enter()
        seen.append(job_id)
        world.end(job_id, succeeded=False)
    assert kinds == ["resubmit", "submitted"]
    assert [world.model._meta[job_id]["mlfleet_n"] for job_id in seen] == [0, 1, 2]
    assert world.enter(on_failed=OnFailed.FAIL) == (seen[-1], ["kept_failed"])
    assert world.enter(on_failed=OnFailed.RESUME) == (seen[-1], ["resumed"])


def test_a_job_that_is_being_stopped_is_waited_for() -> None:
    world = World()
    first, _ = world.enter()
    world.clock.advance(30)
    world.model.stop(world.model.jobs[first])
    second, kinds = world.enter()
    assert kinds == ["stopping", "submitted"]
    assert world.works() == [second]


def test_another_specification_is_another_job_and_ends_the_one_before() -> None:
    world = World()
    first, _ = world.enter(version=1)
    second, kinds = world.enter(version=2)
    assert kinds == ["spec_changed", "stopped", "submitted"]
    assert world.works() == [second] != [first]
    assert world.enter(version=2) == (second, ["adopted"])


def test_what_a_lower_number_left_alive_is_ended() -> None:
    world = World()
    first, _ = world.enter()
    world.end(first, succeeded=False)
    second, _ = world.enter()
    job = world.model.jobs[first]
    job.state, job.begun = "running", True  # somebody resumed it by hand
    assert world.enter() == (second, ["reaped", "stopped", "adopted"])
    assert world.works() == [second]


def test_a_job_without_number_is_none_of_ours() -> None:
    world = World()
    job_id, _ = world.enter()
    for number in (None, "1", True):
        world.model._meta[job_id] = {**world.model._meta[job_id], "mlfleet_n": number}
        system = world.model.system(world.wire)
        assert asyncio.run(system.trace(TASK)) is None


def test_a_look_up_that_fails_submits_nothing() -> None:
    world = World()
    world.enter()
    world.wire.begin()

    async def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    world.wire.handle_async_request = refuse  # type: ignore[method-assign]
    system: Any = world.model.system(world.wire)
    with pytest.raises(TransientError):
        asyncio.run(recover(system, TASK, "x"))
    assert len(world.model.jobs) == 1


def test_the_project_may_not_be_there_yet() -> None:
    world = World()
    world.model._projects.clear()
    store = asyncio.run(recover(world.model.system(world.wire), TASK, "x"))
    assert (store.load().n, store.load().phase) == (0, Phase.PLANNED)
    job_id, _ = world.enter()
    assert world.model.jobs[job_id].state == JobState.PENDING or world.works() == [job_id]
