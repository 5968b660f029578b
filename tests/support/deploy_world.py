"""A `deploy` task, the people around it and Spinnaker in memory: a history of actions, checked after each.

What must be true is in :class:`tests.support.deploy_promises.Promises`, in terms of what is really there.
"""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx

from mlfleet.clients.http import HttpClient
from mlfleet.clients.spinnaker import SpinnakerClient
from mlfleet.errors import JobError, MlfleetError
from mlfleet.operators.spinnaker import SpinnakerDeployOperator
from mlfleet.remote.budget import LogBudget
from mlfleet.remote.conclusion import conclude
from mlfleet.remote.job import JobStatus
from mlfleet.remote.policies import RerunMode
from mlfleet.remote.polling import SharedPoll
from mlfleet.remote.watching import End, Memory, Outcome, Watch
from mlfleet.systems.spinnaker import Deployment, SpinnakerSystem
from tests.support.adversity import Clock, Fault, Kill, Wire
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
)
from tests.support.deploy_promises import Promises
from tests.support.gate_execution import Fate
from tests.support.gate_model import By, GateModel, Plan, deck_start
from tests.support.spinnaker_wire import APPLICATION, PIPELINE, REGISTRY, REPOSITORY, TRIGGER

# Of the task (seconds): when an execution must have appeared, when the task's time is over.
START_TIMEOUT, TIMEOUT = 120.0, 900.0
# Of a wait (seconds): between looks at least, as in a triggerer with much to do; without a good answer at most.
NAP, PATIENCE = 30.0, 300.0
# No try may take longer than its own time and this.
SLACK = 3600.0
DAY = 86_400.0
DIGEST = "sha256:" + "a" * 64


