"""Gate with echo and orca in memory, as far as a deployment meets them (spinnaker.md 1.4, 1.5, 2 and 3).

Its windows: a push starts nothing, one execution or several, soon or late; a search sees an execution later than a read
does, and may leave out what it showed before; a start by hand is answered before anything happened, comes late or
never, and its correlation id counts only while an execution is live; an execution that ended may be run again, and an
old one is cleaned up; a read may be an empty 200.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import httpx

from sandbox.spinnaker.model import without_details
from sandbox.spinnaker.search import decoded, matches, page
from tests.support.adversity import Clock
from tests.support.gate_execution import LIVE, Fate, as_json
from tests.support.spinnaker_wire import PIPELINE, TRIGGER, pushed


class By(StrEnum):
    """Who made an execution."""

    PUSH = "a push"
    HAND = "a start by hand of ours"
    PERSON = "a person in Deck"


@dataclass(frozen=True)
class Plan:
    """What will become of an execution: ``queued`` seconds, then a canary and a judgment, after ``takes`` its fate."""

    fate: Fate = Fate.DEPLOYED
    queued: float = 0.0
    takes: float = 100.0


@dataclass(frozen=True)
class Search:
    """When a search was answered, and the fates at that time of all that could be found."""

    at: float = 0.0
    fates: Mapping[str, Fate | None] = field(default_factory=dict)


@dataclass(eq=False)
class Execution:
    """One execution as it really is; ``fates`` has every end that it ever had, by the second in which it had it."""

    id: str
    tag: str
    by: By
    plan: Plan
    trigger: dict[str, Any]
    created: float
    listed_from: float
    name: str = PIPELINE
    epoch: int = 0
    status: str = "NOT_STARTED"
    fate: Fate | None = None
    fates: list[tuple[float, Fate]] = field(default_factory=list)
    turn: int = 0
    cleaned_up: bool = False
    start: Start | None = None
    again_at: float = 0.0

    @property
    def is_live(self) -> bool:
        return self.status in LIVE


@dataclass(frozen=True)
class Start:
    """A call that asked for a start by hand: when, with what, and the search before it."""

    at: float
    body: dict[str, Any]
    search: Search


@dataclass
class GateModel:
    """One application with one pipeline. Durations are seconds of ``clock``.

    ``start_delay``   from a start by hand to its execution, None for never; ``search_lag`` of what comes from now on
    ``start_plans``   what becomes of executions that are started by hand
    ``hidden_until``, ``empty_until``   until when searches leave all out, and reads of one are an empty 200
    """

    clock: Clock
    start_delay: float | None = 1.0
    search_lag: float = 0.0
    hidden_until: float = 0.0
    empty_until: float = 0.0
    config: dict[str, Any] | None = field(default_factory=lambda: {"name": PIPELINE, "triggers": [dict(TRIGGER)]})
    start_plans: Iterator[Plan] = field(default_factory=lambda: itertools.repeat(Plan()))
    executions: dict[str, Execution] = field(default_factory=dict)
    starts: list[Start] = field(default_factory=list)
    cancels: list[str] = field(default_factory=list)
    # Of adversity.Server.
    patience: float = 300.0
    twins_work: bool = True
    epoch: int = 0
    last_search: Search = Search()
    deduplicated: int = 0
    _ids: Iterator[int] = field(default_factory=itertools.count)
    _restarts: int = 0

    # What happens by itself, and what people do

    def push(self, tag: str, plan: Plan, delay: float, name: str = PIPELINE) -> None:
        """A tag was pushed; its execution comes after ``delay``."""
        self.clock.after(delay, lambda: self.make(By.PUSH, pushed(tag), plan, name=name))

    def make(self, by: By, trigger: dict[str, Any], plan: Plan, execution_id: str = "", **more: Any) -> None:
        """An execution, from now on; ``more`` are fields of it."""
        made = Execution(
            execution_id or self._new_id(), str(trigger["tag"]), by, plan, trigger, self.clock.now,
            self.clock.now + self.search_lag, epoch=self.epoch, **more,
        )  # fmt: skip
        self.executions[made.id] = made
        self._go(made, plan)

    def end(self, execution: Execution, fate: Fate) -> None:
        """It comes to this end, if it is live."""
        if execution.is_live:
            execution.turn += 1
            execution.fate, execution.status = fate, fate.execution_status
            execution.fates.append((self.clock.now, fate))

    def run_again(self, execution: Execution, plan: Plan) -> None:
        """Somebody restarts a stage of an execution that ended (spinnaker.md 0.7)."""
        if not execution.is_live and not execution.cleaned_up:
            execution.fate, execution.again_at = None, self.clock.now
            self._go(execution, plan)

    def of(self, tag: str) -> list[Execution]:
        """All that were ever made for a tag, oldest first."""
        return [each for each in self.executions.values() if each.tag == tag and each.name == PIPELINE]

    def shown(self, tag: str) -> list[Execution]:
        """Those that a search shows now."""
        return [each for each in self.of(tag) if self._is_listed(each)]

    def _go(self, execution: Execution, plan: Plan) -> None:
        execution.turn += 1
        execution.status, turn = "NOT_STARTED" if plan.queued else "RUNNING", execution.turn

        def then(seconds: float, what: Any) -> None:
            self.clock.after(seconds, lambda: what() if execution.turn == turn else None)

        if plan.queued:
            then(plan.queued, lambda: setattr(execution, "status", "RUNNING"))
        then(plan.queued + plan.takes, lambda: self.end(execution, plan.fate))

    def _is_listed(self, execution: Execution) -> bool:
        now = self.clock.now
        return not execution.cleaned_up and execution.listed_from <= now and now >= self.hidden_until

    def _new_id(self) -> str:
        return f"01J{next(self._ids):06d}"

    # The server

    def restart(self) -> None:
        """What echo had not passed on is lost."""
        self._restarts += 1

    def halve(self, request: httpx.Request) -> None:
        """Dies before echo passed the start on."""
        if request.method == "POST":
            self._start(request, 0.0)

    def handle(self, request: httpx.Request, late: float = 0.0, unlisted: float = 0.0) -> httpx.Response:
        path = request.url.path
        if request.method == "POST":
            lag, self.search_lag = self.search_lag, max(self.search_lag, unlisted)
            answer = self._start(request, late)
            self.search_lag = lag
            return answer
        if path.endswith("/executions/search"):
            return self._search(request)
        if path == "/executions":
            found = [self.executions.get(each) for each in request.url.params["executionIds"].split(",")]
            rows = [without_details(as_json(each)) for each in found if each and not each.cleaned_up]
            return httpx.Response(200, json=rows)
        if path == "/executions/failedStages":
            return httpx.Response(200, json=[])
        if "/pipelineConfigs/" in path:
            return httpx.Response(200, json=self.config) if self.config is not None else _missing()
        return self._one(request, late)

    def _one(self, request: httpx.Request, late: float) -> httpx.Response:
        found = re.fullmatch(r"/pipelines/([^/]+)(/cancel)?", request.url.path)
        assert found, f"no such address: {request.method} {request.url.path}"
        execution = self.executions.get(found[1])
        if execution is None or execution.cleaned_up:
            return _missing()
        if found[2]:
            self.cancels.append(execution.id)
            # The status follows the answer.
            self.clock.after(late + 2.0, lambda: self.end(execution, Fate.CANCELED))
            return httpx.Response(200)
        if self.clock.now < self.empty_until:
            return httpx.Response(200)
        return httpx.Response(200, json=as_json(execution))

    def _search(self, request: httpx.Request) -> httpx.Response:
        params = request.url.params
        since, until = int(params["triggerTimeStartBoundary"]), int(params.get("triggerTimeEndBoundary", 2**62))
        types, name, subset = params["triggerTypes"].split(","), params.get("pipelineName"), decoded(params["trigger"])
        listed = sorted(
            (each for each in self.executions.values() if self._is_listed(each)),
            key=lambda each: (each.created, each.id), reverse=True,
        )  # fmt: skip
        rows = [as_json(each) for each in listed if name in (None, each.name)]
        rows = [row for row in rows if since <= row["buildTime"] <= until]

        def wanted(row: dict[str, Any]) -> bool:
            return row["trigger"]["type"] in types and matches(subset, row["trigger"])

        found = page(rows, wanted, 0, int(params["size"]))
        self.last_search = Search(self.clock.now, {each.id: each.fate for each in listed})
        return httpx.Response(200, json=[without_details(row) for row in found])

    def _start(self, request: httpx.Request, late: float) -> httpx.Response:
        body, execution_id, epoch, life = json.loads(request.content), self._new_id(), self.epoch, self._restarts
        start = Start(self.clock.now, body, self.last_search)
        self.starts.append(start)
        plan, lag = next(self.start_plans), self.search_lag

        def orca() -> None:
            disabled = self.config is None or self.config.get("disabled")
            correlated = [each for each in self.executions.values() if each.is_live and self._correlates(each, body)]
            self.deduplicated += bool(correlated)
            if disabled or correlated or life != self._restarts:
                return
            before, self.epoch, known_lag, self.search_lag = self.epoch, epoch, self.search_lag, lag
            self.make(By.HAND, body, plan, execution_id, start=start)
            self.epoch, self.search_lag = before, known_lag

        if self.start_delay is not None:
            self.clock.after(late + self.start_delay, orca)
        return httpx.Response(202, json={"eventId": f"event-{execution_id}", "ref": f"/pipelines/{execution_id}"})

    @staticmethod
    def _correlates(execution: Execution, body: dict[str, Any]) -> bool:
        wanted = body.get("correlationId")
        return bool(wanted) and execution.trigger.get("correlationId") == wanted


def deck_start(tag: str) -> dict[str, Any]:
    """The trigger of a person who starts the pipeline for a tag in Deck (DockerTriggerTemplate.tsx)."""
    return {**pushed(tag), "type": "manual"}


def _missing() -> httpx.Response:
    return httpx.Response(404, json={"status": 404, "message": "Pipeline not found"})
