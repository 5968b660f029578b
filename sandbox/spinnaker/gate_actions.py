"""Gate's changing routes: starting, cancelling, judging and restarting (reference spinnaker.md, 1.1, 1.5 and 1.7)."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Body
from fastapi.responses import JSONResponse, Response

from sandbox.spinnaker import echo
from sandbox.spinnaker.gate import USER, Behind, Gate, GateError
from sandbox.spinnaker.model import Execution, now_ms, ulid

routes = APIRouter()
Json = Annotated[dict[str, Any], Body()]


@routes.put("/pipelines/{execution_id}/cancel")
async def cancel(execution_id: str, gate: Behind, reason: str = "", force: bool = False) -> Response:
    """Answers before the execution has ended. ``force`` is Gate's, and makes no difference here."""
    gate.orca.cancel(gate.execution(execution_id), USER, reason)
    return Response(status_code=200)


@routes.put("/pipelines/{execution_id}/pause")
async def pause(execution_id: str, gate: Behind) -> Response:
    """Only from RUNNING; anything else is an IllegalStateException of orca."""
    return _changed(gate.orca.pause, gate.execution(execution_id))


@routes.put("/pipelines/{execution_id}/resume")
async def resume(execution_id: str, gate: Behind) -> Response:
    """Only from PAUSED."""
    return _changed(gate.orca.resume, gate.execution(execution_id))


@routes.patch("/pipelines/{execution_id}/stages/{stage_id}")
async def patch(execution_id: str, stage_id: str, body: Json, gate: Behind) -> JSONResponse:
    """Merges the body into the stage's context, whether it runs or not: a judgment is made this way."""
    if body.get("manualSkip"):
        raise GateError(405, "The stage can't be skipped")
    execution = gate.execution(execution_id)
    stage = next((each for each in execution["stages"] if each["id"] == stage_id), None)
    if stage is None:
        raise GateError(404, f"Stage not found (id: {stage_id})")
    stage["context"].update(body, lastModifiedBy=USER)
    stage["lastModified"] = {"user": USER, "allowedAccounts": [], "lastModifiedTime": now_ms()}
    gate.store.save(execution)
    return JSONResponse(execution)


@routes.put("/pipelines/{execution_id}/stages/{stage_id}/restart")
async def restart(execution_id: str, stage_id: str, body: Json, gate: Behind) -> JSONResponse:
    """Runs a stage again; silently nothing for one that can't be. The body must be JSON and says nothing."""
    execution = gate.execution(execution_id)
    gate.orca.restart(execution, stage_id, USER)
    return JSONResponse(execution)


@routes.delete("/pipelines/{execution_id}")
async def delete(execution_id: str, gate: Behind) -> Response:
    """Forgets an execution that has ended."""
    if not gate.orca.delete(gate.execution(execution_id)):
        raise GateError(409, "Cannot delete a running execution")
    return Response(status_code=200)


@routes.post("/pipelines/v2/{application}/{name_or_id}")
async def start_through_echo(application: str, name_or_id: str, body: Json, gate: Behind) -> JSONResponse:
    """Gate draws the id itself and answers before echo has done anything: the execution may never appear."""
    event_id, execution_id = str(uuid.uuid4()), ulid()
    trigger = {**_manual(body, event_id), "executionId": execution_id}
    task = asyncio.create_task(_appear(gate, application, name_or_id, trigger))
    gate.later.add(task)
    task.add_done_callback(gate.later.discard)
    return JSONResponse({"eventId": event_id, "ref": f"/pipelines/{execution_id}"}, 202)


@routes.post("/pipelines/{application}/{name_or_id}")
async def start(application: str, name_or_id: str, body: Json, gate: Behind) -> JSONResponse:
    """The older start, straight to orca: the execution is there when this answers."""
    pipeline = gate.pipelines.find(application, name_or_id)
    if pipeline is None:
        raise GateError(404, f"Unable to locate pipeline {name_or_id} of {application}")
    if pipeline.get("disabled"):
        raise GateError(400, "The pipeline is disabled")
    execution = gate.orca.start(pipeline, _manual(body, str(uuid.uuid4())))
    return JSONResponse({"ref": f"/pipelines/{execution['id']}"}, 202)


@routes.post("/webhooks/{kind}/{source}")
async def webhook(kind: str, source: str, body: Json, gate: Behind) -> JSONResponse:
    """Says that the event was processed, whatever it started."""
    started = echo.webhook_started_by(source, kind, body, gate.pipelines.all())
    for pipeline, trigger in started:
        gate.orca.start(pipeline, trigger)
    event_id = started[0][1]["eventId"] if started else str(uuid.uuid4())
    return JSONResponse({"eventProcessed": True, "eventId": event_id})


def _changed(change: Callable[[Execution, str], None], execution: Execution) -> Response:
    try:
        change(execution, USER)
    except ValueError as error:
        raise GateError(500, str(error)) from error
    return Response(status_code=200)


async def _appear(gate: Gate, application: str, name_or_id: str, trigger: dict[str, Any]) -> None:
    await asyncio.sleep(gate.switches.appears_after_s)
    pipeline = gate.pipelines.find(application, name_or_id)
    if pipeline is not None and not pipeline.get("disabled"):
        gate.orca.start(pipeline, trigger, trigger["executionId"])


def _manual(body: dict[str, Any], event_id: str) -> dict[str, Any]:
    return {"type": "manual", "parameters": {}, "artifacts": [], "correlationId": None, "dryRun": False,
            "user": USER, **body, "eventId": event_id}  # fmt: skip
