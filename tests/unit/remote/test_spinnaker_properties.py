"""A deployment is found by its tag and started by hand at most once: random histories through the real operator's
entry, adapter and client, against a Gate in memory.

`MLFLEET_PROPERTY_CASES` asks for more cases than CI runs, each time other ones.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.adversity import Fault, Of, What
from tests.support.deploy_actions import (
    Action,
    CleanUp,
    Configure,
    Deploy,
    EmptyReads,
    EndedByPerson,
    EndNow,
    Pass,
    PersonStarts,
    Policy,
    Release,
    Restart,
    Rewatch,
    RunAgain,
    Searches,
    Starts,
    Wish,
)  # fmt: skip
from tests.support.deploy_world import DAY, DeployWorld
from tests.support.gate_execution import Fate
from tests.support.gate_model import Plan

MORE = int(os.environ.get("MLFLEET_PROPERTY_CASES", "0"))
CASES = MORE or 320

plans = st.builds(
    Plan, fate=st.sampled_from(Fate), queued=st.sampled_from([0.0, 0.0, 30.0]),
    takes=st.sampled_from([0.5, 3.0, 100.0, 400.0, 5000.0]),
)  # fmt: skip
policies = st.builds(
    Policy, on_not_started=st.sampled_from(["start", "start", "fail"]), on_kill=st.sampled_from(["leave", "cancel"]),
    start_plans=st.lists(plans, min_size=1, max_size=3).map(tuple),
)  # fmt: skip
# Mostly such as start nothing, or late: around the time at which a start by hand is due.
pushes = st.one_of(
    st.just(()), st.just(()), st.tuples(st.sampled_from([1.0, 60.0, 119.0, 121.0, 135.0, 160.0, 220.0])),
    st.tuples(st.just(30.0), st.sampled_from([30.0, 90.0])),
)  # fmt: skip
releases = st.builds(Release, delays=pushes, plan=plans)
faults = st.lists(
    st.one_of(
        st.builds(Fault, call=st.integers(0, calls), what=st.sampled_from(What),
                  delay=st.sampled_from([1.0, 20.0, 110.0]), of=st.just(of))
        for of, calls in ((Of.ALL, 30), (Of.WRITES, 1), (Of.CREATES, 1))
    ),
    max_size=3, unique_by=lambda fault: (fault.call, fault.of),
).map(tuple)  # fmt: skip
in_deck = st.one_of(
    st.builds(PersonStarts, plan=plans), st.builds(RunAgain, plan=plans), st.builds(EndNow, fate=st.sampled_from(Fate))
)
one_by_one = st.one_of(in_deck, st.builds(Restart, seconds=st.sampled_from([100.0, 500.0])))
people = st.one_of(st.builds(Wish), st.builds(EndedByPerson, faults=faults), in_deck)
weather = st.one_of(
    st.builds(Starts, delay=st.sampled_from([1.0, 10.0, 40.0, 200.0, None])),
    st.builds(Searches, lag=st.sampled_from([0.0, 5.0, 60.0, 200.0]), hidden=st.sampled_from([0.0, 0.0, 100.0])),
    st.builds(EmptyReads, seconds=st.sampled_from([5.0, 60.0, 500.0])),
    st.builds(Configure, how=st.sampled_from(["right", "right", "disabled", "other tags", "gone"])),
    st.builds(Restart, seconds=st.sampled_from([2.0, 100.0])),
    st.builds(CleanUp),
    st.builds(Pass, seconds=st.sampled_from([1.0, 30.0, 120.0, 121.0, DAY, 3 * DAY])),
)
tries = st.one_of(
    st.builds(Deploy, faults=faults, meanwhile=st.one_of(st.none(), st.tuples(st.integers(0, 20), one_by_one))),
    st.builds(Rewatch, faults=faults),
)
between = st.lists(st.one_of(people, weather, weather, releases), max_size=3)
histories = st.tuples(releases, st.lists(st.tuples(between, tries), min_size=2, max_size=4)).map(
    lambda drawn: [drawn[0], *(action for more, one in drawn[1] for action in (*more, one))]
)

MET = (
    *("killed", "ended finished", "ended timeout", "ended gave_up", "stopped", "task succeeded"),
    *("told never_started", "started by hand", "second start by hand, in its window", "started by hand beside a push"),
    *("starts by hand deduplicated by orca", "told unreadable", "told waiting_for_judgment"),
    *(f"told of a push: {fate.word}" for fate in Fate),
    *(f"told of a start by hand of ours: {fate.word}" for fate in Fate if fate is not Fate.STARTUP_FAILURE),
)


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as one:
        yield one


def test_whatever_happens(runner: asyncio.Runner) -> None:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=CASES, deadline=None, derandomize=not MORE, database=None,
        suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip
    @given(policies, histories)
    def deployments_keep_their_promises(policy: Policy, history: list[Action]) -> None:
        world = DeployWorld(policy, runner)
        try:
            for action in history:
                world.do(action)
            world.settle()
        except BaseException as exc:
            exc.add_note("\n".join(world.story))
            raise
        seen.update(world.seen)

    deployments_keep_their_promises()
    # They hold because of what was met, not for want of it.
    missing = [what for what in MET if not seen[what]]
    assert not missing, f"{missing} never happened in {dict(seen)}"
