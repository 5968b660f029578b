"""Polyaxon runs as remote jobs (polyaxon.md 3 and 4).

Submitted in two phases: a run is created with ``pending: approval``, which no agent touches, and approved once it is
known to be the only one of its key. A process that dies in between leaves an inert run that the next one finds.

Remaining window: two live submitters of one key may each list before the other's create is committed, and approve two
different runs. Airflow runs one try of a task at a time, so this takes a process that was believed dead and is not.
"""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mlfleet.clients.polyaxon import Condition, PolyaxonClient, PolyaxonRun
from mlfleet.errors import AuthError, Conflict, NotFound, RequestRefused, SpecError
from mlfleet.remote.job import LABELS, JobKey, JobState, JobStatus, TaskIdentity, spec_digest
from mlfleet.remote.logs import shorten
from mlfleet.remote.protocol import Cursor, LogChunk, RemoteSystem
from mlfleet.remote.recovery import Trace
from mlfleet.systems.infrastructure import is_infrastructure

KEY = "mlfleet_key"
TASK = "mlfleet_task"
ORDINAL = "mlfleet_n"
SPEC = "mlfleet_spec"
COMMIT = "mlfleet_commit"
APPROVAL = "approval"

_STATES = {
    "succeeded": JobState.SUCCEEDED,
    "skipped": JobState.STOPPED,
    "failed": JobState.FAILED,
    "upstream_failed": JobState.FAILED,
    "stopped": JobState.STOPPED,
    "stopping": JobState.STOPPING,
    "unknown": JobState.UNKNOWN,
    **dict.fromkeys(
        ("created", "resuming", "on_schedule", "compiled", "queued", "scheduled", "starting", "unschedulable"),
        JobState.PENDING,
    ),
    **dict.fromkeys(("running", "processing", "warning", "retrying"), JobState.RUNNING),
}
_NONE_SUCCEEDED = "early stopping ended the search before any of its runs succeeded"
# A run that failed before it was in one of these was refused by the compiler (unknown connection, bad matrix).
_ACCEPTED = frozenset({"queued", "scheduled", "starting", "running", "processing", "retrying"})


