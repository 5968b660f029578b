"""Runs: created, walked in a thread each, terminated, retried from the failed task, ended after a restart."""

from __future__ import annotations

import hashlib
import json
import subprocess
import threading
import uuid
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from sandbox.kfp.component import ComponentError, Job, Values, execute, kill
from sandbox.kfp.store import Document, Store
from sandbox.kfp.walk import SKIPPED, SUCCEEDED, Walk, with_defaults

PARALLEL_COMPONENTS = 2
TERMINAL = {"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"}
EPOCH = "1970-01-01T00:00:00Z"


def now() -> str:
    """Time stamps have a resolution of one second (reference kfp.md, 4)."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")  # noqa: UP017 - one name on every Python


class Engine:
    """Executes runs. ``executions`` counts how often a run id was started: more than once shows a double submit."""

    def __init__(self, store: Store, state: Path) -> None:
        self._store = store
        self._state = state
        self._slots = threading.Semaphore(PARALLEL_COMPONENTS)
        self._live: dict[str, Execution] = {}
        self._lock = threading.Lock()

    def start(self, run_id: str, spec: dict[str, Any]) -> None:
        """Starts walking a run that the store knows."""
        execution = Execution(self._store, self._state, self._slots, run_id, spec, self._ended)
        with self._lock:
            self._live[run_id] = execution
        execution.start()

    def start_duplicate(self, run_id: str, spec: dict[str, Any]) -> None:
        """What a second POST with the same id does to the real server: another workflow that no run belongs to."""

        def count(run: Document) -> None:
            run["sandbox"]["executions"] += 1

        self._store.change("runs", run_id, count)

    def terminate(self, run_id: str) -> bool:
        """Asks a run to end: CANCELING now, FAILED once its components are gone. False when it is not running."""
        with self._lock:
            execution = self._live.get(run_id)
        if execution is None:
            return False
        set_state(self._store, run_id, "CANCELING")
        execution.stop()
        return True

    def fail_interrupted(self) -> None:
        """After a restart: what was running is gone, and says so."""
        for run in self._store.all("runs"):
            if run["state"] not in TERMINAL:
                set_state(
                    self._store, run["run_id"], "FAILED", "The sandbox's KFP server was restarted while this ran."
                )

    def close(self) -> None:
        """Ends all components; their runs are found as interrupted at the next start."""
        with self._lock:
            live = list(self._live.values())
        for execution in live:
            execution.stop(silently=True)
        for execution in live:
            execution.join(10)

    def _ended(self, run_id: str) -> None:
        with self._lock:
            self._live.pop(run_id, None)


def set_state(store: Store, run_id: str, state: str, error: str = "") -> None:
    """Records a new state of a run and, when it is the last one, when it ended."""

    def change(run: Document) -> None:
        run["state"] = state
        run["state_history"].append({"update_time": now(), "state": state})
        if state in TERMINAL:
            run["finished_at"] = now()
        if error:
            run["error"] = {"code": 2, "message": error}

    store.change("runs", run_id, change)


class Execution(threading.Thread):
    """One run being walked; the `Host` of its walk."""

    def __init__(self, store: Store, state: Path, slots: threading.Semaphore, run_id: str, spec: dict[str, Any],
                 on_end: Any) -> None:  # fmt: skip
        super().__init__(name=f"run-{run_id}", daemon=True)
        self._store = store
        self._folder = state / "runs" / run_id
        self._slots = slots
        self._run_id = run_id
        self._spec = spec
        self._on_end = on_end
        self._terminated = threading.Event()
        self._silently = False
        self._processes: set[subprocess.Popen[bytes]] = set()
        self._lock = threading.Lock()
        run = store.get("runs", run_id) or {}
        self._runtime = run.get("runtime_config", {})
        self._earlier = {t["path"]: t for t in run.get("sandbox", {}).get("tasks", []) if t["state"] == SUCCEEDED}

    def run(self) -> None:
        """Walks the root DAG."""
        try:
            set_state(self._store, self._run_id, "RUNNING")
            root = self._spec["root"]
            inputs = with_defaults(root, Values(dict(self._runtime.get("parameters") or {})))
            Walk(self, self._spec, root["dag"], inputs, "").run()
            self._finish("SUCCEEDED")
        except ComponentError as error:
            self._finish("FAILED", str(error))
        except Exception as error:  # a fault of the stand-in must not leave a run running for ever
            self._finish(
                "FAILED", f"the sandbox's KFP server could not run this pipeline: {type(error).__name__}: {error}"
            )
        finally:
            self._on_end(self._run_id)

    def stop(self, silently: bool = False) -> None:
        """Kills the components; ``silently`` leaves the run's state as it is."""
        self._silently = silently
        self._terminated.set()
        with self._lock:
            processes = list(self._processes)
        for process in processes:
            kill(process)

    def _finish(self, state: str, error: str = "") -> None:
        if not self._silently:
            set_state(self._store, self._run_id, state, error)

    # what the walk asks for

    def stopped(self) -> bool:
        """Whether the run was terminated."""
        return self._terminated.is_set()

    def earlier(self, path: str) -> Values | None:
        """Outputs of a task of an earlier attempt."""
        task = self._earlier.get(path)
        return Values.from_json(task["outputs"]) if task and task.get("outputs") else None

    def component(self, path: str, name: str, spec: dict[str, Any], inputs: Values, cached: bool) -> Values:
        """Runs a component when a slot is free, or takes what the cache has."""
        executor = self._spec["deploymentSpec"]["executors"][spec["executorLabel"]]
        fingerprint = _fingerprint(spec, executor, inputs)
        found = self._store.get("cache", fingerprint) if cached else None
        if found is not None:
            self.report(path, name, "RUNNING", inputs=inputs)
            self._update(path, name, {"cached": True})
            return Values.from_json(found)
        self.report(path, name, "PENDING", inputs=inputs)
        with self._slots:
            if self.stopped():
                raise ComponentError("the run was terminated")
            self.report(path, name, "RUNNING")
            outputs = execute(self._job(path, name, spec, executor, inputs), self._register)
        self._store.put("cache", fingerprint, outputs.as_json())
        return outputs

    def report(self, path: str, name: str, state: str, error: str = "", outputs: Values | None = None,
               inputs: Values | None = None) -> None:  # fmt: skip
        """Keeps what became of a task."""
        if self._silently:
            return
        changes: dict[str, Any] = {"state": state}
        if state == "RUNNING":
            changes["start_time"] = now()
        if state in (SUCCEEDED, "FAILED", SKIPPED):
            changes["end_time"] = now()
        if error:
            changes["error"] = error
        if outputs is not None:
            changes["outputs"] = outputs.as_json()
        if inputs is not None:
            changes["inputs"] = inputs.as_json()
        self._update(path, name, changes)

    def _update(self, path: str, name: str, changes: dict[str, Any]) -> None:
        def change(run: Document) -> None:
            tasks = run["sandbox"]["tasks"]
            task = next((each for each in tasks if each["path"] == path), None)
            if task is None:
                task = {"path": path, "name": name, "task_id": str(uuid.uuid4()), "create_time": now()}
                tasks.append(task)
            task.update(changes)
            if changes.get("state") in ("PENDING", "RUNNING"):
                task.pop("error", None)

        self._store.change("runs", self._run_id, change)

    def _job(self, path: str, name: str, spec: dict[str, Any], executor: dict[str, Any], inputs: Values) -> Job:
        pipeline = self._spec["pipelineInfo"]["name"]
        root = self._runtime.get("pipeline_root") or str(self._folder.parent.parent / "pipeline-root")
        folder = self._folder / path.replace("/", ".")
        return Job(
            pipeline=pipeline, run_id=self._run_id, task=path.rpartition("/")[2], component=spec, executor=executor,
            inputs=inputs, root=f"{root.rstrip('/')}/{pipeline}/{self._run_id}", log=log_file(self._folder, path),
            state=folder,
        )  # fmt: skip

    def _register(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._processes.add(process)
        if self.stopped():
            kill(process)


def log_file(run_folder: Path, path: str) -> Path:
    """Where a task's log is."""
    return run_folder / f"{path.replace('/', '.')}.log"


def _fingerprint(component: dict[str, Any], executor: dict[str, Any], inputs: Values) -> str:
    """What makes two executions the same for the cache: component, code, parameters, input artifacts."""
    definitions = {key: component.get(key) for key in ("inputDefinitions", "outputDefinitions")}
    content = json.dumps([definitions, executor, inputs.as_json()], sort_keys=True)
    return hashlib.sha256(content.encode()).hexdigest()
