"""How a run is kept, and how the API shows it (reference kfp.md, 4).

A run's document is the API's message plus ``sandbox``: ``{"executions", "spec", "tasks"}``. A task is ``{"path",
"name", "task_id", "kind", "state", "create_time", "start_time", "end_time", "inputs", "outputs", "error", "cached"}``,
its path being the task names from the root joined by ``/``.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

from sandbox.kfp.clock import EPOCH, now
from sandbox.kfp.messages import Message, shown
from sandbox.kfp.store import Document, Store

SUCCEEDED, FAILED, SKIPPED, PENDING, RUNNING = "SUCCEEDED", "FAILED", "SKIPPED", "PENDING", "RUNNING"
CANCELING = "CANCELING"
ENDED = {SUCCEEDED, FAILED, SKIPPED}
# CANCELED is a state of the API that the server never assigns.
TERMINAL = {*ENDED, "CANCELED"}


def new_run(body: Message, run_id: str, experiment_id: str, spec: dict[str, Any], platform: dict[str, Any]) -> Document:
    """The document of a run that was just created, in state PENDING."""
    source: Message = {name: body[name] for name in ("pipeline_version_reference", "pipeline_spec") if name in body}
    return {
        "experiment_id": experiment_id, "run_id": run_id, "display_name": body["display_name"], **source,
        "description": body.get("description", ""), "service_account": body.get("service_account", "pipeline-runner"),
        "runtime_config": body.get("runtime_config", {}), "storage_state": "AVAILABLE", "state": PENDING,
        "state_history": [{"update_time": now(), "state": PENDING}], "created_at": now(), "scheduled_at": now(),
        "finished_at": EPOCH, "sandbox": {"executions": 1, "spec": spec, "platform": platform, "tasks": []},
    }  # fmt: skip


def run_message(run: Document) -> Message:
    """The run as the API answers it."""
    message = shown({key: value for key, value in run.items() if key != "sandbox"})
    tasks = run["sandbox"]["tasks"]
    if tasks:
        message["run_details"] = {"task_details": [_task_message(run["run_id"], task) for task in tasks]}
    return message


def _task_message(run_id: str, task: dict[str, Any]) -> Message:
    """No inputs, no outputs, no error and no execution id: the real server has columns for them and fills none."""
    message = {
        "run_id": run_id, "task_id": task["task_id"], "display_name": task["name"], "state": task["state"],
        "create_time": task["create_time"], "start_time": task.get("start_time", EPOCH),
        "end_time": task.get("end_time", EPOCH),
    }  # fmt: skip
    if task["kind"] == "component":
        message["child_tasks"] = [{"pod_name": pod_name(run_id, task)}]
    return message


def pod_name(run_id: str, task: dict[str, Any]) -> str:
    """Name of the pod that would run the task: what its log is asked with."""
    return f"{run_id[:8]}-{task['task_id'][:8]}"


def log_file(state: Path, key: str, path: str) -> Path:
    """Where a task's log is; ``key`` is the run's."""
    return state / "runs" / key / f"{path.replace('/', '.')}.log"


class RunRecord:
    """One run's document in the store, changed step by step while it is walked. A deleted run stays deleted."""

    def __init__(self, store: Store, kind: str, key: str) -> None:
        self._store, self._kind, self.key = store, kind, key

    def read(self) -> Document:
        """The document as it is now, empty when it was deleted."""
        return self._store.get(self._kind, self.key) or {}

    def begin(self) -> None:
        """PENDING becomes RUNNING; a run that is being cancelled already stays so."""

        def change(run: Document) -> None:
            if run["state"] == PENDING:
                _enter(run, RUNNING)

        self._store.change(self._kind, self.key, change)

    def end(self, state: str, error: str = "") -> None:
        """The run's last state; tasks that are still under way end as FAILED.

        ``error`` is what only this stand-in has to say: in the real server a run whose tasks fail has no error.
        """

        def change(run: Document) -> None:
            _enter(run, state)
            run["finished_at"] = now()
            if error:
                run["error"] = {"code": 2, "message": error}
            for task in run["sandbox"]["tasks"]:
                if task["state"] not in ENDED:
                    task.update(state=FAILED, end_time=now(), error=task.get("error") or error or "the run has ended")

        self._store.change(self._kind, self.key, change)

    def cancel(self) -> bool:
        """CANCELING, when it is PENDING or RUNNING; False for any other. The history does not learn of it."""
        done = False

        def change(run: Document) -> None:
            nonlocal done
            if run["state"] in (PENDING, RUNNING):
                run["state"], done = CANCELING, True

        self._store.change(self._kind, self.key, change)
        return done

    def again(self) -> bool:
        """Back to PENDING, when it is FAILED; False for any other."""
        done = False

        def change(run: Document) -> None:
            nonlocal done
            if run["state"] in (FAILED, "CANCELED"):
                _enter(run, PENDING)
                run["finished_at"], done = EPOCH, True
                run.pop("error", None)

        self._store.change(self._kind, self.key, change)
        return done

    def task(self, path: str, name: str, kind: str, changes: dict[str, Any]) -> None:
        """What became of a task, which is added when it is new."""

        def change(run: Document) -> None:
            tasks = run["sandbox"]["tasks"]
            task = next((each for each in tasks if each["path"] == path), None)
            if task is None:
                task = {"path": path, "name": name, "kind": kind, "task_id": str(uuid.uuid4()), "create_time": now()}
                tasks.append(task)
            if changes.get("state") in (PENDING, RUNNING):
                for stale in ("error", "end_time", "outputs", "cached"):
                    task.pop(stale, None)
            task.update(changes)

        self._store.change(self._kind, self.key, change)


def _enter(run: Document, state: str) -> None:
    run["state"] = state
    run["state_history"].append({"update_time": now(), "state": state})
