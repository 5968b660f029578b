"""Gate's routes that list and save pipelines and make applications.

From gate's ``PipelineConfigController``, ``PipelineController``, ``ApplicationController`` and ``TaskController``.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import JSONResponse, Response

from sandbox.spinnaker.front50 import Invalid
from sandbox.spinnaker.gate import USER, Behind, GateError

routes = APIRouter()
Json = Annotated[dict[str, Any], Body()]


@routes.get("/pipelineConfigs")
async def configs(gate: Behind) -> JSONResponse:
    """The pipelines of all applications."""
    return JSONResponse(gate.pipelines.all())


@routes.post("/pipelines")
async def save(body: Json, gate: Behind) -> Response:
    """Gate waits for orca's task, and answers nothing when it has succeeded."""
    try:
        gate.pipelines.save(body, USER)
    except Invalid as error:
        raise GateError(400, str(error)) from error
    return Response(status_code=200)


@routes.post("/applications/{application}/tasks")
async def submit(application: str, body: Json, gate: Behind) -> JSONResponse:
    """A task that makes an application."""
    return JSONResponse({"ref": f"/tasks/{gate.applications.submit({'application': application, **body}, USER)}"})


@routes.get("/tasks/{task_id}")
async def task(task_id: str, gate: Behind) -> JSONResponse:
    """How a task is."""
    found = gate.applications.task(task_id)
    if found is None:
        raise GateError(404, f"Task not found (id: {task_id})")
    return JSONResponse(found)
