"""The table "on entry", row by row and column by column, through the real adapters and clients."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from mlfleet.remote.job import JobState, JobStatus
from mlfleet.remote.policies import OnFailed, RerunMode
from tests.support.adversity import Clock
from tests.support.cloud_build_model import CloudBuildModel
from tests.support.kfp_model import KFPModel
from tests.support.polyaxon_model import PolyaxonModel
from tests.support.task_world import (
    Action,
    ChangeSpec,
    Clear,
    Finish,
    LoseRecord,
    Pass,
    SlowStops,
    StopJobs,
    TaskWorld,
    Told,
    Wish,
)
from tests.support.truth import Job, ServerModel, visible

# How a job comes into each column of the table.
COLUMNS = {
    "live": [],
    "succeeded": [Finish(True), Told()],
    "stopping": [SlowStops(20.0), StopJobs()],
    "failed": [Finish(False), Told()],
    "spec changed": [ChangeSpec()],
}
ROWS = {"retry": [], "clear": [Clear(None)]}

EXPECTED = {
    ("retry", "live"): "adopted",
    ("retry", "succeeded"): "finished",
    ("retry", "stopping"): "next",
    ("retry", "failed", OnFailed.RESUBMIT): "next",
    ("retry", "failed", OnFailed.RESUME): "resumed",
    ("retry", "failed", OnFailed.FAIL): "failed",
    ("retry", "spec changed"): "next",
    ("clear", "live"): "next",
    ("clear", "succeeded"): "next",
    ("clear", "stopping"): "next",
    ("clear", "failed", OnFailed.RESUBMIT): "next",
    ("clear", "failed", OnFailed.RESUME): "resumed",
    # A person who clears wants it to run; a retry of Airflow does not.
    ("clear", "failed", OnFailed.FAIL): "next",
    ("clear", "spec changed"): "next",
}
CASES = [
    (row, column, on_failed, EXPECTED.get((row, column)) or EXPECTED[row, column, on_failed])
    for row in ROWS
    for column in COLUMNS
    for on_failed in OnFailed
]


@pytest.fixture(params=[PolyaxonModel, KFPModel, CloudBuildModel], ids=["polyaxon", "kfp", "cloud_build"])
def world(request: pytest.FixtureRequest) -> Iterator[TaskWorld]:
    make: Callable[[Clock], ServerModel] = request.param
    with asyncio.Runner() as runner:
        yield TaskWorld(make(Clock()), runner)


def happen(world: TaskWorld, *actions: Action) -> None:
    """The actions, and time for lists to show them."""
    for action in actions:
        world.do(action)
    world.do(Pass(10.0))


def here(world: TaskWorld, expected: str) -> str:
    """What is expected of this system: no build can go on."""
    return "next" if expected == "resumed" and isinstance(world.model, CloudBuildModel) else expected


def first_job(world: TaskWorld) -> Job:
    """The task has entered, and its job works."""
    status = world.enter()
    world.do(Pass(10.0))
    return world.model.jobs[status.id]


def what_came(world: TaskWorld, before: Job, status: JobStatus) -> str:
    """The word of the table for it. The next job begins after the one before has come to its end, not sooner."""
    job = world.model.jobs[status.id]
    if job is not before:
        assert visible(world.model) == [job]
        assert before.finished is not None
        assert before.finished <= job.created
        return "next"
    assert list(world.model.jobs) == [before.id]
    if "resum" in " ".join(world.seen):
        assert visible(world.model) == [before]
        return "resumed"
    ends = {JobState.SUCCEEDED: "finished", JobState.FAILED: "failed", JobState.STOPPED: "failed"}
    return ends.get(status.state, "adopted")


@pytest.mark.parametrize(("row", "column", "on_failed", "expected"), CASES)
def test_on_entry(world: TaskWorld, row: str, column: str, on_failed: OnFailed, expected: str) -> None:
    before = first_job(world)
    happen(world, *COLUMNS[column], *ROWS[row])
    came = what_came(world, before, world.enter(on_failed))
    if isinstance(world.model, CloudBuildModel) and (row, column, on_failed) == ("retry", "stopping", OnFailed.FAIL):
        # A build that is cancelled has ended at once.
        expected = "failed"
    assert came == here(world, expected)
    world.settle()


@pytest.mark.parametrize("column", ["live", "succeeded", "stopping", "failed"])
@pytest.mark.parametrize("on_failed", OnFailed)
def test_without_a_record_what_lives_is_stopped_and_nothing_is_adopted(
    world: TaskWorld, column: str, on_failed: OnFailed
) -> None:
    before = first_job(world)
    happen(world, *COLUMNS[column], LoseRecord())
    assert what_came(world, before, world.enter(on_failed)) == "next"


@pytest.mark.parametrize("stop_at", [0, 1, 2, 4])
def test_a_job_that_the_clear_itself_ended_is_not_resumed(world: TaskWorld, stop_at: int) -> None:
    """The old trigger stops its job before the next try looks, or in the middle of its looking (airflow.md)."""
    before = first_job(world)
    world.do(Clear(stop_at))
    assert what_came(world, before, world.enter(OnFailed.RESUME)) == "next"
    world.settle()


@pytest.mark.parametrize("row", ROWS)
@pytest.mark.parametrize("column", COLUMNS)
def test_a_person_may_ask_for_a_fresh_job(world: TaskWorld, row: str, column: str) -> None:
    before = first_job(world)
    happen(world, *COLUMNS[column], *ROWS[row], Wish(RerunMode.FRESH))
    assert what_came(world, before, world.enter(OnFailed.FAIL)) == "next"
    assert world.wish is None


@pytest.mark.parametrize(
    ("row", "column", "expected"),
    [
        ("retry", "live", "adopted"),
        ("retry", "succeeded", "finished"),
        ("retry", "stopping", "next"),
        ("retry", "failed", "resumed"),
        ("retry", "spec changed", "next"),
        ("clear", "live", "next"),
        ("clear", "succeeded", "next"),
        ("clear", "stopping", "next"),
        ("clear", "failed", "resumed"),
        ("clear", "spec changed", "next"),
    ],
)
def test_a_person_may_ask_to_resume(world: TaskWorld, row: str, column: str, expected: str) -> None:
    before = first_job(world)
    happen(world, *COLUMNS[column], *ROWS[row], Wish(RerunMode.RESUME))
    assert what_came(world, before, world.enter(OnFailed.FAIL)) == here(world, expected)


def test_a_failed_job_of_another_specification_is_not_resumed(world: TaskWorld) -> None:
    before = first_job(world)
    happen(world, Finish(False), Told(), ChangeSpec(), Clear(None))
    assert what_came(world, before, world.enter(OnFailed.RESUME)) == "next"
