"""KFP runs as remote jobs (kfp.md 4).

The run's id is made from the key, so GET finds it again; the display name holds the key as well, for servers that
choose ids of their own. POST is sent only after GET said 404, and after a lost answer not before the server's 120 s of
grace are over: a second POST of one id makes a second execution before it is refused.

Remaining windows: a server that dies between starting the workflow and storing the run leaves a workflow that its API
does not show; the server itself removes it after its grace period. And a create whose sender has died makes a second
execution when it arrives later than that after the next try began to look.
"""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

from mlfleet.clients.kfp import KFPClient
from mlfleet.clients.kfp_models import KFPRun, KFPTask, PolledRun, Predicate
from mlfleet.errors import AuthError, Conflict, NotFound, RemoteError, RequestRefused, SpecError
from mlfleet.remote.job import LABELS, JobKey, JobState, JobStatus, TaskIdentity
from mlfleet.remote.logs import shorten, whole_lines
from mlfleet.remote.protocol import Cursor, LogChunk, RemoteSystem
from mlfleet.systems.infrastructure import is_infrastructure
from mlfleet.systems.kfp_outputs import read_run
from mlfleet.systems.kfp_package import without_caching

_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://mlfleet/kfp")

_STATES = {
    "PENDING": JobState.PENDING,
    "RUNNING": JobState.RUNNING,
    "PAUSED": JobState.RUNNING,
    "SUCCEEDED": JobState.SUCCEEDED,
    "SKIPPED": JobState.STOPPED,
    "FAILED": JobState.FAILED,
    "CANCELING": JobState.STOPPING,
    "CANCELED": JobState.STOPPED,
}
_TASK_FINAL = frozenset({"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"})
_TASK_WITH_LOG = frozenset({"RUNNING", "SUCCEEDED", "FAILED", "CANCELED"})


def run_id_for(key: JobKey) -> str:
    """The run id of a key: a uuid, because it becomes a Kubernetes label (kfp.md 4)."""
    return str(uuid.uuid5(_NAMESPACE, key.value))


