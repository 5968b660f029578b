"""Gate's REST API over the stand-in (reference spinnaker.md, 1.1); its defects are on purpose."""

from __future__ import annotations

import asyncio
from datetime import datetime, timezone
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Body, Request
from fastapi.responses import JSONResponse, Response

from sandbox.spinnaker.model import COMPLETE, Execution, Store, now_ms, ulid, without_details
from sandbox.spinnaker.orca import Orca, Pipelines
from sandbox.spinnaker.search import BadSearch, decoded, matches, page
from sandbox.spinnaker.switches import Switches

HISTORY_MS = 14 * 24 * 3600 * 1000
APPEARS_AFTER_SECONDS = 1.0


class GateError(Exception):
    """An answer in Spring's error format."""

    def __init__(self, status: int, error: str, message: str) -> None:
        super().__init__(message)
        self.status, self.error = status, error


def error_answer(request: Request, error: Exception) -> JSONResponse:
    """Spring's default error body."""
    status, word = (error.status, error.error) if isinstance(error, GateError) else (500, "Internal Server Error")
    when = datetime.now(timezone.utc).isoformat()  # noqa: UP017 - one name on every Python
    return JSONResponse({"timestamp": when, "status": status, "error": word, "message": str(error)}, status)


def router(store: Store, pipelines: Pipelines, orca: Orca, switches: Switches) -> APIRouter:
    """All of Gate's routes."""
    api = APIRouter()
    _read_routes(api, store, pipelines, switches)
    _search_routes(api, store, pipelines)
    _action_routes(api, store, pipelines, orca)
    return api


def _execution(store: Store, execution_id: str) -> Execution:
    found = store.executions.get(execution_id)
    if found is None:
        raise GateError(404, "Not Found", f"Pipeline not found (id: {execution_id})")
    return found


def _shown(execution: Execution, expand: bool) -> Execution:
    return execution if expand else without_details(execution)


def _newest_first(store: Store) -> list[Execution]:
    return sorted(store.executions.values(), key=lambda each: (each["buildTime"], each["id"]), reverse=True)


def _read_routes(api: APIRouter, store: Store, pipelines: Pipelines, switches: Switches) -> None:
    @api.get("/health")
    def health() -> dict[str, Any]:
        return {"status": "UP"}

    @api.get("/version")
    def version() -> dict[str, Any]:
        return {"version": "2026.2.3"}

    @api.get("/auth/user")
    def user() -> dict[str, Any]:
        return {"username": "sandbox", "roles": [], "allowedAccounts": []}

    @api.get("/applications")
    def applications() -> list[dict[str, Any]]:
        names = sorted({pipeline["application"] for pipeline in pipelines.all()})
        return [{"name": name, "email": "", "cloudProviders": "kubernetes"} for name in names]

    @api.get("/applications/{application}")
    def application(application: str) -> dict[str, Any]:
        if not pipelines.of(application):
            raise GateError(404, "Not Found", f"Application not found (id: {application})")
        return {"name": application, "attributes": {"name": application}, "clusters": {}}

    @api.get("/applications/{application}/pipelineConfigs")
    def configs(application: str, pipelineNameFilter: str | None = None) -> list[dict[str, Any]]:
        return [p for p in pipelines.of(application) if not pipelineNameFilter or pipelineNameFilter in p["name"]]

    @api.get("/applications/{application}/pipelineConfigs/{name}")
    def config(application: str, name: str) -> dict[str, Any]:
        found = pipelines.find(application, name)
        if found is None:
            raise GateError(404, "Not Found", f"Pipeline config (id: {name}) not found")
        return found

    @api.get("/pipelines/{execution_id}", response_model=None)
    def one(execution_id: str) -> Response | Execution:
        if switches.spend("empty_200"):
            return Response(status_code=200)
        return _execution(store, execution_id)

    @api.get("/executions")
    def executions(
        executionIds: str | None = None, pipelineConfigIds: str | None = None, limit: int = 1, expand: bool = True,
    ) -> list[Execution]:  # fmt: skip
        if executionIds and pipelineConfigIds:
            raise GateError(400, "Bad Request", "Only executionIds or pipelineConfigIds can be given, not both")
        if executionIds:
            wanted = [store.executions.get(each) for each in executionIds.split(",")]
            return [_shown(found, expand) for found in wanted if found]
        found = []
        for config_id in (pipelineConfigIds or "").split(","):
            found += [e for e in _newest_first(store) if e["pipelineConfigId"] == config_id][:limit]
        return [_shown(each, expand) for each in found]

    @api.get("/executions/failedStages")
    def failed_stages(executionId: str, limit: int = 1) -> list[dict[str, Any]]:
        execution = _execution(store, executionId)
        failed = [s for s in execution["stages"] if s["status"] in ("TERMINAL", "STOPPED", "FAILED_CONTINUE")]
        return [_failed_stage(execution, stage) for stage in failed[:limit]]


