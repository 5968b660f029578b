"""A build that dies with its task is idempotent: random histories through the real ordinal, builder and client.

buildah is replaced at its command line. `MLFLEET_PROPERTY_CASES` asks for more cases than CI runs, each time others.
"""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.adversity import Fault, Of, What
from tests.support.build_model import Mishap, Trouble
from tests.support.build_world import (
    Action,
    Build,
    BuildWorld,
    Change,
    Clear,
    Intrude,
    LoseRecord,
    Pass,
    Restart,
    Stale,
)

MORE = int(os.environ.get("MLFLEET_PROPERTY_CASES", "0"))
CASES = MORE or 320
VERSIONS = 3

delays = st.sampled_from([1.0, 20.0, 110.0])
faults = st.builds(
    Fault, call=st.integers(0, 8), what=st.sampled_from(What), delay=delays, of=st.just(Of.ALL)
)  # fmt: skip
troubles = st.builds(
    Trouble, verb=st.sampled_from(["build", "push", "push", "rmi"]), mishap=st.sampled_from(Mishap), delay=delays
)
builds = st.builds(
    Build,
    faults=st.just(()) | st.lists(faults, max_size=2, unique_by=lambda fault: fault.call).map(tuple),
    troubles=st.just(()) | st.lists(troubles, max_size=2, unique_by=lambda trouble: trouble.verb).map(tuple),
    kill_at_save=st.sampled_from([None, None, None, 0]),
    before_save=st.booleans(),
    dies_at_end=st.sampled_from([False, False, True]),
)
between = st.lists(
    st.one_of(
        st.builds(Clear),
        st.builds(Change, version=st.integers(1, VERSIONS)),
        st.builds(Change, version=st.integers(1, VERSIONS)),
        st.builds(LoseRecord),
        st.builds(Intrude),
        st.builds(Stale, seconds=st.sampled_from([0.0, 2.5, 60.0])),
        st.builds(Restart, seconds=st.sampled_from([2.0, 100.0])),
        st.builds(Pass, seconds=st.sampled_from([1.0, 30.0, 1000.0])),
    ),
    max_size=3,
)
histories = st.lists(st.tuples(builds, between), min_size=2, max_size=6).map(
    lambda rounds: [action for one, more in rounds for action in (one, *more)]
)

MET = (
    *("first", "carried_on", "cleared", "spec_changed", "killed", "killed at the end", "handed on"),
    *("raised TransientError", "raised UnexpectedAnswer", "raised Conflict", "in good weather a conflict"),
    *("found in the registry", "rebuilt", "pushed again, the same"),
)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "Dockerfile").write_text("ARG BASE\nFROM ${BASE}\nCOPY model /app/model\n")
    for version in range(1, VERSIONS + 1):
        (tmp_path / str(version)).mkdir()
        (tmp_path / str(version) / "model").write_text(f"model {version}")
    # The command line is replaced behind it; it need not be installed here.
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/bin/{name}")
    return tmp_path


def test_whatever_happens(folder: Path) -> None:
    seen: Counter[str] = Counter()

    @settings(
        max_examples=CASES, deadline=None, derandomize=not MORE, database=None,
        suppress_health_check=list(HealthCheck), print_blob=True,
    )  # fmt: skip
    @given(histories)
    def builds_keep_their_promises(history: list[Action]) -> None:
        world = BuildWorld(folder)
        try:
            for action in history:
                world.do(action)
            world.settle()
        except BaseException as exc:
            exc.add_note("\n".join(world.story))
            raise
        seen.update(world.seen)

    builds_keep_their_promises()
    # They hold because of what was met, not for want of it.
    missing = [what for what in MET if not seen[what]]
    assert not missing, f"{missing} never happened in {dict(seen)}"
