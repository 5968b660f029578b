"""A Polyaxon sandbox for tests: the real server, an agent that can be killed and restarted, and a small REST driver."""

from __future__ import annotations

import contextlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import SERVICES_PYTHON, Service, start_service, wait_for

DONE = {"succeeded", "failed", "stopped", "skipped", "upstream_failed"}
AGENT_OPTIONS = ("--grace", "1", "--reconcile", "2")


@dataclass
class PolyaxonSandbox:
    """Server at `url`, state in `state`; `start_agent`, `stop_agent` and `kill_agent` may be called in any order."""

    url: str
    state: Path
    logs: Path
    project: str = "lab"
    agent: Service | None = None
    _agents: int = 0
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    _agent_stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.http = self._stack.enter_context(httpx.Client(base_url=self.url, timeout=30, trust_env=False))
        self.create_project(self.project)

    def close(self) -> None:
        with self._stack:
            self.stop_agent()

    # The agent

    def agent_command(self, *options: str) -> list[str]:
        command = [str(SERVICES_PYTHON), "-m", "sandbox.polyaxon.agent", "--url", self.url, "--state", str(self.state)]
        return [*command, "--python-path", str(SERVICES_PYTHON.parent), *AGENT_OPTIONS, *options]

    def start_agent(self, *options: str) -> Service:
        assert self.agent is None, "there is an agent already"
        self._agents += 1
        log = self.logs / f"polyaxon-agent-{self._agents}.log"
        agent = self.agent = self._agent_stack.enter_context(start_service(self.agent_command(*options), log=log))
        wait_for(lambda: "agent of" in agent.log_tail(), "the agent's first line")
        return agent

    def stop_agent(self) -> None:
        """SIGTERM; asserts that it leaves nothing behind."""
        self.agent = None
        self._agent_stack.close()

    def kill_agent(self) -> None:
        """SIGKILL to the agent alone; what it started stays, and is asserted to be gone at the next `stop_agent`."""
        assert self.agent is not None
        self.agent.kill()
        self.agent = None

    # REST

    def create_project(self, name: str) -> None:
        answer = self.http.post("/api/v1/default/projects/create", json={"name": name})
        assert answer.status_code in (201, 400), answer.text

    def submit(self, content: dict[str, Any], **fields: Any) -> str:
        body = {"content": json.dumps(content), "name": "test", **fields}
        answer = self.http.post(f"{self._runs}", json=body)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["uuid"])

    def run(self, uuid: str) -> dict[str, Any]:
        return dict(self.http.get(f"{self._runs}/{uuid}").raise_for_status().json())

    def wait(self, uuid: str, *statuses: str, timeout: float = 60) -> dict[str, Any]:
        """The run once it has one of `statuses` (default: any terminal one)."""
        wanted = set(statuses) or DONE

        def probe() -> dict[str, Any] | None:
            run = self.run(uuid)
            assert run["status"] in wanted or run["status"] not in DONE, self.conditions(uuid)
            return run if run["status"] in wanted else None

        return wait_for(probe, f"run {uuid} to be {sorted(wanted)}", timeout)

    def conditions(self, uuid: str) -> list[dict[str, Any]]:
        answer = self.http.get(f"{self._runs}/{uuid}/statuses").raise_for_status()
        return list(answer.json()["status_conditions"])

    def children(self, uuid: str, **params: str) -> list[dict[str, Any]]:
        answer = self.http.get(self._runs, params={"query": f"pipeline:{uuid}", "limit": "100", **params})
        return list(answer.raise_for_status().json()["results"])

    def stop(self, uuid: str) -> None:
        self.http.post(f"{self._runs}/{uuid}/stop").raise_for_status()

    def log(self, uuid: str) -> list[str]:
        """What the run printed, without the agent's own lines."""
        path = f"/streams/v1/polyaxon/default/{self.project}/runs/{uuid}/logs"
        answer = self.http.get(path, params={"force": "true"}).raise_for_status()
        return [line["value"] for line in answer.json()["logs"] if line["container"] != "polyaxon-agent"]

    @property
    def _runs(self) -> str:
        return f"/api/v1/default/{self.project}/runs"


def job(*command: str, files: dict[str, str] | None = None, **more: Any) -> dict[str, Any]:
    """A component that runs one command; `files` are init files, `container`, `termination`, `inputs` add to it."""
    container = {"name": "main", "command": list(command), **more.pop("container", {})}
    run: dict[str, Any] = {"kind": "job", "container": container, **more.pop("run", {})}
    if files:
        run["init"] = [{"file": {"filename": name, "content": text}} for name, text in files.items()]
    return {"version": 1.1, "kind": "component", "run": run, **more}