def _failed_stage(execution: Execution, stage: dict[str, Any]) -> dict[str, Any]:
    index = execution["stages"].index(stage)
    url = f"/#/applications/{quote(execution['application'])}/executions/details/{execution['id']}?stage={index}&step=0"
    nothing = dict.fromkeys(
        f"{relative}Pipeline{part}"
        for relative in ("parent", "child")
        for part in ("ExecutionId", "ExecutionName", "Application", "ExecutionUrl")
    )
    details = stage["context"].get("exception", {}).get("details", {})
    return {
        **nothing, "pipelineExecutionId": execution["id"], "pipelineExecutionName": execution["name"],
        "pipelineApplication": execution["application"], "pipelineExecutionUrl": url, "stageId": stage["id"],
        "stageName": stage["name"], "stageType": stage["type"], "stageStatus": stage["status"],
        "stageException": details.get("error"),
    }  # fmt: skip


def _search_routes(api: APIRouter, store: Store, pipelines: Pipelines) -> None:
    @api.get("/applications/{application}/pipelines")
    def history(application: str, limit: int = 10, statuses: str = "", expand: bool = True) -> list[Execution]:
        found, wanted = [], {each for each in statuses.split(",") if each}
        for pipeline in pipelines.of(application):
            mine = [e for e in _newest_first(store) if e["pipelineConfigId"] == pipeline["id"]]
            recent = [e for e in mine if e["buildTime"] > now_ms() - HISTORY_MS] or mine[:2]
            found += [e for e in recent if not wanted or e["status"] in wanted][:limit]
        return [_shown(each, expand) for each in found]

    @api.get("/applications/{application}/executions/search")
    def search(
        application: str, triggerTypes: str = "", pipelineName: str = "", eventId: str = "", trigger: str | None = None,
        triggerTimeStartBoundary: int = 0, triggerTimeEndBoundary: int = 2**62, statuses: str = "",
        startIndex: int = 0, size: int = 10, reverse: bool = False, expand: bool = False,
    ) -> list[Execution]:  # fmt: skip
        if triggerTimeStartBoundary < 0 or triggerTimeEndBoundary < triggerTimeStartBoundary:
            raise GateError(400, "Bad Request", "Trigger time boundaries are inverted or negative")
        known = pipelines.all() if application == "*" else pipelines.of(application)
        ids = {pipeline["id"] for pipeline in known if pipelineName in ("", pipeline["name"])}
        types, states = set(filter(None, triggerTypes.split(","))), set(filter(None, statuses.split(",")))
        try:
            subset = decoded(trigger)

            def wanted(execution: Execution) -> bool:
                return (
                    execution["pipelineConfigId"] in ids
                    and triggerTimeStartBoundary <= execution["buildTime"] <= triggerTimeEndBoundary
                    and (not types or execution["trigger"]["type"] in types)
                    and (not states or execution["status"] in states)
                    and eventId in ("", execution["trigger"].get("eventId"))
                    and matches(subset, execution["trigger"])
                )

            ordered = _newest_first(store)
            found = page(ordered[::-1] if reverse else ordered, wanted, startIndex, size)
        except BadSearch as error:
            raise GateError(error.status, "Search failed", str(error)) from error
        return [_shown(each, expand) for each in found]


