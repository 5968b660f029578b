"""A deployment as a remote job, against a Gate that answers over HTTP in memory."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from mlfleet.clients.http import HttpClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.clients.spinnaker import SpinnakerClient
from mlfleet.remote.conclusion import conclude
from mlfleet.remote.job import JobState, JobStatus
from mlfleet.remote.watching import Outcome, Watch
from mlfleet.systems.spinnaker import Deployment, SpinnakerSystem
from tests.support.remote import Time, alone, itself

RELEASED = 1_000_000
WANTED = Deployment("churn", "deploy-model", "ml/churn", "release-k-0", "sha256:" + "a" * 64, RELEASED)
TRIGGER = {"type": "docker", "enabled": True, "repository": "ml/churn", "account": "acme", "tag": "release-.*"}


@dataclass
class Gate:
    """Executions by id, newest last, and one pipeline configuration."""

    executions: dict[str, dict[str, Any]] = field(default_factory=dict)
    config: dict[str, Any] | None = None
    canceled: list[str] = field(default_factory=list)

    def add(self, status: str, *, tag: str = WANTED.tag, build_time: int = RELEASED + 500, **more: Any) -> str:
        found = f"01J{len(self.executions)}"
        trigger = {"type": "docker", "repository": WANTED.repository, "tag": tag}
        self.executions[found] = {
            "id": found, "status": status, "trigger": trigger, "buildTime": build_time, "stages": [], **more
        }  # fmt: skip
        return found

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if path.endswith("/executions/search"):
            since = int(request.url.params["triggerTimeStartBoundary"])
            rows = [row for row in self.executions.values() if row["buildTime"] >= since]
            return httpx.Response(200, json=[{**row, "stages": []} for row in reversed(rows)])
        if path.startswith("/pipelines/") and request.method == "GET":
            found = self.executions.get(path.rsplit("/", 1)[-1])
            return httpx.Response(200, json=found) if found else httpx.Response(404, json={"message": "not found"})
        if path.endswith("/cancel"):
            self.canceled.append(path.split("/")[2])
            return httpx.Response(200)
        if path == "/executions/failedStages":
            return httpx.Response(200, json=[])
        if "/pipelineConfigs/" in path and self.config:
            return httpx.Response(200, json=self.config)
        return httpx.Response(404, json={"message": "not found"})


def stage(status: str, kind: str = "deployManifest", **more: Any) -> dict[str, Any]:
    return {"id": f"s-{kind}", "refId": "1", "type": kind, "name": kind, "status": status, **more}


def deployed() -> dict[str, Any]:
    reference = f"registry.test/ml/churn@{WANTED.digest}"
    return stage("SUCCEEDED", outputs={"boundArtifacts": [{"reference": reference}]})


def system(gate: Gate, now: float = RELEASED / 1000 + 5) -> SpinnakerSystem:
    http = HttpClient(
        "http://gate.test", system="spinnaker", transport=httpx.MockTransport(gate), retry=RetryPolicy.once()
    )
    return SpinnakerSystem(SpinnakerClient(http, "https://deck.test"), WANTED, now=lambda: now)


def look(gate: Gate, **more: Any) -> JobStatus:
    return asyncio.run(system(gate, **more).poll_many([WANTED.id]))[WANTED.id]


def test_before_an_execution_appears_it_is_pending() -> None:
    status = look(Gate())
    assert (status.state, status.native) == (JobState.PENDING, "not_started")
    assert status.url == "https://deck.test/#/applications/churn/executions"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, "there is no pipeline deploy-model of application churn"),
        ({"name": "deploy-model", "disabled": True}, "is disabled"),
        ({"name": "deploy-model", "triggers": []}, "has no docker trigger"),
        ({"name": "deploy-model", "triggers": [{**TRIGGER, "tag": "v.*"}]}, "which release-k-0 does not match"),
        ({"name": "deploy-model", "triggers": [TRIGGER]}, "a tag fires once"),
    ],
)
def test_an_execution_that_never_starts_is_diagnosed(config: dict[str, Any] | None, expected: str) -> None:
    status = look(Gate(config=config), now=RELEASED / 1000 + 601)
    assert (status.state, status.native) == (JobState.FAILED, "never_started")
    assert expected in status.reason


def test_the_execution_is_followed_by_its_id_and_its_stages_are_lines() -> None:
    gate, time = Gate(), Time(now=RELEASED / 1000)
    found = gate.add("RUNNING", stages=[stage("NOT_STARTED", "kayentaCanary"), stage("NOT_STARTED")])
    gate.add("RUNNING", tag="release-k-1")  # another release
    row = gate.executions[found]
    time.at[RELEASED / 1000 + 10] = lambda: row.update(stages=[stage("RUNNING", "kayentaCanary"), stage("NOT_STARTED")])
    time.at[RELEASED / 1000 + 60] = lambda: row.update(
        status="SUCCEEDED", stages=[stage("SUCCEEDED", "kayentaCanary"), deployed()]
    )
    said: list[str] = []
    spinnaker = system(gate)

    async def follow() -> tuple[Outcome, dict[str, Any]]:
        outcome = await Watch(
            poll=alone(spinnaker, now=time, sleep=time.sleep), make=itself, job_id=WANTED.id, emit=said.append
        ).run()
        return outcome, await conclude(lambda: spinnaker, outcome)

    outcome, result = asyncio.run(follow())
    assert outcome.status is not None
    assert outcome.status.state is JobState.SUCCEEDED
    assert result["outcome"] == "deployed"
    assert result["execution_id"] == found
    assert result["bound_reference"].endswith(str(WANTED.digest))
    text = "\n".join(said)
    assert text.count("stage kayentaCanary: RUNNING") == 1
    assert text.count("stage deployManifest: SUCCEEDED") == 1


@pytest.mark.parametrize(
    ("execution", "state", "native"),
    [
        ({"status": "SUCCEEDED", "stages": [deployed()]}, JobState.SUCCEEDED, "deployed"),
        ({"status": "SUCCEEDED", "stages": []}, JobState.FAILED, "succeeded_without_deploy"),
        ({"status": "TERMINAL", "stages": [stage("TERMINAL")]}, JobState.FAILED, "failed"),
        ({"status": "CANCELED", "canceledBy": "alice"}, JobState.STOPPED, "canceled"),
        (
            {"status": "CANCELED", "canceledBy": "spinnaker", "cancellationReason": "a newer one superceded it"},
            JobState.STOPPED,
            "superseded",
        ),
        (
            {
                "status": "TERMINAL",
                "stages": [stage("TERMINAL", "manualJudgment", context={"judgmentStatus": "stop"})],
            },
            JobState.STOPPED,
            "rejected",
        ),
        ({"status": "PAUSED"}, JobState.RUNNING, "running"),
    ],
)
def test_what_came_of_it(execution: dict[str, Any], state: JobState, native: str) -> None:
    gate = Gate()
    gate.add(**execution)
    status = look(gate)
    assert (status.state, status.native) == (state, native)


def test_of_several_executions_the_newest_that_was_not_canceled_counts() -> None:
    gate = Gate()
    gate.add("CANCELED", build_time=RELEASED + 900)
    gate.add("SUCCEEDED", stages=[deployed()], build_time=RELEASED + 700)
    status = look(gate)
    assert status.state is JobState.SUCCEEDED
    assert "1 more executions" in status.reason


def test_it_is_canceled_only_when_it_exists() -> None:
    gate = Gate()
    asyncio.run(system(gate).stop(WANTED.id))
    found = gate.add("RUNNING")
    asyncio.run(system(gate).stop(WANTED.id))
    assert gate.canceled == [found]


def test_an_execution_that_was_cleaned_up_is_missing() -> None:
    gate = Gate()
    found = gate.add("RUNNING")

    async def twice() -> dict[str, JobStatus]:
        spinnaker = system(gate)
        await spinnaker.poll_many([WANTED.id])
        del gate.executions[found]
        return await spinnaker.poll_many([WANTED.id])

    assert asyncio.run(twice()) == {}


def test_a_deployment_travels_as_json() -> None:
    assert Deployment.from_json(WANTED.as_json()) == WANTED