class Mortal(httpx.AsyncBaseTransport):
    """Tells of the process's death, which otherwise only the task that made the call would notice."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.died = wire, asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await self.wire.handle_async_request(request)
        except Kill:
            self.died.set()
            raise


@dataclass
class DeployWorld:
    """The state of all; `seen` counts what happened, so that a test can't pass for lack of cases."""

    policy: Policy
    runner: asyncio.Runner
    wish: RerunMode | None = None
    wanted: Deployment | None = None
    deadline: float | None = None
    seen: Counter[str] = field(default_factory=Counter)
    story: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.clock = Clock()
        self.model = GateModel(self.clock, start_plans=itertools.cycle(self.policy.start_plans))
        self.wire = Wire(self.model, self.clock)
        self.mortal = Mortal(self.wire)
        self.memory = Memory()
        self.promises = Promises(self.model, self.seen, self.policy.on_not_started == "start")
        self.task = SpinnakerDeployOperator(
            task_id="deploy", application=APPLICATION, pipeline=PIPELINE, release_task_id="release",
            timeout=timedelta(seconds=TIMEOUT), start_timeout=timedelta(seconds=START_TIMEOUT),
            on_not_started=self.policy.on_not_started, on_kill_policy=self.policy.on_kill,
        )  # fmt: skip
        self._tags = itertools.count()
        self._release(Release())

    def do(self, action: Action) -> None:
        """One action, and the check after it."""
        self.story.append(f"{self.clock.now - 1.8e9:9.1f}  -- {action}")
        doing: Callable[..., None] = getattr(self, f"_{type(action).__name__.lower()}")
        doing(action)
        self.promises.check()

    def note(self, what: str, more: str = "") -> None:
        self.seen[what] += 1
        self.story.append(f"{self.clock.now - 1.8e9:9.1f}     {what} {more}".rstrip())

    # The task

    def _deploy(self, action: Deploy) -> None:
        if action.meanwhile is not None:
            call, event = action.meanwhile
            self.wire.hooks[call] = lambda: getattr(self, f"_{type(event).__name__.lower()}")(event)
        self.deadline = None
        self.memory = Memory()
        self._with_bad_luck(action.faults, self.try_once)
        self.wire.hooks.clear()

    def _rewatch(self, action: Rewatch) -> None:
        if self.deadline is not None:
            self._with_bad_luck(action.faults, self._wait)

    def _endedbyperson(self, action: EndedByPerson) -> None:
        """What on_kill of the trigger does (triggers.base)."""
        if self.deadline is None:
            return
        self.deadline = None
        if self.policy.on_kill == "cancel":
            self.promises.may_cancel = True
            self._with_bad_luck(action.faults, self._stop)
            self.promises.after_calls()
            self.promises.may_cancel = False

    def _with_bad_luck(self, faults: tuple[Fault, ...], what: Callable[[], object]) -> None:
        self.wire.begin(faults)
        self.clock.limit = self.clock.now + TIMEOUT + SLACK
        try:
            what()
        except Kill:
            self.note("killed")
        except MlfleetError as exc:
            self.note(f"raised {type(exc).__name__}", str(exc))
        finally:
            self.wire.begin()
            self.clock.limit = float("inf")

    def try_once(self) -> Outcome:
        """One try of the task to its end; raises Kill, errors of mlfleet, or Endless."""
        wanted, system = self._wanted(), self._system()
        self.promises.begin_try(wanted, asked=self.wish is RerunMode.RESUME)
        try:
            status = self.runner.run(self.task.begin(system, wanted.as_json(), {}, self.wish))  # type: ignore[arg-type]
        finally:
            self.promises.after_calls()
            self.promises.asked = False
        self.wish = None
        self.promises.told(status)
        self.note(f"began {status.native}", status.id)
        if status.state.is_final:
            return self._concluded(Outcome(End.FINISHED, status))
        self.deadline = self.clock.now + TIMEOUT
        return self._wait()

    def _wait(self) -> Outcome:
        """What the trigger does."""
        client = self._client()

        async def connect() -> SpinnakerClient:
            return client

        async def nap(seconds: float) -> None:
            await self.clock.sleep(max(seconds, NAP))

        poll = SharedPoll(connect, now=self.clock, sleep=nap, draw=lambda: 0.5)
        cancels = self.policy.on_kill == "cancel"
        watch = Watch(
            poll, self._on, self._wanted().id, deadline=self.deadline, recall=self._recall, save=self._save,
            seen=self._told, stop_at_deadline=cancels, emit=lambda text: self.note("said", text.splitlines()[0]),
            patience=PATIENCE, budget=LogBudget(now=self.clock, sleep=self.clock.sleep, draw=lambda: 0.5),
        )  # fmt: skip

        async def run() -> Outcome:
            waiting, dying = asyncio.create_task(watch.run()), asyncio.create_task(self.mortal.died.wait())
            try:
                await asyncio.wait({waiting, dying}, return_when=asyncio.FIRST_COMPLETED)
                if not waiting.done():
                    raise Kill
                return waiting.result()
            finally:
                for each in (waiting, dying):
                    each.cancel()
                await asyncio.gather(waiting, dying, return_exceptions=True)
                await poll.aclose()

        self.mortal.died = asyncio.Event()
        self.promises.deadline = self.deadline if cancels else None
        try:
            outcome = self.runner.run(run())
        finally:
            self.promises.after_calls()
            self.promises.deadline = None
        assert self.clock.now <= self.clock.limit, "the wait went on for longer than it may"
        self.deadline = None
        return self._concluded(outcome)

    def _concluded(self, outcome: Outcome) -> Outcome:
        self.note(f"ended {outcome.end.value}", f"{outcome.status} {outcome.error}")
        self.promises.ended(outcome)
        try:
            result = self.runner.run(conclude(self._system, outcome))
        except JobError as exc:
            self.note(f"task failed with {type(exc).__name__}", str(exc))
        else:
            self.promises.handed_on(result)
            self.note("task succeeded")
        return outcome

    def _stop(self) -> None:
        client = self._client()

        async def connect() -> SpinnakerClient:
            return client

        poll = SharedPoll(connect, now=self.clock, sleep=self.clock.sleep, draw=lambda: 0.5)
        watch = Watch(poll, self._on, self._wanted().id)

        async def stop() -> str:
            return await watch.stop()

        self.note("stop", self.runner.run(stop()))

    async def _told(self, status: JobStatus) -> None:
        self.promises.told(status)
        self.seen[f"told {status.native}"] += 1

    async def _recall(self) -> Memory:
        return self.memory

    async def _save(self, memory: Memory) -> None:
        self.memory = memory

    def _wanted(self) -> Deployment:
        assert self.wanted is not None
        return self.wanted

    def _client(self) -> SpinnakerClient:
        http = HttpClient(
            "http://localhost:8084", system="spinnaker", transport=self.mortal, sleep=self.clock.sleep,
            clock=self.clock, now=self.clock, draw=lambda: 0.5,
        )  # fmt: skip
        return SpinnakerClient(http)

    def _on(self, client: SpinnakerClient) -> SpinnakerSystem:
        return SpinnakerSystem(client, self._wanted(), now=self.clock, sleep=self.clock.sleep)

    def _system(self) -> SpinnakerSystem:
        return self._on(self._client())

    # Everybody else

    def _release(self, action: Release) -> None:
        tag = f"release-k-{next(self._tags)}"
        self.wanted = Deployment(
            APPLICATION, PIPELINE, REPOSITORY, tag, DIGEST, int(self.clock.now * 1000), START_TIMEOUT,
            self.policy.on_not_started, REGISTRY,
        )  # fmt: skip
        self.deadline = self.wish = None
        for delay in action.delays:
            self.model.push(tag, action.plan, delay)
        # What looks alike and is none of ours: another pipeline for the same tag, a tag in other letters, a longer one.
        self.model.push(tag, Plan(Fate.FAILED), 1.0, name="verify")
        for other in (tag.upper(), f"{tag}1"):
            self.model.push(other, Plan(Fate.DEPLOYED), 2.0)

    def _wish(self, action: Wish) -> None:
        self.wish = RerunMode.RESUME

    def _personstarts(self, action: PersonStarts) -> None:
        self.model.make(By.PERSON, deck_start(self._wanted().tag), action.plan)

    def _runagain(self, action: RunAgain) -> None:
        for each in self.model.of(self._wanted().tag):
            self.model.run_again(each, action.plan)

    def _endnow(self, action: EndNow) -> None:
        for each in self.model.of(self._wanted().tag):
            self.model.end(each, action.fate)

    def _cleanup(self, action: CleanUp) -> None:
        for each in self.model.executions.values():
            each.cleaned_up |= not each.is_live and self.clock.now - each.fates[-1][0] > 2 * DAY

    def _starts(self, action: Starts) -> None:
        self.model.start_delay = action.delay

    def _searches(self, action: Searches) -> None:
        self.model.search_lag, self.model.hidden_until = action.lag, self.clock.now + action.hidden

    def _emptyreads(self, action: EmptyReads) -> None:
        self.model.empty_until = self.clock.now + action.seconds

    def _configure(self, action: Configure) -> None:
        right = {"name": PIPELINE, "triggers": [dict(TRIGGER)]}
        ways: dict[str, dict[str, Any] | None] = {
            "right": right, "disabled": {**right, "disabled": True}, "gone": None,
            "other tags": {**right, "triggers": [{**TRIGGER, "tag": "v.*"}]},
        }  # fmt: skip
        self.model.config = ways[action.how]

    def _restart(self, action: Restart) -> None:
        self.model.restart()
        self.wire.down_until = self.clock.now + action.seconds

    def _pass(self, action: Pass) -> None:
        self.clock.advance(action.seconds)

    # The end

    def settle(self) -> None:
        """In good weather one more try comes to the end that is really there, and the release is deployed if it may."""
        self.wire.quiet()
        model = self.model
        model.start_delay, model.search_lag, model.hidden_until, model.empty_until = 1.0, 0.0, 0.0, 0.0
        model.start_plans, self.wish = itertools.repeat(Plan()), None
        self._configure(Configure("right"))
        self.clock.advance(300.0)
        self._endnow(EndNow(Fate.DEPLOYED))
        self.clock.limit = self.clock.now + TIMEOUT + SLACK
        outcome = self.try_once()
        self.clock.limit = float("inf")
        self.promises.check()
        self.promises.settled(outcome)
