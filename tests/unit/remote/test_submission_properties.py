"""A remote job is submitted once, whatever crashes: random histories through the real adapters and clients.

`MLFLEET_PROPERTY_CASES` asks for more cases than CI runs, each time other ones.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlfleet.remote.policies import OnFailed, RerunMode
from tests.support.adversity import Clock, Fault, Of, What
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
    Recreate,
    Restart,
    SlowStops,
    StopJobs,
    TaskWorld,
    Told,
    Try,
    Wish,
)  # fmt: skip
from tests.support.truth import ServerModel

MORE = int(os.environ.get("MLFLEET_PROPERTY_CASES", "0"))
CASES = MORE or 700


def careful(cases: int) -> settings:
    """The same cases each time in CI; a machine under load is no failure."""
    return settings(
        max_examples=cases, deadline=None, derandomize=not MORE, database=None,
        suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip


delays = st.sampled_from([1.0, 5.0, 20.0, 50.0, 110.0])
# Most of what matters happens at calls that change something: most faults are aimed at them.
faults = st.one_of(
    st.builds(Fault, call=st.integers(0, calls), what=st.sampled_from(What), delay=delays, of=st.just(of))
    for of, calls in ((Of.ALL, 12), (Of.WRITES, 3), (Of.CREATES, 1))
)
ends = st.one_of(st.builds(Finish, succeeded=st.booleans()), st.builds(StopJobs))
tries = st.builds(
    Try,
    faults=st.lists(faults, max_size=3, unique_by=lambda fault: (fault.call, fault.of)).map(tuple),
    kill_at_save=st.one_of(st.none(), st.none(), st.integers(0, 4)),
    before_save=st.booleans(),
    on_failed=st.sampled_from(OnFailed),
    meanwhile=st.one_of(st.none(), st.none(), st.tuples(st.integers(0, 10), ends)),
)
people = st.one_of(
    st.builds(Clear, stop_at=st.one_of(st.none(), st.integers(0, 8))),
    st.builds(Wish, mode=st.sampled_from(RerunMode)),
    st.builds(ChangeSpec, refused=st.sampled_from([False, False, True])),
    st.builds(LoseRecord),
    st.builds(Recreate),
)
weather = st.one_of(
    st.builds(SlowStops, seconds=st.sampled_from([1.0, 60.0, 200.0])),
    st.builds(Restart, seconds=st.sampled_from([2.0, 30.0, 100.0])),
    st.builds(Pass, seconds=st.sampled_from([1.0, 10.0, 130.0, 1000.0])),
)
between = st.lists(st.one_of(ends, people, weather, st.builds(Told)), max_size=3)
# A try, then what people, jobs and servers do until the next one.
histories = st.lists(st.tuples(tries, between), min_size=2, max_size=6).map(
    lambda rounds: [action for one, more in rounds for action in (one, *more)]
)


MET = (
    *("killed", "raised TransientError", "strays", "entry gave succeeded"),
    *(
        f"decided {kind}"
        for kind in ("submitted", "adopted", "unanswered", "answer_lost", "cleared", "fresh", "reaped")
    ),
    *(f"decided {kind}" for kind in ("spec_changed", "stopped", "resubmit", "resumed", "kept_failed")),
)
ALSO_MET: dict[object, tuple[str, ...]] = {
    PolyaxonModel: ("decided duplicate", "decided stopping", "decided stop_slow", "raised SpecError"),
    KFPModel: ("executions doubled by the network", "decided stopping", "decided stop_slow", "raised OutcomeUnknown"),
    CloudBuildModel: ("decided duplicate", "decided resume_refused", "raised SpecError"),
}


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


@pytest.mark.parametrize("make", [PolyaxonModel, KFPModel, CloudBuildModel], ids=["polyaxon", "kfp", "cloud_build"])
def test_whatever_happens(make: Callable[[Clock], ServerModel], runner: asyncio.Runner) -> None:
    seen: Counter[str] = Counter()

    @careful(CASES)
    @given(histories)
    def histories_keep_their_promises(history: list[Action]) -> None:
        world = TaskWorld(make(Clock()), runner)
        try:
            for action in history:
                world.do(action)
            world.settle()
        except BaseException as exc:
            exc.add_note("\n".join(world.story))
            raise
        seen.update(world.seen)

    histories_keep_their_promises()
    # They hold because of what was met, not for want of it.
    missing = [what for what in (*MET, *ALSO_MET.get(make, ())) if not seen[what]]
    assert not missing, f"{missing} never happened in {dict(seen)}"
