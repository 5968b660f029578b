"""What random histories have found, as short stories that anybody can read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from mlfleet.remote.policies import OnFailed
from tests.support.adversity import Clock, Fault, Of, What
from tests.support.cloud_build_model import CloudBuildModel
from tests.support.kfp_model import KFPModel
from tests.support.polyaxon_model import PolyaxonModel
from tests.support.task_world import Action, Clear, Finish, LoseRecord, Pass, TaskWorld, Told, Try
from tests.support.truth import ServerModel

Make = Callable[[Clock], ServerModel]
ALL = pytest.mark.parametrize(
    "make", [PolyaxonModel, KFPModel, CloudBuildModel], ids=["polyaxon", "kfp", "cloud_build"]
)
RESUMABLE = pytest.mark.parametrize("make", [PolyaxonModel, KFPModel], ids=["polyaxon", "kfp"])


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


def tell(make: Make, runner: asyncio.Runner, *story: Action) -> TaskWorld:
    """The story, each step checked, and its end in good weather."""
    world = TaskWorld(make(Clock()), runner)
    for action in story:
        world.do(action)
    world.settle()
    return world


def at_create(what: What, delay: float = 5.0) -> Try:
    return Try(faults=(Fault(0, what, delay, Of.CREATES),))


@ALL
@pytest.mark.parametrize("then", [(), (Clear(None),)], ids=["retry", "clear"])
def test_a_job_that_is_not_listed_yet_is_not_gone(make: Make, runner: asyncio.Runner, then: tuple[Action, ...]) -> None:
    """The submit call was answered, so the job is there, whatever a list says within the grace."""
    world = tell(make, runner, at_create(What.SLOW_LIST), *then, Try())
    assert world.seen["decided lost"] == 0
    assert len(world.model.jobs) == 1 + bool(then)


def test_the_grace_begins_when_the_call_is_sent_and_not_when_its_preparations_begin(runner: asyncio.Runner) -> None:
    """KFP makes an experiment first: that took 50 s here. Then the process dies, and the run is stored 110 s later."""
    slow = (Fault(0, What.LOST_REQUEST, of=Of.WRITES), Fault(1, What.BUSY, 25.0, Of.WRITES))
    world = tell(KFPModel, runner, Try(faults=(*slow, Fault(0, What.KILL_LATE, 110.0, Of.CREATES))), Try())
    assert len(world.model.jobs) == 1


@RESUMABLE
@pytest.mark.parametrize("then", [Clear(None), Pass(1.0)], ids=["clear", "retry"])
def test_a_resume_whose_process_died_may_still_take_effect(make: Make, runner: asyncio.Runner, then: Action) -> None:
    dies = Try(faults=(Fault(0, What.KILL_LATE, 5.0, Of.WRITES),), on_failed=OnFailed.RESUME)
    tell(make, runner, Try(), Finish(False), Told(), dies, then, Try())


@pytest.mark.parametrize("on_failed", OnFailed)
def test_a_run_that_was_stopped_before_its_approval_is_approved_when_it_is_resumed(
    runner: asyncio.Runner, on_failed: OnFailed
) -> None:
    """A resume alone leaves the approval pending, and the run waits for it for ever."""
    dies = Try(faults=(Fault(2, What.KILL_BEFORE, of=Of.WRITES),))
    world = TaskWorld(PolyaxonModel(Clock()), runner)
    world.do(dies)
    (job,) = world.model.jobs.values()
    assert not job.begun
    world.model.stop(job)
    world.do(Try(on_failed=on_failed))
    world.settle()


@RESUMABLE
def test_what_a_late_copy_of_a_resume_revives_is_stopped_when_an_entry_sees_it(
    make: Make, runner: asyncio.Runner
) -> None:
    """A named window: nobody can know of the copy before it has its effect."""
    doubled = Try(faults=(Fault(0, What.TWICE_LATE, 5.0, Of.WRITES),), on_failed=OnFailed.RESUME)
    world = tell(make, runner, Try(), Finish(False), doubled, Finish(False), Try(), Pass(10.0))
    assert world.seen["strays"] > 0
    assert world.seen["decided reaped"] == 1


def test_what_a_lost_record_had_sent_is_stopped_when_an_entry_sees_it(runner: asyncio.Runner) -> None:
    """A named window: the record goes within the grace of a call whose job is not to be seen yet."""
    world = tell(KFPModel, runner, at_create(What.KILL_LATE), LoseRecord(), Try(), Pass(10.0))
    assert world.seen["strays"] > 0
    assert world.seen["decided reaped"] == 1


@pytest.mark.parametrize("fails", [False, True])
def test_a_build_that_the_network_doubled_goes_when_an_entry_sees_it(runner: asyncio.Runner, fails: bool) -> None:
    """A named window: both builds work until the list shows the second one, also when the first has failed by then."""
    late = Fault(0, What.TWICE_LATE, 1.0, Of.CREATES)
    story = (Finish(False),) if fails else ()
    world = tell(CloudBuildModel, runner, Try(faults=(late,)), *story, Pass(10.0))
    assert world.seen["strays"] > 0
    assert world.seen["decided duplicate"] == 1
