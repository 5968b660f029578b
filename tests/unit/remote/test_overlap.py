"""The named window: a process that was believed dead is still inside its submit call when the next try begins.

What the docstrings of the adapters promise then, and not more. Polyaxon: one job works, unless lists show a create
later than its answer comes, so that each process lists before it could see the other's. KFP: the API shows one run;
both may have posted it, so there may be a second execution. Cloud Build: as Polyaxon, and its lists always lag. Either
way everything that works has the key of the record, so the next clear ends all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlfleet.errors import MlfleetError
from mlfleet.remote.job import JobKey
from mlfleet.remote.submission import Submission
from tests.support.adversity import Clock, Records, Wire, is_create
from tests.support.cloud_build_model import CloudBuildModel
from tests.support.kfp_model import KFPModel
from tests.support.polyaxon_model import PolyaxonModel
from tests.support.task_world import TASK, Clear, TaskWorld
from tests.support.truth import ServerModel, visible


class PacedWire(Wire):
    """Every call waits for its turn; a job is shown `late` seconds after its creation was answered."""

    def __init__(self, server: ServerModel, clock: Clock, late: float) -> None:
        super().__init__(server, clock)
        self.turn, self.waiting = asyncio.Semaphore(0), asyncio.Event()
        self.late = late

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.waiting.set()
        await self.turn.acquire()
        if not (self.late and is_create(request)):
            return await super().handle_async_request(request)
        return self.server.handle(request, unlisted=self.late)


class Process:
    """One try in a process of its own, which goes on call by call."""

    def __init__(self, model: ServerModel, records: Records, late: float) -> None:
        self.model, self.records = model, records
        self.wire = PacedWire(model, model.clock, late)
        self.task: asyncio.Task[object] | None = None

    @property
    def done(self) -> bool:
        return self.task is not None and self.task.done()

    async def step(self) -> None:
        """To its next call, or to its end."""
        if self.done:
            return
        self.wire.waiting.clear()
        if self.task is None:
            clock = self.model.clock
            system = self.model.system(self.wire)
            submission = Submission(system, self.records, TASK, 0, now=clock, sleep=clock.sleep)
            self.task = asyncio.create_task(submission.enter(self.model.spec(1)))
            self.task.add_done_callback(lambda task: self.wire.waiting.set())
        else:
            self.wire.turn.release()
        await self.wire.waiting.wait()

    def result(self) -> object:
        """A process may fail, its task is tried again then; nothing else may go wrong."""
        assert self.task is not None
        error = self.task.exception()
        assert error is None or isinstance(error, MlfleetError), error
        return error or self.task.result()


async def overlap(
    model: ServerModel, records: Records, turns: list[tuple[bool, int]], late: tuple[float, float]
) -> None:
    """The old process gets to its record; then the new one begins, and they take `turns` (who, how many calls)."""
    old, new = (Process(model, records, seconds) for seconds in late)
    while records.record is None:
        await old.step()
    for olds, steps in turns:
        for _ in range(steps):
            await (old if olds else new).step()
    while not (old.done and new.done):
        await new.step()
        await old.step()
    old.result()
    new.result()


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


# Up to as many calls in a row as the new process needs to wait for what the old one may have sent.
turns_taken = st.lists(st.tuples(st.booleans(), st.sampled_from([1, 2, 5, 150])), max_size=8)
commits = st.sampled_from([0.0, 0.0, 1.0, 3.0, 8.0])


@pytest.mark.parametrize("make", [PolyaxonModel, KFPModel, CloudBuildModel], ids=["polyaxon", "kfp", "cloud_build"])
def test_two_processes_in_one_submit(make: Callable[[Clock], ServerModel], runner: asyncio.Runner) -> None:
    most = 0

    @settings(
        max_examples=150,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(turns=turns_taken, late=st.tuples(commits, commits))
    def window(turns: list[tuple[bool, int]], late: tuple[float, float]) -> None:
        nonlocal most
        model, records = make(Clock()), Records()
        runner.run(overlap(model, records, turns, late))
        model.clock.advance(10.0)
        live, record = visible(model), records.record
        most = max(most, len(live), *model.executions().values(), 0)
        assert record is not None
        assert {job.key for job in live} == {JobKey(TASK, record.incarnation, record.n).value}
        # The window, and its limit.
        second = model.twins_work or (isinstance(model, PolyaxonModel) and late != (0.0, 0.0))
        assert len(live) <= 1 + second
        assert all(count <= 2 for count in model.executions().values())
        # It ends with the next clear.
        world = TaskWorld(model, runner, records)
        world._clear(Clear(None))
        status = world.enter()
        assert [job.id for job in visible(model)] == [status.id]
        world.settle()

    window()
    assert most == 2, "the window was never reproduced"
