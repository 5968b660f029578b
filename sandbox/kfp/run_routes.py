"""Routes of runs and of their logs, below ``/apis``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends
from fastapi.responses import JSONResponse, Response

from sandbox.kfp.errors import APIError
from sandbox.kfp.listing import Query, paged
from sandbox.kfp.messages import Message, shown
from sandbox.kfp.records import run_message
from sandbox.kfp.runs import Runs


class RunRoutes:
    """The run service over HTTP."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self.router = api = APIRouter(prefix="/apis")
        api.add_api_route("/v2beta1/runs", self.create, methods=["POST"])
        api.add_api_route("/v2beta1/runs", self.listed, methods=["GET"])
        api.add_api_route("/v2beta1/runs/{run_id}", self.one, methods=["GET"])
        api.add_api_route("/v2beta1/runs/{run_id}", self.delete, methods=["DELETE"])
        api.add_api_route("/v2beta1/runs/{run_id}:{verb}", self.act, methods=["POST"])
        api.add_api_route("/v1alpha1/runs/{run_id}/nodes/{node_id}/log", self.log, methods=["GET"])

    def create(self, body: Annotated[dict[str, Any], Body()]) -> Message:
        """The new run."""
        return run_message(self._runs.create(body))

    def listed(self, query: Annotated[Query, Depends()], experiment_id: str = "") -> Message:
        """A page of runs, archived ones included; the experiment's alone when there is one."""
        runs = [run for run in self._runs.store.all("runs") if experiment_id in ("", run["experiment_id"])]
        page = paged("runs", runs, query, "Failed to create list options")
        return shown({**vars(page), "runs": [run_message(run) for run in page.rows], "rows": None})

    def one(self, run_id: str) -> Message:
        """The run."""
        return run_message(self._runs.get(run_id))

    def delete(self, run_id: str) -> Message:
        """Nothing."""
        self._runs.delete(run_id)
        return {}

    def act(self, run_id: str, verb: str) -> Message:
        """:terminate, :retry, :archive and :unarchive."""
        match verb:
            case "terminate":
                self._runs.terminate(run_id)
            case "retry":
                self._runs.retry(run_id)
            case "archive":
                self._runs.archive(run_id, "ARCHIVED")
            case "unarchive":
                self._runs.archive(run_id, "AVAILABLE")
            case _:
                raise APIError(404, "Not Found")
        return {}

    def log(self, run_id: str, node_id: str) -> Response:
        """The log as text. The server sends 200 before it looks, so errors are a 200 with JSON in it."""
        try:
            return Response(self._runs.log(run_id, node_id), media_type="text/plain")
        except APIError as error:
            told = {"error_message": str(error), "error_details": str(error)}
            return JSONResponse(told, 200, media_type="text/plain")
