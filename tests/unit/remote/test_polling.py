"""One poll for all: who goes along, what a request costs, and that nobody is lost or asked twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from mlfleet.errors import AuthError, RequestRefused, TransientError
from mlfleet.remote.job import JobState, JobStatus
from mlfleet.remote.polling import BATCH, Calm, Look, SharedPoll, Wish
from mlfleet.remote.protocol import RemoteSystem
from tests.support.remote import MemorySystem, Time, alone


class Counting(MemorySystem):
    """Remembers which jobs each request asked for; `poison` are refused; `hold` keeps answers back."""

    def __init__(self, jobs: int, poison: frozenset[str] = frozenset()) -> None:
        super().__init__()
        self.requests: list[list[str]] = []
        self.poison = poison
        self.hold: asyncio.Event | None = None
        self.asked = asyncio.Event()
        for _ in range(jobs):
            self.put(JobState.RUNNING)

    async def poll_many(self, jobs: Mapping[str, RemoteSystem]) -> dict[str, JobStatus]:
        self.requests.append(list(jobs))
        self.asked.set()
        if self.hold is not None:
            await self.hold.wait()
        if self.poison & set(jobs):
            raise RequestRefused(self.name, "one of them is no id")
        return await super().poll_many(jobs)


def on(system: MemorySystem, time: Time) -> SharedPoll:
    return alone(system, now=time, sleep=time.sleep, draw=lambda: 0.5)


async def looks(poll: SharedPoll, system: MemorySystem, wishes: Mapping[str, Wish]) -> list[Look]:
    return list(await asyncio.gather(*(poll.look(job_id, system, wish) for job_id, wish in wishes.items())))


def test_a_hundred_jobs_cost_one_request() -> None:
    async def ask() -> None:
        system, time = Counting(250), Time()
        wishes = {f"job-{n}": Wish(1005.0, 1010.0 + n / 100) for n in range(250)}
        found = await looks(on(system, time), system, wishes)
        assert [look.status.id for look in found if look.status] == list(wishes)
        assert [len(request) for request in system.requests] == [100, 100, 50]
        assert time.now == 1012.0  # the third is sent when the first job that the others had no room for is due

    asyncio.run(ask())


def test_who_is_not_due_waits_but_fills_a_request_that_has_room() -> None:
    async def ask() -> None:
        system, time = Counting(150), Time()
        wishes = {f"job-{n}": Wish(1000.0, 1001.0) for n in range(10)}
        wishes |= {f"job-{n}": Wish(500.0 + n, 2100.0 + n) for n in range(10, 150)}
        await looks(on(system, time), system, wishes)
        assert [len(request) for request in system.requests] == [100, 50]
        assert set(system.requests[0]) == {f"job-{n}" for n in range(100)}  # those who would be next

    asyncio.run(ask())


def test_who_was_asked_a_moment_ago_fills_no_request() -> None:
    async def ask() -> None:
        system, time = Counting(2), Time()
        await looks(on(system, time), system, {"job-0": Wish(1000.0, 1001.0), "job-1": Wish(1001.5, 1002.0)})
        assert system.requests == [["job-0"], ["job-1"]]

    asyncio.run(ask())


def test_lanes_are_asked_apart_and_one_that_fails_does_not_hold_up_another() -> None:
    async def ask() -> None:
        time = Time()
        good, bad = Counting(1), Counting(1)
        good.lane, bad.lane = "good", "bad"
        bad.errors = [TransientError("memory", "down")]
        poll = on(good, time)
        first, second = await asyncio.gather(
            poll.look("job-0", good, Wish(1000.0, 1000.0)), poll.look("job-0", bad, Wish(1000.0, 1000.0))
        )
        assert first.status is not None
        assert "down" in str(second.error)

    asyncio.run(ask())


def test_one_that_is_to_blame_fails_alone() -> None:
    async def ask() -> None:
        system, time = Counting(64, poison=frozenset({"job-37"})), Time()
        found = await looks(on(system, time), system, {f"job-{n}": Wish(1000.0, 1000.0) for n in range(64)})
        assert [n for n, look in enumerate(found) if look.error] == [37]

    asyncio.run(ask())


def test_refused_credentials_are_everybodys_and_are_not_asked_again_job_by_job() -> None:
    async def ask() -> None:
        system, time = Counting(64), Time()
        system.errors = [AuthError("memory", "expired")]
        found = await looks(on(system, time), system, {f"job-{n}": Wish(1000.0, 1000.0) for n in range(64)})
        assert all(isinstance(look.error, AuthError) for look in found)
        assert len(system.requests) == 1

    asyncio.run(ask())


def test_a_fault_in_an_answer_leaves_nobody_without_one() -> None:
    async def ask() -> None:
        system, time = Counting(3), Time()
        system.errors = [KeyError("uuid")] * 9
        found = await looks(on(system, time), system, {f"job-{n}": Wish(1000.0, 1000.0) for n in range(3)})
        assert all("could not be understood" in str(look.error) for look in found)

    asyncio.run(ask())


@pytest.mark.parametrize(("asked", "rest"), [(None, 2.2), (300.0, 330.0)])
def test_a_failing_server_is_left_alone_for_a_while(asked: float | None, rest: float) -> None:
    async def ask() -> None:
        system, time = Counting(1), Time()
        system.errors = [TransientError("memory", "slow down", status=429, retry_after=asked)]
        poll = on(system, time)
        first = await poll.look("job-0", system, Wish(1000.0, 1000.0))
        second = await poll.look("job-0", system, Wish(1000.0, 1000.0))
        assert first.error is not None
        assert second.status is not None
        assert time.now == pytest.approx(1000.0 + rest)

    asyncio.run(ask())


def test_a_deadline_does_not_wait_for_the_end_of_the_rest() -> None:
    async def ask() -> None:
        system, time = Counting(2), Time()
        system.errors = [TransientError("memory", "down", retry_after=600.0)]
        poll = on(system, time)
        await poll.look("job-0", system, Wish(1000.0, 1000.0))
        late, patient = await asyncio.gather(
            poll.look("job-0", system, Wish(1010.0, 1050.0, until=1050.0)),
            poll.look("job-1", system, Wish(1010.0, 1050.0)),
        )
        assert late.error is not None
        assert patient.status is not None
        assert time.now == pytest.approx(1660.0)

    asyncio.run(ask())


def test_who_joins_or_leaves_in_the_middle_of_a_round_is_neither_lost_nor_doubled() -> None:
    async def ask() -> None:
        system, time = Counting(4), Time()
        system.hold = asyncio.Event()
        poll = on(system, time)
        leaving = asyncio.ensure_future(poll.look("job-0", system, Wish(1000.0, 1000.0)))
        staying = asyncio.ensure_future(poll.look("job-1", system, Wish(1000.0, 1000.0)))
        await system.asked.wait()
        leaving.cancel()
        joining = asyncio.ensure_future(poll.look("job-2", system, Wish(1000.0, 1000.0)))
        waiting = asyncio.ensure_future(poll.look("job-3", system, Wish(9000.0, 9000.0)))
        await asyncio.sleep(0)
        waiting.cancel()
        system.hold.set()
        found = await asyncio.gather(staying, joining)
        assert [look.status.id for look in found if look.status] == ["job-1", "job-2"]
        await asyncio.gather(leaving, waiting, return_exceptions=True)
        assert system.requests == [["job-0", "job-1"], ["job-2"]]
        assert time.now == 1000.0

    asyncio.run(ask())


def test_somebody_in_a_hurry_wakes_the_queue() -> None:
    async def ask() -> None:
        system = Counting(2)
        poll = alone(system)
        now = poll.now()
        old = asyncio.ensure_future(poll.look("job-0", system, Wish(now - 1, now + 1000)))
        await asyncio.sleep(0.01)
        look = await asyncio.wait_for(poll.look("job-1", system, Wish(now, now)), 5)
        assert look.status is not None
        found = await asyncio.wait_for(old, 5)  # there was room
        assert found.status is not None
        await poll.aclose()

    asyncio.run(ask())


def test_two_waits_for_one_job_are_both_answered() -> None:
    async def ask() -> None:
        system, other, time = Counting(1), Counting(1), Time()
        poll = on(system, time)
        found = await asyncio.gather(
            poll.look("job-0", system, Wish(1000.0, 1000.0)), poll.look("job-0", other, Wish(1000.0, 1000.0))
        )
        assert all(look.status for look in found)
        # Each has facts of its own, so each is asked with its own system.
        assert (len(system.requests), len(other.requests)) == (1, 1)

    asyncio.run(ask())


def test_thousands_are_asked_fairly() -> None:
    """Whoever waited longest goes first, and in each round everybody has been asked once."""

    async def ask() -> None:
        system, time = Counting(3000), Time()
        poll = on(system, time)
        asked: dict[str, int] = {}

        async def wait(n: int) -> None:
            for _ in range(5):
                now = time.now
                await poll.look(f"job-{n}", system, Wish(now + 5, now + 8 + (n % 20) / 10))
                asked[f"job-{n}"] = asked.get(f"job-{n}", 0) + 1
                assert time.now - now <= 10.0

        await asyncio.gather(*(wait(n) for n in range(3000)))
        assert set(asked.values()) == {5}
        assert len(system.requests) == 5 * 3000 / BATCH

    asyncio.run(ask())


def test_a_renewed_connection_is_read_once_for_all() -> None:
    async def ask() -> None:
        made: list[Any] = []

        async def connect() -> Any:
            made.append(MemorySystem())
            return made[-1]

        poll = SharedPoll(connect)
        first = await poll.client()
        await asyncio.gather(*(poll.renew(first) for _ in range(50)))
        assert len(made) == 2
        assert await poll.client() is made[1]
        await poll.aclose()
        assert all(client.closed for client in made)

    asyncio.run(ask())


def calmly(system: MemorySystem, wake_at: float = 9e9) -> Wish:
    return Wish(1000.0, 1000.0, calm=Calm(system.jobs["job-0"], 10.0, wake_at))


def test_who_waits_calmly_is_asked_for_each_time_and_told_of_the_change() -> None:
    async def ask() -> None:
        system = Counting(1)
        time = Time(at={1060.0: lambda: system.set("job-0", JobState.SUCCEEDED)})
        look = await on(system, time).look("job-0", system, calmly(system))
        assert look.status is not None
        assert look.status.state is JobState.SUCCEEDED
        assert time.now == pytest.approx(1063.0)
        assert len(system.requests) == 7  # at once, then every 10.5 s

    asyncio.run(ask())


def test_a_calm_wait_ends_when_it_was_to_end() -> None:
    async def ask() -> None:
        system, time = Counting(1), Time()
        look = await on(system, time).look("job-0", system, calmly(system, wake_at=1035.0))
        assert look.status == system.jobs["job-0"]
        assert time.now == pytest.approx(1042.0)

    asyncio.run(ask())


def test_a_calm_wait_is_told_of_a_failure_and_when_all_was_well() -> None:
    async def ask() -> None:
        system = Counting(1)
        time = Time(at={1030.0: lambda: system.errors.append(TransientError("memory", "down"))})
        look = await on(system, time).look("job-0", system, calmly(system))
        assert isinstance(look.error, TransientError)
        assert look.good_at == pytest.approx(1021.0)

    asyncio.run(ask())


def test_calm_waits_come_back_when_the_credentials_are_read_again() -> None:
    """One of them would ask for everybody in its request, with what was refused."""

    async def ask() -> None:
        system = Counting(1)
        poll = alone(system)
        now = poll.now()
        calm = Calm(system.jobs["job-0"], 1000.0, 9e9)
        waiting = asyncio.ensure_future(poll.look("job-0", system, Wish(now, now, calm=calm)))
        await system.asked.wait()
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await poll.renew(await poll.client())
        assert (await asyncio.wait_for(waiting, 5)).status == system.jobs["job-0"]
        await poll.aclose()

    asyncio.run(ask())


def calm_for(system: MemorySystem, jobs: range, wake_at: float = 9e9) -> dict[str, Wish]:
    """All of them are due at once."""
    names = [f"job-{n}" for n in jobs]
    return {name: Wish(1000.0, 1000.0, calm=Calm(system.jobs[name], 10.0, wake_at)) for name in names}


def test_calm_waits_go_on_as_the_group_that_was_asked_together() -> None:
    async def ask() -> None:
        system, time = Counting(250), Time()
        await looks(on(system, time), system, calm_for(system, range(250), wake_at=1035.0))
        first = [sorted(request) for request in system.requests[:3]]
        assert [len(request) for request in first] == [100, 100, 50]
        # The fifty are due first of all in their turn, so nobody is asked with them before its time.
        assert len(system.requests) == 15
        assert Counter(job for request in system.requests for job in request) == dict.fromkeys(system.jobs, 5)

    asyncio.run(ask())


def test_a_request_with_room_takes_a_part_of_a_group_and_leaves_the_rest_its_time() -> None:
    async def ask() -> None:
        system, time = Counting(150), Time()
        poll = on(system, time)
        many = asyncio.ensure_future(looks(poll, system, calm_for(system, range(100), wake_at=1015.0)))
        await system.asked.wait()
        await looks(poll, system, {f"job-{n}": Wish(1006.0, 1006.0) for n in range(100, 150)})
        await many
        # The two halves meet again in the fourth, which has room for both.
        assert [len(request) for request in system.requests] == [100, 100, 50, 100]
        assert set(system.requests[1]) & set(system.requests[2]) == set()
        assert set(system.requests[1]) | set(system.requests[2]) == set(system.jobs)

    asyncio.run(ask())


def test_who_leaves_a_group_is_not_asked_for_any_more() -> None:
    async def ask() -> None:
        system = Counting(3)
        time = Time(at={1005.0: lambda: leaving.cancel()})
        poll = on(system, time)
        wishes = calm_for(system, range(3), wake_at=1015.0)
        leaving = asyncio.ensure_future(poll.look("job-1", system, wishes.pop("job-1")))
        await looks(poll, system, wishes)
        assert [sorted(request) for request in system.requests] == [
            ["job-0", "job-1", "job-2"], ["job-0", "job-2"], ["job-0", "job-2"]
        ]  # fmt: skip

    asyncio.run(ask())


def test_who_may_not_wait_as_long_as_its_group_goes_alone() -> None:
    async def ask() -> None:
        system, time = Counting(2), Time()
        wishes = calm_for(system, range(2), wake_at=1012.0)
        calm = wishes["job-1"].calm
        wishes["job-1"] = Wish(1000.0, 1000.0, until=1004.0, calm=replace(calm, wake_at=1004.0))
        await looks(on(system, time), system, wishes)
        assert system.requests == [["job-0", "job-1"], ["job-1"], ["job-0"], ["job-0"]]

    asyncio.run(ask())
