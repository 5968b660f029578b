"""Routes of runs, and how a run is shown."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Body
from fastapi.responses import PlainTextResponse, Response

from sandbox.kfp.engine import EPOCH, TERMINAL, Engine, log_file, now
from sandbox.kfp.errors import APIError
from sandbox.kfp.faults import Faults
from sandbox.kfp.listing import page, predicate
from sandbox.kfp.store import Document, Store

_FIELDS = {
    "experiment_id",
    "run_id",
    "display_name",
    "storage_state",
    "description",
    "pipeline_version_id",
    "pipeline_spec",
    "pipeline_version_reference",
    "runtime_config",
    "service_account",
    "created_at",
    "scheduled_at",
    "finished_at",
    "state",
    "error",
    "run_details",
    "recurring_run_id",
    "state_history",
}


def snake(body: dict[str, Any]) -> dict[str, Any]:
    """Field names as in the protos; camelCase is taken as well."""
    return {"".join(f"_{c.lower()}" if c.isupper() else c for c in key): value for key, value in body.items()}


def refuse_unknown(body: dict[str, Any], known: set[str], message: str) -> None:
    """Unknown input fields are refused (DiscardUnknown is off)."""
    for key in body:
        if key not in known:
            raise APIError(
                400,
                f'json: cannot unmarshal: unknown field "{key}" in kubeflow.pipelines.backend.api.v2beta1.{message}',
            )


class Runs:
    """What the run service does."""

    def __init__(self, store: Store, engine: Engine, faults: Faults, state: Path) -> None:
        self.store, self.engine, self.faults, self._state = store, engine, faults, state

    def create(self, given: dict[str, Any]) -> Document:
        """Creates and starts a run; a bad request is a 500, as in the real server (reference kfp.md, 4)."""
        body = snake(given)
        refuse_unknown(body, _FIELDS, "Run")
        if not body.get("display_name"):
            raise APIError(500, "Failed to create a new run: InternalServerError: Run name cannot be empty")
        spec = self._spec(body)
        run_id = body.get("run_id") or str(uuid.uuid4())
        experiment_id = body.get("experiment_id") or self._default_experiment()
        if self.store.get("experiments", experiment_id) is None:
            raise APIError(
                404, f"Failed to create a new run: ResourceNotFoundError: Experiment {experiment_id} not found."
            )
        if self.store.get("runs", run_id) is not None:
            # The workflow is created before the row: the duplicate runs, and nobody will know.
            self.engine.start_duplicate(run_id, spec)
            raise APIError(500, "Failed to create a new run: InternalServerError: Failed to store run to table")
        run: Document = {
            "experiment_id": experiment_id,
            "run_id": run_id,
            "display_name": body["display_name"],
            "storage_state": "AVAILABLE",
            "description": body.get("description", ""),
            "created_at": now(),
            "scheduled_at": now(),
            "finished_at": EPOCH,
            "state": "PENDING",
            "service_account": body.get("service_account", ""),
            "state_history": [{"update_time": now(), "state": "PENDING"}],
            "runtime_config": body.get("runtime_config") or {},
            "sandbox": {"executions": 1, "tasks": [], "spec": spec},
        }
        if "pipeline_version_reference" in body:
            run["pipeline_version_reference"] = snake(body["pipeline_version_reference"])
        else:
            run["pipeline_spec"] = body["pipeline_spec"]
        run["runtime_config"] = snake(run["runtime_config"])
        self.store.put("runs", run_id, run)
        self._touch_experiment(experiment_id)
        self.engine.start(run_id, spec)
        return self.shown(self.store.get("runs", run_id) or run)

    def _spec(self, body: dict[str, Any]) -> dict[str, Any]:
        given = body.get("pipeline_spec")
        if given is None:
            given = self._version(snake(body.get("pipeline_version_reference") or {}))["pipeline_spec"]
        spec = given.get("pipeline_spec", given)
        if "root" not in spec or "pipelineInfo" not in spec:
            raise APIError(400, "Failed to create a new run: InvalidInputError: the pipeline spec is invalid")
        return dict(spec)

    def _version(self, reference: dict[str, Any]) -> Document:
        versions = [v for v in self.store.all("versions") if v["pipeline_id"] == reference.get("pipeline_id")]
        wanted = reference.get("pipeline_version_id")
        found = [v for v in versions if v["pipeline_version_id"] == wanted] if wanted else versions[-1:]
        if not found:
            raise APIError(500, "Failed to create a new run: InternalServerError: Failed to fetch manifest")
        return found[0]

    def _default_experiment(self) -> str:
        for experiment in self.store.all("experiments"):
            if experiment["display_name"] == "Default":
                return str(experiment["experiment_id"])
        raise APIError(404, "Failed to create a new run: the default experiment does not exist")

    def _touch_experiment(self, experiment_id: str) -> None:
        def change(experiment: Document) -> None:
            experiment["last_run_created_at"] = now()

        self.store.change("experiments", experiment_id, change)

    def get(self, run_id: str) -> Document:
        """The run as it is kept."""
        run = self.store.get("runs", run_id)
        if run is None:
            raise APIError(404, f"Failed to get a run: ResourceNotFoundError: Run {run_id} not found.")
        return run

    def shown(self, run: Document) -> Document:
        """The run as the API answers it: no inputs and outputs of tasks, empty fields left out."""
        answer = {key: value for key, value in run.items() if key != "sandbox" and value not in ("", None)}
        tasks = run["sandbox"]["tasks"]
        if tasks:
            answer["run_details"] = {"task_details": [_task(run, task) for task in tasks]}
        return answer

    def terminate(self, run_id: str) -> dict[str, Any]:
        """Ends a run; for a finished one the real server's update finds no row."""
        self.get(run_id)
        if not self.engine.terminate(run_id):
            raise APIError(400, f"Failed to terminate a run: InvalidInputError: Row not found for run {run_id}")
        return {}

    def retry(self, run_id: str) -> dict[str, Any]:
        """Runs the failed tasks again under the same id; those that succeeded are kept."""
        run = self.get(run_id)
        if run["state"] not in ("FAILED", "CANCELED"):
            raise APIError(400, f"Failed to retry a run: InvalidInputError: Run {run_id} is {run['state']}")

        def again(document: Document) -> None:
            document["state"] = "PENDING"
            document["finished_at"] = EPOCH
            document.pop("error", None)
            document["state_history"].append({"update_time": now(), "state": "PENDING"})

        self.store.change("runs", run_id, again)
        self.engine.start(run_id, run["sandbox"]["spec"])
        return {}

    def log(self, run_id: str, node_id: str) -> str:
        """The whole log of a task so far; the node is the task's pod name."""
        run = self.get(run_id)
        for task in run["sandbox"]["tasks"]:
            if node_id in (pod_name(run, task), task["task_id"]):
                file = log_file(self._state / "runs" / run_id, task["path"])
                if file.exists():
                    return file.read_text(errors="replace")
        raise APIError(404, f"failed to get logs: pod {node_id} not found")


