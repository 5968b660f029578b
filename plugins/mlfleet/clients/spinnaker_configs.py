"""Spinnaker's applications and pipeline configurations through Gate.

Sources: gate ``ApplicationController``, ``PipelineConfigController``, ``PipelineController``, front50
``PipelineController`` (spinnaker/spinnaker; see spinnaker.md for the rest of Gate).

Traps this client knows:

* Saving is ``POST /pipelines`` with the whole configuration: Gate waits for Orca's task and answers an empty 200. The
  id is ours: front50 creates or replaces by it, so that the same call again changes nothing. A name that another id of
  the application has is refused.
* An application is made by a task that must be followed; the same task for one that exists sets its attributes.
* An unreadable application is silently absent from lists (spinnaker.md 1.1).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from mlfleet.clients.answers import mapping
from mlfleet.clients.calls import Expect, segment
from mlfleet.clients.http import HttpClient, SystemClient
from mlfleet.errors import RequestRefused, TransientError

_LOOKS, _PAUSE = 60, 1.0
_UNFINISHED = frozenset({"NOT_STARTED", "RUNNING", "SUSPENDED", "PAUSED", "BUFFERED"})


class SpinnakerConfigs(SystemClient):
    """One Gate. Configurations are handed out as Gate gives them, as JSON objects: their shape is open."""

    def __init__(self, http: HttpClient, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        super().__init__(http)
        self._sleep = sleep

    async def list_applications(self) -> list[dict[str, Any]]:
        """The attributes of all applications that may be read, in one request."""
        return (await self.http.request("GET", "/applications")).objects()

    async def list_pipeline_configs(self) -> list[dict[str, Any]]:
        """The pipelines of all applications, in one request."""
        return (await self.http.request("GET", "/pipelineConfigs")).objects()

    async def save_application(self, name: str, attributes: Mapping[str, Any]) -> None:
        """Create an application, or set the attributes of one that exists. May be sent again.

        Raises RequestRefused when Orca's task fails, TransientError when it does not end within a minute.
        """
        job = {"type": "createApplication", "application": {"name": name, **attributes}}
        body = {"application": name, "description": f"Create application: {name}", "job": [job]}
        path = f"/applications/{segment(name)}/tasks"
        answer = await self.http.request("POST", path, json=body, repeatable=True)
        await self._follow(answer.text("ref").rsplit("/", 1)[-1], name)

    async def save_pipeline(self, config: Mapping[str, Any]) -> None:
        """Create or replace the pipeline that has the configuration's ``id``. May be sent again."""
        await self.http.request("POST", "/pipelines", json=dict(config), expect=Expect.NOTHING, repeatable=True)

    async def _follow(self, task_id: str, application: str) -> None:
        for _ in range(_LOOKS):
            task = (await self.http.request("GET", f"/tasks/{segment(task_id)}")).object()
            status = str(task.get("status") or "RUNNING")
            if status == "SUCCEEDED":
                return
            if status not in _UNFINISHED:
                told = _why(task) or f"its task {task_id} ended {status}"
                raise RequestRefused("spinnaker", f"the application {application} was not saved: {told}")
            await self._sleep(_PAUSE)
        raise TransientError("spinnaker", f"the task {task_id} of the application {application} has not ended yet")


def _why(task: Mapping[str, Any]) -> str:
    """The first error that Orca left among the task's variables, "" without one."""
    variables = task.get("variables")
    for entry in variables if isinstance(variables, list) else ():
        if mapping(entry).get("key") == "exception":
            errors = mapping(mapping(mapping(entry).get("value")).get("details")).get("errors")
            if isinstance(errors, list) and errors:
                return str(errors[0])
    return ""