class PolyaxonSystem:
    """The runs of one project.

    ``best_by`` is ``{"metric", "direction"}`` of a matrix ("min" is the default direction): its result names the best
    child by that output, and its log has a line per finished child.
    """

    name = "polyaxon"
    # A create that was answered or not is visible as soon as it is committed; this is for the commit itself.
    lookup_grace = 10.0

    def __init__(self, client: PolyaxonClient, project: str, best_by: Mapping[str, str] | None = None) -> None:
        self._client, self._project = client, project
        self._best_by = best_by
        self._is_search = best_by is not None

    @property
    def lane(self) -> Hashable:
        """The project: CE lists the runs of one project at a time (polyaxon.md 3)."""
        return self._project

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def find(self, key: JobKey) -> list[JobStatus]:
        """Runs with this key in ``meta_info``, oldest first."""
        try:
            runs = await self._client.find_by_meta(self._project, KEY, [key.value])
        except NotFound:
            return []  # the project itself does not exist yet
        return [self._status(run) for run in runs]

    async def find_task(self, task: TaskIdentity) -> list[JobStatus]:
        """Unfinished runs of any key of ``task``."""
        try:
            runs = await self._client.find_by_meta(self._project, TASK, [task.hash])
        except NotFound:
            return []
        return [self._status(run) for run in runs if not run.is_final]

    async def trace(self, task: TaskIdentity) -> Trace | None:
        """The highest number among the runs of ``task``, finished ones too."""
        try:
            runs = await self._client.find_by_meta(self._project, TASK, [task.hash])
        except NotFound:
            return None
        traces = [Trace(n, str(run.meta_info.get(SPEC) or "")) for run in runs for n in _ordinal(run)]
        return max(traces, key=lambda trace: trace.n, default=None)

    async def submit(self, key: JobKey, spec: Mapping[str, Any]) -> JobStatus:
        """Create the run, pending.

        ``spec`` is ``{"content": operation as JSON or YAML text, "name": str, "tags": [str]}``, all but the content
        optional. With ``labels`` ``{"commit": str}`` the run is found by ``meta_info.mlfleet_commit``, too.
        """
        commit = (spec.get(LABELS) or {}).get("commit")
        labels, tags = ({COMMIT: commit}, [f"commit-{commit[:12]}"]) if commit else ({}, [])
        marks = {KEY: key.value, TASK: key.task.hash, ORDINAL: key.n, SPEC: spec_digest(spec)}
        await self._client.ensure_project(self._project)
        try:
            run = await self._client.create_run(
                self._project,
                content=spec["content"],
                name=slug(spec.get("name") or key.name),
                tags=[*(spec.get("tags") or ()), *tags],
                meta_info={**marks, **labels},
                pending=APPROVAL,
            )
        except (AuthError, NotFound, Conflict):
            raise
        except RequestRefused as exc:
            raise SpecError(self.name, key.name, "refused", exc.reason or exc.message) from exc
        return self._status(run)

    async def confirm(self, job_id: str) -> None:
        """Approve the run; approving again changes nothing (polyaxon.md 3)."""
        await self._client.approve(self._project, job_id)

    async def poll_many(self, jobs: Mapping[str, RemoteSystem]) -> dict[str, JobStatus]:
        """One request for up to a hundred runs, and one more for each that just ended badly, to learn why."""
        runs = await self._client.runs_by_uuid(self._project, jobs)
        found = {}
        for uuid, run in runs.items():
            asked_by = jobs.get(uuid)
            if isinstance(asked_by, PolyaxonSystem) and run.kind == "matrix":
                asked_by._is_search = True
            status = self._status(run)
            if status.state in {JobState.FAILED, JobState.STOPPED}:
                history = await self._client.statuses(self._project, uuid)
                status = self._explained(status, run, history.conditions)
                if status.state is JobState.SUCCEEDED and not await self._has_success(uuid):
                    status = replace(status, state=JobState.FAILED, reason=_NONE_SUCCEEDED)
            found[uuid] = status
        return found

    async def stop(self, job_id: str) -> None:
        """Stop the run; a matrix takes its children with it. A missing run is fine."""
        try:
            await self._client.stop(self._project, job_id)
        except NotFound:
            return

    async def discard(self, job_id: str) -> None:
        """Delete a run that a race created twice; it never was approved, so nothing is lost with it."""
        await self.stop(job_id)
        await self._client.delete_run(self._project, job_id)

    async def resume(self, job_id: str) -> None:
        """Resume the run from its checkpoint."""
        await self._client.resume(self._project, job_id)

    async def logs(self, job_id: str, cursor: Cursor) -> LogChunk:
        """Lines behind the cursor ``{"before": file before the one being read, "lines": read in it}``.

        The file of a live run grows and is read again from its beginning (clients.polyaxon.LogPage). A matrix has no
        log of its own: it gets a line per finished child, the cursor being ``{"children": [uuid, ...]}``.
        """
        if self._is_search:
            return await self._children_log(job_id, cursor)
        before, read = cursor.get("before"), int(cursor.get("lines") or 0)
        page = await self._client.logs(self._project, job_id, before)
        fresh = [line.text for line in page.lines[read:]]
        if page.last_file in page.files[:-1]:
            return LogChunk(tuple(fresh), {"before": page.last_file, "lines": 0})
        return LogChunk(tuple(fresh), {"before": before, "lines": len(page.lines)} if page.lines else dict(cursor))

    async def result(self, job_id: str) -> dict[str, Any]:
        """The run's inputs and outputs, and the best child of a matrix."""
        run = await self._client.get_run(self._project, job_id)
        return {
            "system": self.name,
            "project": self._project,
            "owner": self._client.owner,
            "uuid": run.uuid,
            "status": run.status,
            "url": self._client.run_url(self._project, run.uuid),
            "inputs": dict(run.inputs),
            "outputs": dict(run.outputs),
            "best": await self._best(job_id),
            "started_at": run.started_at.isoformat() if run.started_at else None,
            "finished_at": run.finished_at.isoformat() if run.finished_at else None,
        }

    async def _has_success(self, job_id: str) -> bool:
        """Whether any run of a search succeeded: one that too many failed runs ended looks like one that is done."""
        return any(child.status == "succeeded" for child in await self._client.children(self._project, job_id))

    async def _best(self, job_id: str) -> dict[str, Any] | None:
        """The best succeeded child; raises SpecError when no child has the metric."""
        if self._best_by is None:
            return None
        metric = self._best_by["metric"]
        children = [c for c in await self._client.children(self._project, job_id) if c.status == "succeeded"]
        best = self._best_of(children)
        if best is None:
            has = sorted({name for child in children for name in child.outputs}) or ["nothing"]
            reason = f"none of its {len(children)} succeeded runs has the output {metric!r}; they have {', '.join(has)}"
            raise SpecError(self.name, job_id, "succeeded", reason, self._client.run_url(self._project, job_id))
        return {"uuid": best.uuid, "inputs": dict(best.inputs), "outputs": dict(best.outputs)}

    def _best_of(self, children: Sequence[PolyaxonRun]) -> PolyaxonRun | None:
        if self._best_by is None:
            return None
        return best_child(children, self._best_by["metric"], self._best_by.get("direction", "min"))

    async def _children_log(self, job_id: str, cursor: Cursor) -> LogChunk:
        told = list(cursor.get("children") or ())
        lines = []
        children = await self._client.children(self._project, job_id)
        best = self._best_of([child for child in children if child.status == "succeeded"])
        for child in children:
            if child.is_final and child.uuid not in told:
                told.append(child.uuid)
                mark = " (best so far)" if best is not None and child.uuid == best.uuid else ""
                lines.append(f"[{len(told)}/{len(children)}] {child.status}: {_pairs(child)}{mark}")
        return LogChunk(tuple(lines), {"children": told})

    def _status(self, run: PolyaxonRun) -> JobStatus:
        return JobStatus(
            id=run.uuid,
            state=_STATES.get(run.status, JobState.UNKNOWN),
            native=run.status,
            url=self._client.run_url(self._project, run.uuid),
            created_at=run.created_at,
            started_at=run.started_at,
            finished_at=run.finished_at,
        )

    def _explained(self, status: JobStatus, run: PolyaxonRun, conditions: Sequence[Condition]) -> JobStatus:
        """Why a run ended badly, from its history; a matrix that early stopping ended has succeeded (polyaxon.md 2)."""
        if status.state is JobState.STOPPED and any("early stopping" in c.message.lower() for c in conditions):
            return replace(status, state=JobState.SUCCEEDED, reason="early stopping ended the search")
        last = next((c for c in reversed(conditions) if c.type in {run.status, "stopping"} and c.message), None)
        words = [last.reason, last.message] if last else [c.reason for c in conditions[-1:]]
        reason = ": ".join(filter(None, words))
        detail = {}
        if status.state is JobState.FAILED:
            refused = not any(c.type in _ACCEPTED for c in conditions)
            detail = {"spec_error": True} if refused else {"infrastructure": True} if is_infrastructure(reason) else {}
        return replace(status, reason=shorten(reason, 1000), detail=detail)


def best_child(children: Iterable[PolyaxonRun], metric: str, direction: str) -> PolyaxonRun | None:
    """The child with the lowest ("min") or highest ("max") number in output ``metric``; None when none has one."""
    scored = [
        (float(value), child)
        for child in children
        if isinstance(value := child.outputs.get(metric), int | float)
        and not isinstance(value, bool)
        and value == value
    ]
    if not scored:
        return None
    pick = max if direction == "max" else min
    return pick(scored, key=lambda pair: pair[0])[1]


def slug(name: str) -> str:
    """A name that the server takes: letters, digits, ``_`` and ``-``, at most 128 of them."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:128]


def _ordinal(run: PolyaxonRun) -> list[int]:
    """The run's number, as far as its meta information has one that we wrote."""
    number = run.meta_info.get(ORDINAL)
    return [number] if isinstance(number, int) and not isinstance(number, bool) else []


def _pairs(child: PolyaxonRun) -> str:
    inputs = ", ".join(f"{k}={v}" for k, v in child.inputs.items())
    outputs = ", ".join(f"{k}={v}" for k, v in child.outputs.items())
    return f"{inputs} -> {outputs}" if outputs else inputs