def pod_name(run: Document, task: dict[str, Any]) -> str:
    """Name of the pod that would run the task."""
    return f"{run['run_id'][:8]}-{task['task_id'][:8]}"


def _task(run: Document, task: dict[str, Any]) -> dict[str, Any]:
    shown = {
        "run_id": run["run_id"],
        "task_id": task["task_id"],
        "display_name": task["name"],
        "state": task["state"],
        "create_time": task["create_time"],
        "start_time": task.get("start_time", task["create_time"]),
        "end_time": task.get("end_time", EPOCH),
        "execution_id": "0",
        "pod_name": pod_name(run, task),
        "child_tasks": [{"pod_name": pod_name(run, task)}],
        "inputs": {},
        "outputs": {},
    }
    if task.get("error"):
        shown["error"] = {"code": 2, "message": task["error"]}
    return shown


def router(runs: Runs) -> APIRouter:
    """The routes, below ``/apis``."""
    api = APIRouter(prefix="/apis")

    @api.post("/v2beta1/runs", response_model=None)
    def create(body: dict[str, Any] = Body()) -> Document | Response:  # noqa: B008
        created = runs.create(body)
        return runs.faults.after_commit() or created

    @api.get("/v2beta1/runs")
    def listed(
        namespace: str = "", experiment_id: str = "", page_token: str = "", page_size: int | None = None,
        sort_by: str = "", filter: str | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        wanted = predicate("runs", filter)
        found = [run for run in runs.store.all("runs") if experiment_id in ("", run["experiment_id"]) and wanted(run)]
        rows, token = page(found, sort_by, page_size, page_token, "runs")
        answer: dict[str, Any] = {"runs": [runs.shown(row) for row in rows], "total_size": len(found)}
        return ({**answer, "next_page_token": token} if token else answer) if rows else {}

    @api.get("/v2beta1/runs/{run_id}")
    def one(run_id: str) -> Document:
        return runs.shown(runs.get(run_id))

    @api.delete("/v2beta1/runs/{run_id}")
    def delete(run_id: str) -> dict[str, Any]:
        if runs.get(run_id)["state"] not in TERMINAL:
            runs.engine.terminate(run_id)
        runs.store.delete("runs", run_id)
        return {}

    _actions(api, runs)
    return api


def _actions(api: APIRouter, runs: Runs) -> None:
    @api.post("/v2beta1/runs/{run_id}:{verb}")
    def act(run_id: str, verb: str) -> dict[str, Any]:
        if verb in ("archive", "unarchive"):
            state = "ARCHIVED" if verb == "archive" else "AVAILABLE"
            runs.get(run_id)
            runs.store.change("runs", run_id, lambda run: run.update(storage_state=state))
            return {}
        if verb == "terminate":
            return runs.terminate(run_id)
        if verb == "retry":
            return runs.retry(run_id)
        raise APIError(404, "Not Found")

    @api.get("/v1alpha1/runs/{run_id}/nodes/{node_id}/log")
    def log(run_id: str, node_id: str) -> PlainTextResponse:
        return PlainTextResponse(runs.log(run_id, node_id))
