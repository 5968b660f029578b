"""Gate's reading routes: applications, pipeline configurations, executions (reference spinnaker.md, 1.1)."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse, Response

from sandbox.spinnaker.gate import USER, Behind, Gate, GateError, shown
from sandbox.spinnaker.model import Execution, Stage, now_ms

HISTORY_MS = 14 * 24 * 3600 * 1000
VERSION = "2026.2.3"

routes = APIRouter()


@routes.get("/health")
async def health() -> dict[str, str]:
    """Spring's health answer."""
    return {"status": "UP"}


@routes.get("/version")
async def version() -> dict[str, str]:
    """The release this is modelled on."""
    return {"version": VERSION}


@routes.get("/auth/user")
async def user(request: Request, gate: Behind) -> Response:
    """Everybody is the same person here; a caller without the token that is asked for is nobody: an empty 200."""
    if not gate.knows(request):
        return Response(status_code=200)
    return JSONResponse({"username": USER, "roles": [], "allowedAccounts": []})


@routes.get("/applications")
async def applications(gate: Behind) -> JSONResponse:
    """Every application that was made or has a pipeline."""
    names = {pipeline["application"] for pipeline in gate.pipelines.all()} | set(gate.applications.all())
    return JSONResponse([_application(gate, name) for name in sorted(names)])


@routes.get("/applications/{application}")
async def application(application: str, gate: Behind) -> JSONResponse:
    """One application, 404 when it was not made and has no pipeline."""
    if not gate.pipelines.of(application) and application not in gate.applications.all():
        raise GateError(404, f"Application not found (id: {application})")
    return JSONResponse({"name": application, "attributes": _application(gate, application), "clusters": {}})


@routes.get("/applications/{application}/pipelineConfigs")
async def configs(
    application: str, gate: Behind, name: Annotated[str, Query(alias="pipelineNameFilter")] = ""
) -> JSONResponse:
    """The pipelines of an application, [] for one that does not exist."""
    return JSONResponse([each for each in gate.pipelines.of(application) if name in each["name"]])


@routes.get("/applications/{application}/pipelineConfigs/{name}")
async def config(application: str, name: str, gate: Behind) -> JSONResponse:
    """One pipeline."""
    found = gate.pipelines.find(application, name)
    if found is None:
        raise GateError(404, f"Pipeline config (id: {name}) not found")
    return JSONResponse(found)


@routes.get("/applications/{application}/pipelines")
async def history(
    application: str, gate: Behind, limit: int = 10, statuses: str = "", expand: bool = True
) -> JSONResponse:
    """Executions of an application; ``limit`` counts per pipeline."""
    ids = [pipeline["id"] for pipeline in gate.pipelines.of(application)]
    return shown(_recent(gate, ids, limit, statuses), expand)


@routes.get("/executions")
async def executions(
    gate: Behind,
    by_id: Annotated[str, Query(alias="executionIds")] = "",
    by_pipeline: Annotated[str, Query(alias="pipelineConfigIds")] = "",
    limit: int = 1,
    statuses: str = "",
    expand: bool = True,
) -> JSONResponse:
    """Many executions at once; unknown ids are silently absent."""
    if by_id and by_pipeline:
        raise GateError(400, "Only executionIds or pipelineConfigIds can be given, not both")
    if by_id:
        known = {each["id"]: each for each in gate.newest_first()}
        return shown([known[each] for each in by_id.split(",") if each in known], expand)
    return shown(_recent(gate, [each for each in by_pipeline.split(",") if each], limit, statuses), expand)


@routes.get("/executions/failedStages")
async def failed_stages(
    gate: Behind,
    execution_id: Annotated[str, Query(alias="executionId")],
    origin: Annotated[str, Query(alias="deckOrigin")] = "",
    limit: int = 1,
) -> JSONResponse:
    """The stages that failed, with their pages in Deck."""
    execution = gate.execution(execution_id)
    failed = [each for each in execution["stages"] if each["status"] in ("TERMINAL", "STOPPED", "FAILED_CONTINUE")]
    return JSONResponse([_failed_stage(execution, stage, origin) for stage in failed[:limit]])


@routes.get("/pipelines/{execution_id}")
async def one(execution_id: str, gate: Behind) -> Response:
    """One execution. Gate turns every trouble of orca but 404 into an empty 200."""
    if gate.switches.spend("empty_200"):
        return Response(status_code=200)
    return JSONResponse(gate.execution(execution_id))


def _application(gate: Gate, name: str) -> dict[str, Any]:
    made = gate.applications.all().get(name, {})
    return {"name": name, "email": "", "cloudProviders": "kubernetes", **made}


def _recent(gate: Gate, config_ids: list[str], limit: int, statuses: str) -> list[Execution]:
    """Of each pipeline the newest of the last 14 days, or two older ones when there is none."""
    wanted, found = set(filter(None, statuses.split(","))), []
    for config_id in config_ids:
        mine = [each for each in gate.newest_first() if each["pipelineConfigId"] == config_id]
        recent = [each for each in mine if each["buildTime"] > now_ms() - HISTORY_MS] or mine[:2]
        found += [each for each in recent if not wanted or each["status"] in wanted][:limit]
    return found


def _failed_stage(execution: Execution, stage: Stage, origin: str) -> dict[str, Any]:
    index = execution["stages"].index(stage)
    path = f"/#/applications/{quote(execution['application'])}/executions/details/{execution['id']}"
    # Filled in by orca for nested pipelines, which the sandbox does not have.
    nothing = dict.fromkeys(
        f"{relative}Pipeline{part}"
        for relative in ("parent", "child")
        for part in ("ExecutionId", "ExecutionName", "Application", "ExecutionUrl")
    )
    return {
        **nothing, "pipelineExecutionId": execution["id"], "pipelineExecutionName": execution["name"],
        "pipelineApplication": execution["application"],
        "pipelineExecutionUrl": f"{origin}{path}?stage={index}&step=0", "stageId": stage["id"],
        "stageName": stage["name"], "stageType": stage["type"], "stageStatus": stage["status"],
        "stageException": stage["context"].get("exception", {}).get("details", {}).get("error"),
    }  # fmt: skip