def _action_routes(api: APIRouter, store: Store, pipelines: Pipelines, orca: Orca) -> None:
    later: set[asyncio.Task[None]] = set()

    def pipeline_of(application: str, name_or_id: str) -> dict[str, Any]:
        found = pipelines.find(application, name_or_id)
        if found is None:
            raise GateError(404, "Not Found", f"Unable to locate pipeline {name_or_id} of {application}")
        return found

    @api.put("/pipelines/{execution_id}/cancel")
    async def cancel(execution_id: str, reason: str = "", force: bool = False) -> Response:
        orca.cancel(_execution(store, execution_id), "sandbox", reason)
        return Response(status_code=200)

    @api.patch("/pipelines/{execution_id}/stages/{stage_id}")
    async def patch(execution_id: str, stage_id: str, body: dict[str, Any] = Body()) -> Execution:  # noqa: B008
        execution = _execution(store, execution_id)
        for stage in execution["stages"]:
            if stage["id"] == stage_id:
                stage["context"].update(body, lastModifiedBy="sandbox")
                stage["lastModified"] = {"user": "sandbox", "allowedAccounts": [], "lastModifiedTime": now_ms()}
                store.save(execution)
                return execution
        raise GateError(404, "Not Found", f"Stage not found (id: {stage_id})")

    @api.put("/pipelines/{execution_id}/stages/{stage_id}/restart")
    async def restart(execution_id: str, stage_id: str, body: dict[str, Any] = Body()) -> Execution:  # noqa: B008
        execution = _execution(store, execution_id)
        orca.restart(execution, stage_id)
        return execution

    @api.delete("/pipelines/{execution_id}")
    async def delete(execution_id: str) -> Response:
        if not orca.delete(_execution(store, execution_id)):
            raise GateError(409, "Conflict", "Cannot delete a running execution")
        return Response(status_code=200)

    @api.post("/pipelines/v2/{application}/{name_or_id}", status_code=202)
    async def start_through_echo(application: str, name_or_id: str, body: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008
        # Gate draws the id itself and answers before echo has done anything: the execution may never appear.
        event = str(ulid())
        trigger, execution_id = _manual(body, event), ulid()

        async def appear() -> None:
            await asyncio.sleep(APPEARS_AFTER_SECONDS)
            pipeline = pipelines.find(application, name_or_id)
            if pipeline is not None and not pipeline.get("disabled"):
                orca.start(pipeline, trigger, execution_id)

        task = asyncio.create_task(appear())
        later.add(task)
        task.add_done_callback(later.discard)
        return {"eventId": event, "ref": f"/pipelines/{execution_id}"}

    @api.post("/pipelines/{application}/{name_or_id}", status_code=202)
    async def start(application: str, name_or_id: str, body: dict[str, Any] = Body()) -> dict[str, Any]:  # noqa: B008
        pipeline = pipeline_of(application, name_or_id)
        if pipeline.get("disabled"):
            raise GateError(400, "Bad Request", "The pipeline is disabled")
        return {"ref": f"/pipelines/{orca.start(pipeline, _manual(body, ulid()))['id']}"}


def _manual(body: dict[str, Any], event: str) -> dict[str, Any]:
    return {"type": "manual", "parameters": {}, "artifacts": [], "correlationId": None, "dryRun": False,
            "user": "sandbox", **body, "eventId": event}  # fmt: skip


def pending_judgments(execution: Execution) -> list[str]:
    """Names of the judgments that wait for a person."""
    if execution["status"] in COMPLETE:
        return []
    return [s["name"] for s in execution["stages"] if s["type"] == "manualJudgment" and s["status"] == "RUNNING"]
