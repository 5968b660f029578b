"""What a `deploy` task promises, in terms of what Spinnaker really has (tests.support.gate_model)."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import Any

from mlfleet.remote.job import JobState, JobStatus
from mlfleet.remote.watching import End, Outcome
from mlfleet.systems.spinnaker import Deployment
from tests.support.adversity import NOBODY
from tests.support.gate_execution import Fate
from tests.support.gate_model import By, Execution, GateModel, Start
from tests.support.spinnaker_wire import PIPELINE, REGISTRY, REPOSITORY

# For so long after it a release is started by hand without a person's word: a day, and the time to appear.
FRESH = 86_400.0 + 120.0
# A call is tried for that long (clients.retry.RetryPolicy.total_seconds), and what was read before is that old then.
CALL = 65.0
# The same for what takes two calls: an execution, and which of its stages failed.
TWO_CALLS = 130.0


class Promises:
    """Checks; the facts that they need about the present try are set by the world."""

    def __init__(self, model: GateModel, seen: Counter[str], may_start: bool) -> None:
        self.model, self.seen, self.may_start = model, seen, may_start
        self.wanted: Deployment | None = None
        self.asked = False
        self.may_cancel = False
        self.deadline: float | None = None
        self._checked = self._cancels = self._twins = 0

    def begin_try(self, wanted: Deployment, asked: bool) -> None:
        """A try begins; ``asked``: a person wants a start by hand."""
        self.wanted, self.asked = wanted, asked

    def check(self) -> None:
        """After every action: what was started and what was stopped, and that it was allowed."""
        for tag in {each.tag for each in self.model.executions.values()}:
            self._at_most_one(tag)
        self.seen["starts by hand deduplicated by orca"] += self.model.deduplicated
        self.model.deduplicated = 0
        assert self._checked == len(self.model.starts), "a start outside of a try"
        assert self._cancels == len(self.model.cancels), f"stopped though nobody wanted it: {self.model.cancels}"

    def _at_most_one(self, tag: str) -> None:
        """One start by hand of one tag made an execution, except in the named windows."""
        ours = [each for each in self.model.of(tag) if each.by is By.HAND and each.epoch != NOBODY]
        live = [each for each in ours if each.is_live and not each.again_at]
        assert len(live) <= 1, f"two live executions were started by hand: {live}"
        for before, after in itertools.pairwise(ours):
            assert after.start is not None
            known = after.start.search.fates.get(before.id, "not listed")
            in_window = known == "not listed" or known is Fate.STARTUP_FAILURE
            assert in_window, f"{after} was started by hand although {before} was in the search, {known}"
        self.seen["second start by hand, in its window"] += len(ours) > 1
        self.seen["started by hand"] += bool(ours)
        self.seen["started by hand beside a push"] += bool(ours) and any(e.by is By.PUSH for e in self.model.of(tag))

    def _starts(self) -> None:
        for start in self.model.starts[self._checked :]:
            self._allowed(start)
        self._checked = len(self.model.starts)

    def _allowed(self, start: Start) -> None:
        """A start by hand: wanted, of this very image, and nothing that began could be found before it."""
        wanted, body = self.wanted, start.body
        assert wanted is not None
        fresh = start.at - wanted.since_ms / 1000 < FRESH + CALL
        late = start.at - wanted.since_ms / 1000 >= wanted.start_timeout
        assert self.asked or (self.may_start and fresh), f"nobody wanted this start by hand: {start}"
        assert late, f"started by hand while the push had time left: {start}"
        references = [artifact["reference"] for artifact in body["artifacts"]]
        assert references == [f"{REGISTRY}/{REPOSITORY}:{wanted.tag}"]
        assert (body["repository"], body["tag"], body["digest"]) == (REPOSITORY, wanted.tag, wanted.digest)
        assert body["correlationId"] == wanted.correlation_id
        assert start.at - start.search.at < CALL, f"the look before it was {start.at - start.search.at:.0f} s old"
        begun = [each for each in self._found(start.search.fates) if each[1] is not Fate.STARTUP_FAILURE]
        assert not begun, f"started by hand beside {begun}"

    def _found(self, fates: Any) -> list[tuple[Execution, Fate | None]]:
        """What a search had of the wanted tag, and how each had ended then."""
        assert self.wanted is not None
        every = self.model.executions
        return [(every[i], f) for i, f in fates.items() if (every[i].tag, every[i].name) == (self.wanted.tag, PIPELINE)]

    def _stops(self) -> None:
        """Only what the policy and a person or the deadline allow, and only the execution of this tag."""
        for execution_id in self.model.cancels[self._cancels :]:
            late = self.deadline is not None and self.model.clock.now >= self.deadline
            assert self.may_cancel or late, f"{execution_id} was stopped though nobody wanted it"
            assert self.wanted is not None
            assert self.model.executions[execution_id].tag == self.wanted.tag
            self.seen["stopped"] += 1
        self._cancels = len(self.model.cancels)

    def after_calls(self) -> None:
        """What was sent is judged while it is known for whom."""
        self._starts()
        self._stops()

    # What the task is told

    def told(self, status: JobStatus) -> None:
        """A status is about an execution of this very tag, and an end is one that it really had."""
        self.after_calls()
        wanted, execution_id = self.wanted, status.detail.get("execution_id")
        assert wanted is not None
        assert status.id == wanted.id
        if execution_id is None:
            self._nothing_there(wanted, status)
            return
        execution = self.model.executions[execution_id]
        assert (execution.tag, execution.name) == (wanted.tag, PIPELINE), f"another's: {execution}"
        found = self._found(self.model.last_search.fates)
        if execution.status == "CANCELED" and (execution, execution.fate) in found:
            better = [e for e, fate in found if e.status != "CANCELED" and fate is not Fate.STARTUP_FAILURE]
            assert not better, f"{execution} was told and not {better}"
        if not status.state.is_final:
            return
        self.seen[f"told of {execution.by.value}: {status.native}"] += 1
        fates = {fate.word for _, fate in execution.fates}
        assert status.native in fates, f"told {status.native} of {execution}"
        if self.model.clock.now - execution.again_at > TWO_CALLS:
            assert execution.fate is not None, f"told {status.native} while it runs: {execution}"
            assert status.native == execution.fate.word, f"told {status.native} of {execution}"
        assert (status.state is JobState.SUCCEEDED) == (status.native == "deployed")

    def _nothing_there(self, wanted: Deployment, status: JobStatus) -> None:
        if status.native != "never_started":
            assert status.native == "not_started", status
            return
        self.seen["told never_started"] += 1
        assert self.model.clock.now - wanted.since_ms / 1000 >= wanted.start_timeout, f"too early: {status}"
        there = [each for each in self._found(self.model.last_search.fates) if each[1] is not Fate.STARTUP_FAILURE]
        assert not there, f"told {status} beside {there}"

    def ended(self, outcome: Outcome) -> None:
        """The end of a wait."""
        self.after_calls()
        if outcome.end is End.FINISHED:
            assert outcome.status is not None
            assert outcome.status.state.is_final
            self.told(outcome.status)
        if outcome.end is End.VANISHED:
            assert outcome.status is not None
            gone = self.model.executions[outcome.status.detail["execution_id"]]
            assert gone.cleaned_up, f"said to be gone: {gone}"
        assert outcome.end is not End.REFUSED, outcome

    def handed_on(self, result: dict[str, Any]) -> None:
        """A task that succeeded hands on an execution that deployed this tag's image."""
        assert self.wanted is not None
        execution = self.model.executions[result["execution_id"]]
        assert (execution.tag, execution.name) == (self.wanted.tag, PIPELINE)
        assert result["outcome"] == "deployed", result
        assert "deployed" in {fate.word for _, fate in execution.fates}, f"{result} of {execution}"
        assert result["bound_reference"] == f"{REGISTRY}/{REPOSITORY}:{self.wanted.tag}"

    def settled(self, outcome: Outcome) -> None:
        """In good weather: told what is there, or started by hand where it may be."""
        assert outcome.end in {End.FINISHED, End.VANISHED}, outcome
        assert self.wanted is not None
        status = outcome.status
        age = self.model.clock.now - self.wanted.since_ms / 1000
        there = [each for each in self.model.shown(self.wanted.tag) if each.fate is not Fate.STARTUP_FAILURE]
        if there or self.model.shown(self.wanted.tag):
            assert status is not None
            assert status.detail.get("execution_id") or not there, f"{status} beside {there}"
        elif self.may_start and age < FRESH - TWO_CALLS:
            raise AssertionError(f"nothing was started by hand: {outcome}")
