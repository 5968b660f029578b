"""The part of Polyaxon's REST API that an agent needs. Source: reference page polyaxon, sections 2 and 3."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx

from sandbox.polyaxon.agent.journal import Run, Status

# Statuses in which the server believes that an agent has the run: LifeCycle.ON_K8S_VALUES and what the agent posts.
HELD = ("scheduled", "starting", "processing", "running", "retrying", "warning", "unschedulable", "unknown")
DONE = frozenset({"succeeded", "failed", "upstream_failed", "stopped", "skipped"})
KINDS = "kind:job|service|tuner|notifier"
_PAGE = 100


class ServerUnavailable(Exception):
    """No usable answer: what the server did with the request is not known, try again later."""


class RequestRefused(Exception):
    """The server answered 4xx; `status` is its number."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status}: {text[:200]}")
        self.status = status


class AgentApi:
    """The agent's requests; any of them raises ServerUnavailable or RequestRefused."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        # No proxy: the server is on this machine.
        self._http = httpx.Client(base_url=url, timeout=30.0, trust_env=False, transport=transport)

    def hurry(self) -> None:
        """Wait no longer than moments for an answer from now on."""
        self._http.timeout = httpx.Timeout(3.0)

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def state(self) -> tuple[list[Run], list[str]]:
        """Runs to start and uuids of runs to stop.

        Destructive: the server notes the runs to start as `scheduled` and never names them again. An answer that is
        lost leaves them hanging, which is what `held` is for.
        """
        state = self._call("GET", "/api/v1/orgs/default/agents/state").get("state") or {}
        queued = [_run(*entry[:4]) for entry in state.get("queued") or []]
        stopping = [entry[0].rpartition(".")[2] for entry in state.get("stopping") or []]
        # Runs that were deleted while they ran come without content.
        stopping += [entry[0].rpartition(".")[2] for entry in state.get("deleting") or [] if not entry[3]]
        return queued, stopping

    def cron(self) -> None:
        """Let the server do what it does from time to time; deletions stay with the server's own cron."""
        self._call("POST", "/api/v1/orgs/default/agents/cron", {"state": False})

    def held(self) -> dict[str, str]:
        """Uuid -> status of all runs of all projects that the server believes to be with an agent."""
        query = f"status:{'|'.join(HELD)},{KINDS},managed_by:agent"
        found = {}
        for project in self._pages("/api/v1/default/projects/list", {}):
            for row in self._pages(f"/api/v1/default/{project['name']}/runs", {"query": query, "sort": "created_at"}):
                found[row["uuid"]] = row["status"]
        return found

    def run(self, uuid: str) -> tuple[Run, str] | None:
        """A run with its status, whichever project it is in; None when it is gone."""
        try:
            row = self._call("GET", f"/api/v1/orgs/default/runs/{uuid}")
        except RequestRefused as error:
            if error.status == httpx.codes.NOT_FOUND:
                return None
            raise
        instance = f"{row['owner'] or 'default'}.{row['project']}.runs.{uuid}"
        # live_state: 1 live, 0 archived, -1 being deleted.
        status = row["status"] if row.get("live_state", 1) >= 0 else "stopped"
        return _run(instance, row["runtime"], row["name"], row["content"]), status

    def post_status(self, run: Run, status: Status) -> None:
        """Add a condition to the run; a run that is done ignores it."""
        condition: dict[str, Any] = {"type": status.type, "status": "True", "reason": status.reason}
        condition["message"] = status.message
        if status.meta_info:
            condition["meta_info"] = status.meta_info
        self._call("POST", f"/api/v1/{run.owner}/{run.project}/runs/{run.uuid}/statuses", {"condition": condition})

    def _pages(self, path: str, params: dict[str, str]) -> Iterator[dict[str, Any]]:
        offset = 0
        while True:
            page = self._call("GET", path, params={**params, "limit": str(_PAGE), "offset": str(offset)})
            yield from page["results"]
            offset += _PAGE
            if offset >= page["count"]:
                return

    def _call(
        self, method: str, path: str, body: dict[str, Any] | None = None, params: dict[str, str] | None = None
    ) -> dict[str, Any]:
        try:
            answer = self._http.request(method, path, json=body, params=params)
        except httpx.HTTPError as error:
            raise ServerUnavailable(f"{method} {path}: {error!r}") from error
        # 405 with an empty body is how a 500 of this server looks on POST.
        if answer.status_code >= 500 or answer.status_code == 405:
            raise ServerUnavailable(f"{method} {path}: {answer.status_code}")
        if not answer.is_success:
            raise RequestRefused(answer.status_code, answer.text)
        return dict(answer.json() or {})


def _run(instance: str, runtime: str, name: str | None, content: str) -> Run:
    """`instance` is <owner>.<project>.runs.<uuid>; a project's name may hold dots."""
    name_of_project, _, uuid = instance.rsplit(".", 2)
    owner, project = name_of_project.split(".", 1)
    return Run(owner=owner, project=project, uuid=uuid, name=name or uuid, runtime=runtime, content=content or "")
