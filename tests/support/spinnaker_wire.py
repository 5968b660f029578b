"""A Gate with echo and orca behind it that lives in memory, as an httpx transport with the clock of the test.

It has the windows of the real one (reference spinnaker.md 1.4, 1.5 and 3): a push may start nothing or late, a search
sees an execution later than a read does, a manual start is answered before anything happened, its correlation id counts
only while an execution is live, and an answer may be lost after it had its effect.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from mlfleet.clients.http import HttpClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.clients.spinnaker import SpinnakerClient
from sandbox.spinnaker.model import without_details
from sandbox.spinnaker.search import decoded, matches, page

APPLICATION, PIPELINE, REPOSITORY, REGISTRY = "churn", "deploy-model", "ml/churn", "registry.test"
LIVE = {"NOT_STARTED", "RUNNING", "PAUSED", "SUSPENDED", "BUFFERED"}
TRIGGER = {
    "type": "docker", "enabled": True, "account": "acme", "organization": "ml", "registry": REGISTRY,
    "repository": REPOSITORY, "tag": "release-.*", "expectedArtifactIds": ["image"],
}  # fmt: skip
Execution = dict[str, Any]


@dataclass(eq=False)
class SpinnakerWire(httpx.AsyncBaseTransport):
    """One pipeline. All durations are seconds of ``clock``.

    ``delay``         from a push to its execution; ``start_delay`` from a manual start to its
    ``search_lag``    after which a search sees an execution; reads by id see it at once
    ``lose_answers``  so many answers to manual starts get lost, with their effect
    ``lose_requests`` so many manual starts get lost before they had any
    ``failing``       path parts whose calls answer 503; ``empty`` ids whose reads answer with an empty 200
    """

    clock: Callable[[], float]
    delay: float = 0.0
    start_delay: float = 1.0
    search_lag: float = 0.0
    lose_answers: int = 0
    lose_requests: int = 0
    failing: set[str] = field(default_factory=set)
    empty: set[str] = field(default_factory=set)
    config: dict[str, Any] | None = field(default_factory=lambda: {"name": PIPELINE, "triggers": [dict(TRIGGER)]})
    executions: dict[str, Execution] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    canceled: list[str] = field(default_factory=list)
    _lost: set[str] = field(default_factory=set)
    _coming: list[tuple[float, dict[str, Any], str]] = field(default_factory=list)
    _count: int = 0

    def client(self) -> SpinnakerClient:
        """The real client on this wire; every call is sent once."""
        http = HttpClient("http://gate.test", system="spinnaker", transport=self, retry=RetryPolicy.once())
        return SpinnakerClient(http, "https://deck.test")

    # What the test does

    def never(self, tag: str) -> None:
        """Pushes of this tag start nothing."""
        self._lost.add(tag)

    def push(self, tag: str, repository: str = REPOSITORY, delay: float | None = None) -> None:
        """A tag appears in the registry; its execution comes after a while, unless it never does."""
        if tag not in self._lost:
            at = self.clock() + (self.delay if delay is None else delay)
            self._coming.append((at, pushed(tag, repository), self._new_id()))

    def add(self, status: str = "RUNNING", trigger: dict[str, Any] | None = None, **more: Any) -> str:
        """An execution that is there now; ``more`` replaces its fields."""
        execution = self._make(trigger or {}, self._new_id(), self.clock())
        execution.update({"status": status, **more})
        return str(execution["id"])

    def executions_of(self, tag: str) -> list[Execution]:
        """All executions that were ever made for a tag, oldest first, the clean-up's victims included."""
        self._advance()
        return [each for each in self.executions.values() if each["trigger"].get("tag") == tag]

    def live(self, tag: str) -> list[Execution]:
        """Those that have not ended."""
        return [each for each in self.executions_of(tag) if each["status"] in LIVE]

    def finish(self, tag: str, status: str = "SUCCEEDED") -> None:
        """Everything live of a tag ends; with SUCCEEDED its image is deployed."""
        for each in self.live(tag):
            bound = [{"reference": artifact["reference"]} for artifact in each["trigger"]["artifacts"]]
            deployed = {"status": "SUCCEEDED", "outputs": {"outputs.boundArtifacts": bound}}
            for stage in each["stages"]:
                stage.update(deployed if status == "SUCCEEDED" else {"status": status})
            each["status"] = status

    def calls(self, method: str, part: str) -> list[httpx.Request]:
        """The requests so far whose path has ``part`` in it."""
        return [request for request in self.requests if request.method == method and part in request.url.path]

    # What Gate does

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        self._advance()
        path = request.url.path
        if any(part in path for part in self.failing):
            return httpx.Response(503, json={"status": 503, "message": "not now"})
        if request.method == "POST":
            return self._start(request)
        if path.endswith("/executions/search"):
            return self._search(request)
        if path == "/executions":
            return self._list(request)
        return self._one(request)

    def _one(self, request: httpx.Request) -> httpx.Response:
        found = re.fullmatch(r"/pipelines/([^/]+)(/cancel)?", request.url.path)
        if found and found[1] in self.executions and self._visible(self.executions[found[1]]):
            execution = self.executions[found[1]]
            if found[2]:
                self.canceled.append(found[1])
                execution.update(status="CANCELED", canceled=True, canceledBy="sandbox")
                return httpx.Response(200)
            return httpx.Response(200) if found[1] in self.empty else httpx.Response(200, json=execution)
        if request.url.path == "/executions/failedStages":
            return httpx.Response(200, json=[])
        if "/pipelineConfigs/" in request.url.path and self.config is not None:
            return httpx.Response(200, json=self.config)
        return httpx.Response(404, json={"status": 404, "message": "Pipeline not found"})

    def _list(self, request: httpx.Request) -> httpx.Response:
        ids = request.url.params["executionIds"].split(",")
        found = [self.executions[each] for each in ids if each in self.executions]
        return httpx.Response(200, json=[without_details(each) for each in found if self._visible(each)])

    def _search(self, request: httpx.Request) -> httpx.Response:
        params = request.url.params
        since = int(params["triggerTimeStartBoundary"])
        until = int(params.get("triggerTimeEndBoundary", 2**62))
        subset = decoded(params.get("trigger"))
        types, name = params["triggerTypes"].split(","), params.get("pipelineName")
        seen_until = (self.clock() - self.search_lag) * 1000
        candidates = [
            each
            for each in sorted(self.executions.values(), key=lambda each: (each["buildTime"], each["id"]), reverse=True)
            if self._visible(each)
            and since <= each["buildTime"] <= min(until, seen_until)
            and name in (None, each["name"])
        ]
        found = page(
            candidates,
            lambda each: each["trigger"]["type"] in types and matches(subset, each["trigger"]),
            0,
            int(params["size"]),
        )
        return httpx.Response(200, json=[without_details(each) for each in found])

    def _start(self, request: httpx.Request) -> httpx.Response:
        if self.lose_requests:
            self.lose_requests -= 1
            raise httpx.ReadTimeout("the request was lost", request=request)
        execution_id = self._new_id()
        self._coming.append((self.clock() + self.start_delay, json.loads(request.content), execution_id))
        if self.lose_answers:
            self.lose_answers -= 1
            raise httpx.ReadTimeout("the answer was lost", request=request)
        return httpx.Response(202, json={"eventId": f"event-{execution_id}", "ref": f"/pipelines/{execution_id}"})

    # What echo and orca do

    def _advance(self) -> None:
        """Makes the executions whose time has come, in the order in which orca hears of them."""
        now = self.clock()
        due = sorted((each for each in self._coming if each[0] <= now), key=lambda each: each[0])
        self._coming = [each for each in self._coming if each[0] > now]
        for at, trigger, execution_id in due:
            correlation = trigger.get("correlationId")
            known = correlation and any(
                each["trigger"].get("correlationId") == correlation and each["status"] in LIVE
                for each in self.executions.values()
            )
            if not known and self.config is not None and not self.config.get("disabled"):
                self._make(trigger, execution_id, at)

    def _make(self, trigger: dict[str, Any], execution_id: str, at: float) -> Execution:
        stage = {"id": f"{execution_id}-1", "refId": "1", "type": "deployManifest", "name": "Deploy",
                 "status": "RUNNING", "context": {}, "outputs": {}}  # fmt: skip
        execution = self.executions[execution_id] = {
            "id": execution_id, "application": APPLICATION, "name": PIPELINE, "status": "RUNNING", "canceled": False,
            "buildTime": int(at * 1000), "trigger": {"type": "manual", "artifacts": [], **trigger}, "stages": [stage],
        }  # fmt: skip
        return execution

    def _visible(self, execution: Execution) -> bool:
        return not execution.get("cleaned_up")

    def _new_id(self) -> str:
        self._count += 1
        return f"01J{self._count:06d}"


def pushed(tag: str, repository: str = REPOSITORY) -> dict[str, Any]:
    """An execution's trigger after a push (reference spinnaker.md 1.3)."""
    name = f"{REGISTRY}/{repository}"
    artifact = {"type": "docker/image", "name": name, "version": tag, "reference": f"{name}:{tag}"}
    return {**TRIGGER, "repository": repository, "tag": tag, "artifacts": [artifact], "correlationId": None}


def trigger_of(request: httpx.Request) -> Any:
    """What a search asked of triggers, None when it took all."""
    text = request.url.params.get("trigger")
    return json.loads(base64.b64decode(text)) if text else None
