"""The agent's loop against a server that is only a transport: lost answers, refusals, double hand-overs."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from sandbox.polyaxon.agent.api import AgentApi, RequestRefused, ServerUnavailable
from sandbox.polyaxon.agent.journal import Journal, Run, Status
from sandbox.polyaxon.agent.loop import Agent, Rhythm
from sandbox.polyaxon.agent.workspace import Workspace


def content(*command: str) -> str:
    return json.dumps({"run": {"kind": "job", "container": {"command": list(command)}}})


class Server:
    """What the agent can see of haupt; `broken` answers as haupt does when its database fails."""

    def __init__(self) -> None:
        self.queued: list[list[Any]] = []
        self.stopping: list[list[Any]] = []
        self.deleting: list[list[Any]] = []
        self.runs: dict[str, dict[str, Any]] = {}
        self.posted: dict[str, list[str]] = {}
        self.broken = False

    def add(self, uuid: str, status: str, *command: str) -> None:
        fields = {"owner": "default", "project": "lab", "name": None, "runtime": "job", "live_state": 1}
        self.runs[uuid] = {"uuid": uuid, "status": status, "content": content(*command), **fields}

    def hand_over(self, uuid: str, *command: str) -> None:
        self.add(uuid, "scheduled", *command)
        self.queued.append([f"default.lab.runs.{uuid}", "job", None, content(*command), None])

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.broken:
            return httpx.Response(405)
        path = request.url.path
        if path.endswith("/agents/state"):
            state = {"queued": self.queued, "stopping": self.stopping, "deleting": self.deleting}
            self.queued = []
            return httpx.Response(200, json={"state": state})
        if path.endswith("/agents/cron"):
            return httpx.Response(200, json={})
        if path.endswith("/projects/list"):
            return httpx.Response(200, json={"count": 1, "results": [{"name": "lab"}]})
        if path == "/api/v1/default/lab/runs":
            offset, limit = int(request.url.params["offset"]), int(request.url.params["limit"])
            held = [run for run in self.runs.values() if run["status"] in ("scheduled", "starting", "running")]
            return httpx.Response(200, json={"count": len(held), "results": held[offset : offset + limit]})
        found = re.fullmatch(r"/api/v1/orgs/default/runs/(\w+)|/api/v1/default/lab/runs/(\w+)/statuses", path)
        assert found, path
        uuid = found[1] or found[2]
        if uuid not in self.runs:
            return httpx.Response(404, json={"detail": "No Run matches the given query."})
        if found[2]:
            status = json.loads(request.content)["condition"]["type"]
            self.posted.setdefault(uuid, []).append(status)
            self.runs[uuid]["status"] = status
            return httpx.Response(201, json={})
        return httpx.Response(200, json=self.runs[uuid])


@pytest.fixture
def server() -> Server:
    return Server()


@pytest.fixture
def agent(server: Server, tmp_path: Path) -> Agent:
    api = AgentApi("http://server", transport=httpx.MockTransport(server))
    workspace = Workspace("http://server", tmp_path / "data", None, grace=0.5)
    return Agent(api, Journal(tmp_path / "runs"), workspace, Rhythm(reconcile=0))


def turn_until(agent: Agent, done: Any) -> None:
    end = time.monotonic() + 30
    while not done():
        assert time.monotonic() < end, "waited in vain"
        agent.turn()
        time.sleep(0.02)


def test_statuses_arrive_in_order_after_the_server_was_away(agent: Agent, server: Server) -> None:
    server.hand_over("u1", "true")
    agent.turn()
    server.broken = True
    folder = agent.journal.folder("u1")
    turn_until(agent, folder.ended)
    for _ in range(3):
        agent.turn()
    assert server.posted["u1"] == ["starting"]
    server.broken = False
    turn_until(agent, lambda: not list(agent.journal))
    assert server.posted["u1"] == ["starting", "running", "succeeded"]


def test_a_run_that_is_handed_over_twice_runs_once(agent: Agent, server: Server, tmp_path: Path) -> None:
    command = ("sh", "-c", f"echo x >> {tmp_path}/count; while ! test -e {tmp_path}/gate; do sleep 0.05; done")
    server.hand_over("u1", *command)
    agent.turn()
    server.hand_over("u1", *command)
    agent.turn()
    (tmp_path / "gate").touch()
    turn_until(agent, lambda: not list(agent.journal))
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_run_that_is_gone_on_the_server_is_ended_and_forgotten(agent: Agent, server: Server) -> None:
    server.hand_over("u1", "sleep", "300")
    turn_until(agent, lambda: server.posted.get("u1", [])[-1:] == ["running"])
    del server.runs["u1"]
    turn_until(agent, lambda: not list(agent.journal))


def test_runs_deleted_while_they_run_are_named_by_the_state(agent: Agent, server: Server) -> None:
    server.hand_over("u1", "sleep", "300")
    turn_until(agent, lambda: server.posted.get("u1", [])[-1:] == ["running"])
    server.deleting = [["default.lab.runs.u1", "job", None, None, None]]
    turn_until(agent, lambda: not list(agent.journal))
    assert server.posted["u1"][-1] == "stopped"


def test_more_lost_runs_than_a_page_holds_are_all_found(agent: Agent, server: Server) -> None:
    for number in range(205):
        server.add(f"u{number}", "running", "true")
    agent.turn()
    assert {posted[-1] for posted in server.posted.values()} == {"failed"}
    assert len(server.posted) == 205


def test_a_runtime_of_kubernetes_fails(agent: Agent, server: Server) -> None:
    server.hand_over("u1", "true")
    server.queued[0][1] = "tfjob"
    turn_until(agent, lambda: "u1" not in agent.journal and server.posted.get("u1"))
    assert server.posted["u1"] == ["starting", "failed"]


def test_a_half_accepted_run_is_started_by_the_next_agent(agent: Agent, server: Server) -> None:
    server.add("u1", "scheduled", "true")
    agent.journal.folder("u1").create(Run("default", "lab", "u1", "n", "job", content("true")))
    agent.adopt()
    turn_until(agent, lambda: not list(agent.journal))
    assert server.posted["u1"][-1] == "succeeded"


def test_an_empty_405_means_unavailable_and_404_is_told(server: Server) -> None:
    api = AgentApi("http://server", transport=httpx.MockTransport(server))
    with pytest.raises(RequestRefused, match="No Run"):
        api.post_status(Run("default", "lab", "u1", "n", "job", "{}"), Status("failed", "r", "m"))
    server.broken = True
    with pytest.raises(ServerUnavailable):
        api.state()
