"""Runs: created, walked in a thread each, terminated, retried from the failed task, ended after a restart."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sandbox.kfp.cache import fingerprint
from sandbox.kfp.clock import now
from sandbox.kfp.component import STATE_MARK, TASK_MARK, ComponentError, Job, UnsupportedError, Values, execute
from sandbox.kfp.forkserver import ForkServer
from sandbox.kfp.records import ENDED, FAILED, PENDING, RUNNING, SUCCEEDED, TERMINAL, RunRecord, log_file
from sandbox.kfp.secrets import SECRETS, with_secrets
from sandbox.kfp.sources import RUN_ID, run_facts, with_defaults
from sandbox.kfp.store import Store
from sandbox.kfp.walk import Walk
from sandbox.polyaxon.agent.proc import kill_all_with_environment

PARALLEL_COMPONENTS = 2
INTERRUPTED = "The sandbox's KFP server was restarted while this ran."


class Engine:
    """Executes runs of the store; ``state`` is the server's folder, absolute; ``parallel`` components at a time."""

    def __init__(self, store: Store, state: Path, parallel: int = PARALLEL_COMPONENTS) -> None:
        self._store = store
        self._state = state
        self._slots = threading.Semaphore(parallel)
        self._forkserver = ForkServer("sandbox.kfp.launcher", {STATE_MARK: str(state)})
        self._live: dict[tuple[str, str], Execution] = {}
        self._lock = threading.Lock()
        self._closed = False

    def start(self, key: str, kind: str = "runs") -> None:
        """Starts walking a run (or an orphan, see `store`) that the store knows."""
        record = RunRecord(self._store, kind, key)
        execution = Execution(
            self._store, record, self._state, self._slots, self._forkserver, lambda: self._ended(kind, key, execution)
        )
        with self._lock:
            if self._closed:
                return
            self._live[kind, key] = execution
        execution.start()

    def stop(self, key: str) -> None:
        """Ends what a run has under way, which takes a moment; the run becomes FAILED."""
        with self._lock:
            execution = self._live.get(("runs", key))
        if execution is not None:
            execution.stop()

    def fail_interrupted(self) -> None:
        """At the start: kills what an earlier server left, and ends the runs that were under way then."""
        kill_all_with_environment(STATE_MARK, str(self._state))
        shutil.rmtree(self._state / "tmp", ignore_errors=True)
        (self._state / "tmp").mkdir()
        for kind in ("runs", "orphans"):
            for run in self._store.all(kind):
                if run["state"] not in TERMINAL:
                    RunRecord(self._store, kind, run["sandbox"].get("key", run["run_id"])).end(FAILED, INTERRUPTED)

    def close(self) -> None:
        """Ends all components and the fork server; the runs are found as interrupted at the next start."""
        with self._lock:
            self._closed = True
            live = list(self._live.values())
        for execution in live:
            execution.stop(silently=True)
        for execution in live:
            execution.join(10)
        self._forkserver.close()

    def _ended(self, kind: str, key: str, execution: Execution) -> None:
        with self._lock:
            # A retry may have put another one in its place.
            if self._live.get((kind, key)) is execution:
                del self._live[kind, key]


