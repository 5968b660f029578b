"""What the run service does (reference kfp.md, 4)."""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sandbox.kfp.catalog import Catalog
from sandbox.kfp.clock import now
from sandbox.kfp.engine import Engine
from sandbox.kfp.errors import ABORTED, FAILED_PRECONDITION, APIError, internal, invalid, not_found
from sandbox.kfp.messages import REFERENCE, RUN, RUNTIME_CONFIG, Message, parsed
from sandbox.kfp.records import TERMINAL, RunRecord, log_file, new_run, pod_name
from sandbox.kfp.specs import check_parameters, pipeline_of, platform_of
from sandbox.kfp.store import Document, Store

_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")
_CREATING = "Failed to create a run"


class Runs:
    """Creates, ends and looks up runs; ``state`` is the server's folder, absolute."""

    def __init__(self, store: Store, catalog: Catalog, engine: Engine, state: Path) -> None:
        self.store, self._catalog, self._engine, self._state = store, catalog, engine, state

    def create(self, given: Mapping[str, Any]) -> Document:
        """Creates and starts a run.

        Bad input is mostly a 500, as in the real server, and never to be sent again blindly. A run id that exists is a
        500 too, and a second execution has begun by then: workflows are created before rows.
        """
        body = parsed(given, RUN, "Run")
        if not body.get("display_name"):
            doing = "Failed to convert a API run detail to its internal representation"
            raise internal(f"{_CREATING} due to conversion error", f"{doing}: Run name cannot be empty")
        body["runtime_config"] = parsed(body.get("runtime_config", {}), RUNTIME_CONFIG, "RuntimeConfig")
        experiment = body.get("experiment_id") or self._catalog.default_experiment()
        self._catalog.find("experiments", experiment, "Failed to create a new run")
        given_spec = self.source(body)
        spec, platform = pipeline_of(given_spec), platform_of(given_spec)
        check_parameters(spec, body["runtime_config"].get("parameters", {}))
        run = new_run(body, self._run_id(body), experiment, spec, platform)
        self._begin(run)
        self.store.change("experiments", experiment, lambda each: each.update(last_run_created_at=now()))
        return run

    def _run_id(self, body: Message) -> str:
        run_id: str = body.get("run_id") or str(uuid.uuid4())
        if not _LABEL.fullmatch(run_id):
            raise internal("Failed to create a new run", f"Failed to create a workflow: invalid label value {run_id!r}")
        return run_id

    def _begin(self, run: Document) -> None:
        run_id = run["run_id"]
        with self.store.lock:
            known = self.store.get("runs", run_id)
            if known is None:
                self.store.put("runs", run_id, run)
        if known is None:
            self._engine.start(run_id)
            return
        self._begin_orphan(run)
        raise internal(
            "Failed to create a new run: Failed to create a run",
            f"Failed to store run {run['display_name']} to table: Error 1062: Duplicate entry '{run_id}'",
        )

    def _begin_orphan(self, run: Document) -> None:
        """The workflow that a second POST makes really runs, and no answer of the API ever mentions it."""

        def count(known: Document) -> None:
            known["sandbox"]["executions"] += 1

        with self.store.lock:
            self.store.change("runs", run["run_id"], count)
            key = f"{run['run_id']}#{len(self.store.all('orphans')) + 2}"
            run["sandbox"]["key"] = key
            self.store.put("orphans", key, run)
        self._engine.start(key, "orphans")

    def source(self, body: Message, creating: str = _CREATING) -> dict[str, Any]:
        """The pipeline as it came, from the body or from a version; then ``body`` refers to that very version."""
        doing = f"{creating} due to error fetching manifest"
        reference = parsed(body.get("pipeline_version_reference", {}), REFERENCE, "PipelineVersionReference")
        if "pipeline_spec" in body and reference:
            raise APIError(400, 'proto: (line 1:2): oneof "pipeline_source" is already set')
        given = body.get("pipeline_spec")
        if given is None:
            version = self._version(reference, doing)
            body["pipeline_version_reference"] = {name: version[name] for name in REFERENCE}
            given = version["pipeline_spec"]
        try:
            pipeline_of(given)
        except APIError as error:
            raise internal(doing, str(error)) from error
        return dict(given)

    def _version(self, reference: Message, doing: str) -> Document:
        pipeline, key = reference.get("pipeline_id", ""), reference.get("pipeline_version_id", "")
        if not pipeline and not key:
            raise internal(doing, "Failed to fetch a template with an empty pipeline spec manifest")
        if not key:
            versions = self._catalog.versions_of(pipeline)
            if not versions:
                raise internal(doing, f"ResourceNotFoundError: PipelineVersion {pipeline} not found")
            return versions[-1]
        version = self.store.get("versions", key)
        if version is None:
            raise internal(doing, f"ResourceNotFoundError: PipelineVersion {key} not found")
        if pipeline and version["pipeline_id"] != pipeline:
            raise internal(doing, f"Pipeline version {key} belongs to pipeline {version['pipeline_id']}")
        return version

    def get(self, run_id: str, doing: str = "Failed to get a run") -> Document:
        """The run's document; raises APIError 404."""
        run = self.store.get("runs", run_id)
        if run is None:
            raise not_found(doing, f"Run {run_id}")
        return run

    def terminate(self, run_id: str) -> None:
        """CANCELING now and FAILED soon; a run that is neither waiting nor running is a 400."""
        doing = f"Failed to terminate a run: Failed to terminate run {run_id}"
        self.get(run_id, doing)
        if not RunRecord(self.store, "runs", run_id).cancel():
            raise invalid(doing, f"Failed to terminate a run {run_id}. Row not found")
        self._engine.stop(run_id)

    def retry(self, run_id: str) -> None:
        """Runs what failed again under the same id; what succeeded is kept. ABORTED for a run that did not fail."""
        doing = f"Failed to retry a run: Failed to retry run {run_id}"
        self.get(run_id, doing)
        if not RunRecord(self.store, "runs", run_id).again():
            message = "Workflow must be Failed/Error to retry"
            raise APIError(409, f"{doing}: BadRequestError: {message}", message, ABORTED)
        self._engine.start(run_id)

    def archive(self, run_id: str, state: str) -> None:
        """ARCHIVED or AVAILABLE; the latter not while the experiment is archived."""
        run = self.get(run_id, f"Failed to change run {run_id} to {state}")
        experiment = self.store.get("experiments", run["experiment_id"]) or {}
        if state == "AVAILABLE" and experiment.get("storage_state") == "ARCHIVED":
            message = f"Failed to unarchive run {run_id} as experiment {run['experiment_id']} must be un-archived first"
            raise APIError(400, f"FailedPreconditionError: {message}", message, FAILED_PRECONDITION)
        self.store.change("runs", run_id, lambda document: document.update(storage_state=state))

    def delete(self, run_id: str) -> None:
        """Forgets the run; what it has under way is killed."""
        run = self.get(run_id, "Failed to delete a run")
        self.store.delete("runs", run_id)
        if run["state"] not in TERMINAL:
            self._engine.stop(run_id)

    def log(self, run_id: str, node_id: str) -> bytes:
        """The whole log of a task so far; the node is the task's pod name. Raises APIError when there is none."""
        run = self.store.get("runs", run_id)
        doing = f"BadRequestError: Failed to read logs for run {run_id}"
        if run is None:
            raise APIError(409, f"{doing} due to run fetching error: ResourceNotFoundError: Run {run_id} not found")
        for task in run["sandbox"]["tasks"]:
            if task["kind"] == "component" and node_id == pod_name(run_id, task):
                file = log_file(self._state, run_id, task["path"])
                if file.exists() and not task.get("cached"):
                    return file.read_bytes()
        raise APIError(409, f"{doing}: InternalServerError: Failed to read logs from pod {node_id}: not found")
