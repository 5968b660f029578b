"""Google Cloud Build's builds as remote jobs. Not run against Google Cloud: see :mod:`mlfleet.clients.cloud_build`.

The server chooses a build's id, so the key is a build tag, ``mlfleet-<key>``; ``mlfleet-task-<task hash>`` beside it
finds whatever a task has running. Builds are listed by tag before one is created, and after a lost answer for
``lookup_grace`` seconds before another create is sent. The oldest one (createTime, id) counts; a later one is
cancelled, never deleted: what ran must stay to be seen.

``lookup_grace`` is 120 s. A tag can only be looked for in a list, and Google says neither how long a create may still
take effect after its caller has gone nor how soon a list shows a new build. Half of it is for the request (a minute is
the time-out of Google's own client, googleapiclient/http.py), half for the list. Being generous costs something only
when an answer is lost *and* no build comes of it.

Remaining window: a list that lags longer than that; or, within the lag, two processes that create under one key or a
create that somebody on the way sends twice, as the look-up after it does not see the other build yet. Both builds run
then until an entry looks the key up again: one that finds an unanswered submit keeps the oldest, a clear ends both.
Both push ``build-<key>``, a tag that deploys nothing.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from mlfleet.clients.cloud_build import Build, CloudBuildClient
from mlfleet.errors import NotFound, RequestRefused, SpecError
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity
from mlfleet.remote.logs import shorten
from mlfleet.remote.protocol import Cursor, LogChunk, RemoteSystem

_STATES = {
    "PENDING": JobState.PENDING,
    "QUEUED": JobState.PENDING,
    "WORKING": JobState.RUNNING,
    "SUCCESS": JobState.SUCCEEDED,
    "FAILURE": JobState.FAILED,
    "INTERNAL_ERROR": JobState.FAILED,
    "TIMEOUT": JobState.FAILED,
    "CANCELLED": JobState.STOPPED,
    "EXPIRED": JobState.FAILED,
}
# Cloud Build's own trouble, or a queue that was too long: the build itself did nothing wrong.
_NO_FAULT = frozenset({"INTERNAL_ERROR", "EXPIRED"})
# The other types name something to mend: a step, the source (normally: no such object), a permission, an image that no
# step has made.
_NO_FAULT_TYPES = frozenset({"LOGGING_FAILURE", "PUSH_FAILED"})


def key_tag(key: JobKey) -> str:
    """The build tag that finds the builds of a key."""
    return f"mlfleet-{key.value}"


def task_tag(task: TaskIdentity) -> str:
    """The build tag that all builds of a task have."""
    return f"mlfleet-task-{task.hash}"


class CloudBuildSystem:
    """The builds of one project in one location (a region, or "global")."""

    name = "cloud_build"
    lookup_grace = 120.0

    def __init__(self, client: CloudBuildClient, project_id: str, location: str) -> None:
        self._client = client
        self._place = (project_id, location)
        self.lane: Hashable = self._place

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def find(self, key: JobKey) -> list[JobStatus]:
        """The builds with the key's tag, oldest first."""
        return [self._status(build) for build in await self._client.find_builds(*self._place, key_tag(key))]

    async def find_task(self, task: TaskIdentity) -> list[JobStatus]:
        """The unfinished builds with the task's tag, oldest first."""
        builds = await self._client.find_builds(*self._place, task_tag(task))
        return [self._status(build) for build in builds if not build.is_final]

    async def submit(self, key: JobKey, spec: Mapping[str, Any]) -> JobStatus:
        """Start a build of ``{"build": <Build resource as JSON>}``, with the tags added on a copy."""
        build = dict(spec["build"])
        build["tags"] = list(dict.fromkeys([*(build.get("tags") or ()), key_tag(key), task_tag(key.task)]))
        try:
            return self._status(await self._client.create_build(*self._place, build))
        except RequestRefused as exc:
            if exc.status != 400:
                raise
            raise SpecError(self.name, key.name, "refused", exc.reason or exc.message) from exc

    async def confirm(self, job_id: str) -> None:
        """Nothing to do: a build starts when it is created."""

    async def poll_many(self, jobs: Mapping[str, RemoteSystem]) -> dict[str, JobStatus]:
        """One list request for up to a hundred builds, and one more for each that the list does not show (yet)."""
        found = await self._client.builds_by_id(*self._place, jobs)
        for build_id in jobs:
            if build_id not in found:
                # The list lags behind, a look at one build does not: only a 404 means that it is gone.
                try:
                    found[build_id] = await self._client.get_build(*self._place, build_id)
                except NotFound:
                    continue
        return {build_id: self._status(build) for build_id, build in found.items()}

    async def stop(self, job_id: str) -> None:
        """Cancel the build; a finished or missing one is fine."""
        try:
            await self._client.cancel(*self._place, job_id)
        except NotFound:
            return

    async def discard(self, job_id: str) -> None:
        """As :meth:`stop`: the build may have done something, so it stays to be seen."""
        await self.stop(job_id)

    async def resume(self, job_id: str) -> None:
        """Always refused: Cloud Build's retry starts another build under another id (v1, ``builds.retry``)."""
        raise RequestRefused(
            self.name, f"build {job_id} can't go on: Cloud Build runs a build again only as a new one with a new id"
        )

    async def logs(self, job_id: str, cursor: Cursor) -> LogChunk:
        """None: the API has no logs.

        They are a file in a Cloud Storage bucket, another system with other permissions; the build's page shows them.
        """
        return LogChunk((), dict(cursor))

    async def result(self, job_id: str) -> dict[str, Any]:
        """The images with their digests, and when the build ran (ISO 8601, None when unknown)."""
        build = await self._client.get_build(*self._place, job_id)
        return {
            "system": self.name,
            "build_id": build.build_id,
            "status": build.status,
            "url": self._url(build),
            "images": [{"name": image.name, "digest": image.digest} for image in build.images],
            "started_at": build.started_at.isoformat() if build.started_at else None,
            "finished_at": build.finished_at.isoformat() if build.finished_at else None,
        }

    def _url(self, build: Build) -> str:
        return build.log_url or self._client.build_url(*self._place, build.build_id)

    def _status(self, build: Build) -> JobStatus:
        state = _STATES.get(build.status, JobState.UNKNOWN)
        no_fault = build.status in _NO_FAULT or build.failure_type in _NO_FAULT_TYPES
        return JobStatus(
            id=build.build_id,
            state=state,
            native=build.status,
            reason=_why(build),
            url=self._url(build),
            created_at=build.created_at,
            started_at=build.started_at,
            finished_at=build.finished_at,
            detail={"infrastructure": True} if state is JobState.FAILED and no_fault else {},
        )


def _why(build: Build) -> str:
    """The server's words, each once, and the steps that failed."""
    steps = f"failed: {', '.join(build.failed_steps)}" if build.failed_steps else ""
    words = [build.status_detail, build.failure_detail or build.failure_type, steps]
    return shorten("; ".join(dict.fromkeys(filter(None, words))), 1000)