class Execution(threading.Thread):
    """One run being walked; the `Host` of its walk."""

    def __init__(
        self, store: Store, record: RunRecord, state: Path, slots: threading.Semaphore, forkserver: ForkServer,
        on_end: Callable[[], None],
    ) -> None:  # fmt: skip
        super().__init__(name=f"run-{record.key}", daemon=True)
        self._store, self._record, self._state, self._slots = store, record, state, slots
        self._forkserver, self._on_end = forkserver, on_end
        run = record.read()
        self._spec: dict[str, Any] = run["sandbox"]["spec"]
        self._pipeline: str = self._spec["pipelineInfo"]["name"]
        self._platform: dict[str, Any] = run["sandbox"].get("platform", {})
        self._runtime: dict[str, Any] = run["runtime_config"]
        self.facts: Mapping[str, str] = run_facts(run)
        self._earlier = {task["path"]: task for task in run["sandbox"]["tasks"] if task["state"] == SUCCEEDED}
        self._stopped = threading.Event()
        self._silently = False

    def run(self) -> None:
        """Walks the root DAG."""
        try:
            self._record.begin()
            root = self._spec["root"]
            inputs = with_defaults(root, Values(dict(self._runtime.get("parameters", {}))), "the pipeline")
            Walk(self, self._spec, root["dag"], inputs, "").run()
            self._finish(SUCCEEDED)
        except UnsupportedError as error:
            self._finish(FAILED, str(error))
        except ComponentError:
            self._finish(FAILED)
        except Exception as error:  # a fault of the stand-in must not leave a run running for ever
            self._finish(FAILED, f"the sandbox's KFP server could not run this: {type(error).__name__}: {error}")
        finally:
            self._on_end()

    def stop(self, silently: bool = False) -> None:
        """Ends the components; ``silently`` leaves the run's state as it is."""
        self._silently = silently
        self._stopped.set()

    def _finish(self, state: str, error: str = "") -> None:
        if not self._silently:
            self._record.end(state, error)

    # what the walk asks for

    def stopped(self) -> bool:
        """Whether the run was terminated."""
        return self._stopped.is_set()

    def earlier(self, path: str) -> Values | None:
        """Outputs of a task of an earlier attempt."""
        task = self._earlier.get(path)
        return Values.from_json(task["outputs"]) if task and task.get("outputs") else None

    def component(self, path: str, name: str, task: dict[str, Any], inputs: Values) -> Values:
        """Runs a component when a slot is free, or takes what the cache has."""
        spec = self._spec["components"][task["componentRef"]["name"]]
        executor = self._spec["deploymentSpec"]["executors"][spec["executorLabel"]]
        key = ""  # importers are never cached
        if task.get("cachingOptions", {}).get("enableCache") and "container" in executor:
            key = fingerprint(self._pipeline, task, spec, executor["container"], inputs)
        found = self._store.get("cache", key)
        if found is not None:
            self.report(path, name, "component", RUNNING, inputs=inputs)
            self._record.task(path, name, "component", {"cached": True})
            return Values.from_json(found)
        self.report(path, name, "component", PENDING, inputs=inputs)
        self._take_slot()
        try:
            self.report(path, name, "component", RUNNING)
            given = with_secrets(executor, self._platform, spec["executorLabel"], self._state / SECRETS)
            outputs = execute(self._job(path, spec, given, inputs), self._forkserver, self.stopped)
        finally:
            self._slots.release()
        if key:
            self._store.put("cache", key, outputs.as_json())
        return outputs

    def _take_slot(self) -> None:
        while not self.stopped():
            if self._slots.acquire(timeout=0.2):
                return
        raise ComponentError("the run was terminated")

    def report(
        self, path: str, name: str, kind: str, state: str, error: str = "", outputs: Values | None = None,
        inputs: Values | None = None,
    ) -> None:  # fmt: skip
        """Keeps what became of a task."""
        if self._silently:
            return
        changes: dict[str, Any] = {"state": state}
        if state == RUNNING:
            changes["start_time"] = now()
        if state in ENDED:
            changes["end_time"] = now()
        if error:
            changes["error"] = error
            if kind == "component":
                self._log_error(path, error)
        if outputs is not None:
            changes["outputs"] = outputs.as_json()
        if inputs is not None:
            changes["inputs"] = inputs.as_json()
        self._record.task(path, name, kind, changes)

    def _log_error(self, path: str, error: str) -> None:
        """Why a task never started can be read where everybody looks first: in its log."""
        file = log_file(self._state, self._record.key, path)
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(f"{error}\n")

    def _job(self, path: str, spec: dict[str, Any], executor: dict[str, Any], inputs: Values) -> Job:
        run_id = self.facts[RUN_ID]
        root = self._runtime.get("pipeline_root") or self._spec.get("defaultPipelineRoot")
        log = log_file(self._state, self._record.key, path)
        log.parent.mkdir(parents=True, exist_ok=True)
        return Job(
            pipeline=self._pipeline, run_id=run_id, task=path.rpartition("/")[2], component=spec, executor=executor,
            inputs=inputs, root=f"{(root or str(self._state / 'pipeline-root')).rstrip('/')}/{self._pipeline}/{run_id}",
            log=log, state=log.with_suffix(""), temporary=self._state / "tmp",
            marks={STATE_MARK: str(self._state), TASK_MARK: f"{self._state}:{self._record.key}:{path}"},
        )  # fmt: skip
