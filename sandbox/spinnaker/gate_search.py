"""Gate's search for executions (reference spinnaker.md, 1.4)."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from sandbox.spinnaker.gate import Behind, Gate, GateError, shown
from sandbox.spinnaker.model import Execution
from sandbox.spinnaker.search import BadSearch, decoded, matches, page

routes = APIRouter()


class Wanted(BaseModel):
    """The parameters of a search; times are epoch milliseconds and bound the time of building, both inclusive."""

    trigger_types: str = Field("", alias="triggerTypes")
    pipeline_name: str = Field("", alias="pipelineName")
    event_id: str = Field("", alias="eventId")
    trigger: str = ""
    since: int = Field(0, alias="triggerTimeStartBoundary")
    until: int = Field(2**62, alias="triggerTimeEndBoundary")
    statuses: str = ""
    start: int = Field(0, alias="startIndex")
    size: int = 10
    reverse: bool = False
    expand: bool = False

    def accepts(self, execution: Execution, subset: dict[str, Any]) -> bool:
        """Whether an execution is one that is looked for, its pipeline and time apart."""
        trigger = execution["trigger"]
        return (
            (not self.trigger_types or trigger["type"] in self.trigger_types.split(","))
            and (not self.statuses or execution["status"] in self.statuses.split(","))
            and self.event_id in ("", trigger.get("eventId"))
            and matches(subset, trigger)
        )


@routes.get("/applications/{application}/executions/search")
async def search(application: str, gate: Behind, wanted: Annotated[Wanted, Query()]) -> JSONResponse:
    """Newest first; an unknown pipeline gives []."""
    if wanted.since < 0 or wanted.until < wanted.since:
        raise GateError(400, "Trigger time boundaries are inverted or negative")
    try:
        subset = decoded(wanted.trigger)
        found = page(
            _candidates(gate, application, wanted),
            lambda execution: wanted.accepts(execution, subset), wanted.start, wanted.size,
            gate.switches.search_paging_defect,
        )  # fmt: skip
    except BadSearch as error:
        raise GateError(error.status, str(error)) from error
    return shown(found, wanted.expand)


def _candidates(gate: Gate, application: str, wanted: Wanted) -> list[Execution]:
    """What orca reads from its database: pipelines that exist still, within the time."""
    known = gate.pipelines.all() if application == "*" else gate.pipelines.of(application)
    ids = {pipeline["id"] for pipeline in known if wanted.pipeline_name in ("", pipeline["name"])}
    found = [
        each for each in gate.newest_first()
        if each["pipelineConfigId"] in ids and wanted.since <= each["buildTime"] <= wanted.until
    ]  # fmt: skip
    return found[::-1] if wanted.reverse else found