class KFPSystem:
    """The runs of one server. ``pipeline_root`` and ``pipeline_name`` say where a run's artifacts are."""

    name = "kfp"
    # WORKFLOW_GC_GRACE_PERIOD_SECONDS (kfp.md 4).
    lookup_grace = 120.0
    lane: Hashable = None

    def __init__(self, client: KFPClient, pipeline_root: str | None = None, pipeline_name: str = "") -> None:
        self._client = client
        self._root, self._pipeline = pipeline_root, pipeline_name
        self._last: tuple[PolledRun, JobStatus] | None = None

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def find(self, key: JobKey) -> list[JobStatus]:
        """The run with the key's id, or else runs with the key's display name, oldest first."""
        try:
            return [self._status(await self._client.get_run(run_id_for(key)))]
        except NotFound:
            return [self._status(run) for run in await self._client.find_runs(key.name)]

    async def find_task(self, task: TaskIdentity) -> list[JobStatus]:
        """Unfinished runs whose display name holds the task's hash."""
        page = await self._client.list_runs([Predicate("display_name", f"-{task.hash}-", "IS_SUBSTRING")])
        return [self._status(run) for run in page.runs if not run.is_final]

    async def submit(self, key: JobKey, spec: Mapping[str, Any]) -> JobStatus:
        """Start a run of ``{"pipeline_spec", "parameters", "experiment", "pipeline_root", "service_account"}``.

        ``labels`` of the spec (``commit``, ``version``) are written into the run's description.
        Instead of the spec a stored version may be named: ``"version": {"pipeline_id", "pipeline_version_id"}``. From
        the second job of a task on the cache is off: it would answer with what the person wants to be done again.
        """
        experiment = await self._client.ensure_experiment(spec["experiment"])
        pipeline = spec.get("pipeline_spec")
        if pipeline is None:
            pipeline = await self._stored(key, spec["version"])
        try:
            run = await self._client.create_run(
                run_id=run_id_for(key),
                display_name=key.name,
                experiment_id=experiment,
                pipeline_spec=without_caching(pipeline) if key.n > 0 else pipeline,
                parameters=spec.get("parameters"),
                pipeline_root=spec.get("pipeline_root"),
                service_account=spec.get("service_account"),
                description=_description(key, spec),
            )
        except (AuthError, NotFound, Conflict):
            raise
        except RequestRefused as exc:
            raise SpecError(self.name, key.name, "refused", exc.reason or exc.message) from exc
        return self._status(run)

    async def _stored(self, key: JobKey, version: Mapping[str, str]) -> Mapping[str, Any]:
        """The compiled pipeline of a stored version. Raises SpecError: the server answers 500 for an unknown one."""
        wanted = [Predicate("pipeline_version_id", version["pipeline_version_id"])]
        try:
            found = await self._client.list_versions(version["pipeline_id"], wanted)
        except NotFound:
            found = []
        if not found:
            name = f"{version['pipeline_version_id']} of pipeline {version['pipeline_id']}"
            raise SpecError(self.name, key.name, "not submitted", f"there is no version {name}")
        return found[0].spec

    async def confirm(self, job_id: str) -> None:
        """Nothing to do: a run starts when it is created."""

    async def poll_many(self, jobs: Mapping[str, RemoteSystem]) -> dict[str, JobStatus]:
        """One request for up to a hundred runs, and one more for each that failed, to learn why."""
        found = {}
        for run_id, row in (await self._client.runs_by_id(jobs)).items():
            system = jobs.get(run_id)
            found[run_id] = (system if isinstance(system, KFPSystem) else self)._told_by(row)
            if found[run_id].state is JobState.FAILED:
                found[run_id] = await self._explained(found[run_id])
        return found

    def _told_by(self, row: PolledRun) -> JobStatus:
        """The status of a run; the same object as before while the server's row is the same."""
        if self._last is None or self._last[0] != row:
            self._last = (row, self._status(row.read()))
        return self._last[1]

    async def _explained(self, status: JobStatus) -> JobStatus:
        """A failed run's status with the reason, which takes the whole run."""
        reason = _why(await self._client.get_run(status.id))
        status = replace(status, reason=reason)
        return status.with_detail(infrastructure=True) if is_infrastructure(reason) else status

    async def stop(self, job_id: str) -> None:
        """Terminate the run; a finished or missing one is fine."""
        try:
            await self._client.terminate(job_id)
        except NotFound:
            return

    async def discard(self, job_id: str) -> None:
        """As :meth:`stop`: the run may have done something, so it stays to be seen."""
        await self.stop(job_id)

    async def resume(self, job_id: str) -> None:
        """Run the failed steps again, under the same run id (kfp.md 4, ``:retry``)."""
        await self._client.retry(job_id)

    async def logs(self, job_id: str, cursor: Cursor) -> LogChunk:
        """Lines of all tasks behind the cursor ``{node id: characters read | -1 when it is done}``.

        Each request brings a task's whole log (kfp.md 4), so finished tasks are read once more and never again.
        """
        try:
            run = await self._client.get_run(job_id)
        except NotFound:
            return LogChunk((), dict(cursor))
        lines: list[str] = []
        offsets = dict(cursor)
        for task in sorted(run.tasks, key=_begun):
            if task.state in _TASK_WITH_LOG and offsets.get(task.node_id) != -1:
                lines += await self._task_log(job_id, task, offsets, closed=task.state in _TASK_FINAL or run.is_final)
        return LogChunk(tuple(lines), offsets)

    async def _task_log(self, run_id: str, task: KFPTask, offsets: dict[str, Any], *, closed: bool) -> list[str]:
        read = int(offsets.get(task.node_id) or 0)
        try:
            text = await self._client.node_log(run_id, task.node_id)
        except RemoteError:
            # No log yet, none ever (drivers), or gone with its pod: never a reason to fail a run.
            text = ""
        lines, taken = whole_lines(text[read:], closed=closed)
        offsets[task.node_id] = -1 if closed else read + taken
        if offsets[task.node_id] == 0:
            del offsets[task.node_id]
        return [f"[{task.display_name}] {line}" for line in lines]

    async def result(self, job_id: str) -> dict[str, Any]:
        """Ids, and what is found below the pipeline root."""
        run = await self._client.get_run(job_id)
        root = self._root or run.pipeline_root
        found: dict[str, Any] = {"outputs": {}, "artifacts": {}, "model_uri": None}
        if root and self._pipeline:
            found = await asyncio.to_thread(read_run, root, self._pipeline, job_id)
        return {
            "system": self.name,
            "run_id": run.run_id,
            "experiment_id": run.experiment_id,
            "status": run.state,
            "url": self._client.run_url(run.run_id),
            **found,
        }

    def _status(self, run: KFPRun) -> JobStatus:
        return JobStatus(
            id=run.run_id,
            state=_STATES.get(run.state, JobState.UNKNOWN),
            native=run.state,
            reason=run.error,
            url=self._client.run_url(run.run_id),
            created_at=run.created_at,
            started_at=run.created_at,
            finished_at=run.finished_at,
        )


def _description(key: JobKey, spec: Mapping[str, Any]) -> str:
    """JSON, for people and for searches by substring: KFP has no labels on runs (kfp.md 4)."""
    told = {"mlfleet_key": key.value, "task": key.task.label, "dag_run": key.task.run_id}
    return json.dumps(told | dict(spec.get(LABELS) or {}))


def _begun(task: KFPTask) -> tuple[float, str]:
    return (task.start_time.timestamp() if task.start_time else 0.0, task.task_id)


def _why(run: KFPRun) -> str:
    """The run's own error and those of its failed tasks."""
    failed = [task for task in run.tasks if task.state == "FAILED"]
    told = [f"task {task.display_name}: {task.error}" for task in failed if task.error and task.error != run.error]
    if not told and failed:
        told = [f"failed: {', '.join(task.display_name for task in failed)}"]
    return shorten("; ".join(filter(None, [run.error, *told])), 1000)
