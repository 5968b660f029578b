"""A deployment by Spinnaker as a remote job: we do not start it, we find it by its image tag (spinnaker.md 8).

The push of the tag is the deployment, so nothing is submitted here, and nothing is stopped unless asked for. A tag is
unique per release and never reused, which makes it the key.

Remaining window: none of our own; what Spinnaker may lose on the way is listed in spinnaker.md 3.4 and told when no
execution appears.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlfleet.clients.answers import number
from mlfleet.clients.spinnaker import SpinnakerClient
from mlfleet.clients.spinnaker_outcome import DeploymentOutcome, OutcomeKind, deployment_outcome
from mlfleet.clients.spinnaker_trigger import concurrency_warning, trigger_problems
from mlfleet.errors import NotFound, RemoteError, RequestRefused
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity
from mlfleet.remote.logs import shorten
from mlfleet.remote.protocol import Cursor, LogChunk, RemoteSystem

# Clocks of Airflow and Spinnaker differ; the tag is unique, so looking a little earlier costs nothing.
_SKEW_MS = 60_000

_STATES = {
    OutcomeKind.DEPLOYED: JobState.SUCCEEDED,
    OutcomeKind.RUNNING: JobState.RUNNING,
    OutcomeKind.WAITING_FOR_JUDGMENT: JobState.RUNNING,
    OutcomeKind.REJECTED: JobState.STOPPED,
    OutcomeKind.CANCELED: JobState.STOPPED,
    OutcomeKind.SUPERSEDED: JobState.STOPPED,
}
_SILENT_CAUSES = (
    "the tag was used before (a tag fires once)",
    "the account that runs the trigger may not execute the application",
    "an expected artifact does not match",
    "igor has the first image of this account, or too many new ones at once (itemUpperThreshold)",
    "clouddriver can't list the repository's tags",
    "igor, echo or orca lost the event",
)


@dataclass(frozen=True)
class Deployment:
    """What to look for.

    ``repository`` is without the registry's host; ``since_ms`` the release in epoch milliseconds; ``start_timeout``
    the seconds after it by which an execution must have appeared.
    """

    application: str
    pipeline: str
    repository: str
    tag: str
    digest: str | None
    since_ms: int
    start_timeout: float = 600.0

    @property
    def id(self) -> str:
        """The job's id: the tag, because the execution's id is not known before it was found."""
        return f"{self.repository}:{self.tag}"

    def as_json(self) -> dict[str, Any]:
        """JSON for a trigger."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Deployment:
        """The opposite."""
        return cls(**data)


class SpinnakerSystem:
    """Finds and follows the execution of one deployment."""

    name = "spinnaker"
    lookup_grace = 0.0

    def __init__(self, client: SpinnakerClient, deployment: Deployment, now: Callable[[], float] = time.time) -> None:
        self._client, self._wanted, self._now = client, deployment, now
        self._execution: Mapping[str, Any] | None = None
        self._others = 0

    @property
    def lane(self) -> Hashable:
        """Each deployment is looked at alone."""
        return self._wanted.id

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def find(self, key: JobKey) -> list[JobStatus]:
        """The deployment itself: it is found by its tag, whoever pushed it."""
        return list((await self.poll_many({self._wanted.id: self})).values())

    async def find_task(self, task: TaskIdentity) -> list[JobStatus]:
        """None: an execution is never ours to end."""
        return []

    async def submit(self, key: JobKey, spec: Mapping[str, Any]) -> JobStatus:
        """Nothing to send: the push was the submission."""
        return (await self.poll_many({self._wanted.id: self}))[self._wanted.id]

    async def confirm(self, job_id: str) -> None:
        """Nothing to do."""

    async def poll_many(self, jobs: Mapping[str, RemoteSystem]) -> dict[str, JobStatus]:
        """The deployment's status; it exists from the push on, also before an execution does."""
        seen = self._execution
        execution = await self._follow()
        if execution is None and seen is not None:
            return {}
        return {job_id: await self._status(execution) for job_id in jobs}

    async def stop(self, job_id: str) -> None:
        """Cancel the execution; a finished or missing one is fine. Called only when the task's policy says so."""
        execution = await self._follow()
        if execution is not None:
            await self._client.cancel(str(execution["id"]), "the Airflow task that follows it was stopped")

    async def discard(self, job_id: str) -> None:
        """Never: several executions of one tag are told, not ended."""

    async def resume(self, job_id: str) -> None:
        """Raises RequestRefused: a tag starts one execution."""
        raise RequestRefused(self.name, f"{job_id} can't be deployed again under the same tag")

    async def logs(self, job_id: str, cursor: Cursor) -> LogChunk:
        """Spinnaker has no logs; stages that changed are the lines, the cursor being ``{stage id: status}``."""
        told, lines = dict(cursor), []
        for stage in (self._execution or {}).get("stages") or ():
            if not isinstance(stage, Mapping) or stage.get("parentStageId"):
                continue
            stage_id, status = str(stage.get("id")), str(stage.get("status"))
            if told.get(stage_id, "NOT_STARTED") != status:
                lines.append(f"stage {stage.get('name') or stage.get('type')}: {status}")
                told[stage_id] = status
        return LogChunk(tuple(lines), told)

    async def result(self, job_id: str) -> dict[str, Any]:
        """What was deployed. Raises NotFound when the execution is gone."""
        execution = await self._follow()
        if execution is None:
            raise NotFound(self.name, f"the execution for {job_id} does not exist any more")
        outcome = self._outcome(execution)
        return {
            "outcome": outcome.kind.value,
            "execution_id": str(execution["id"]),
            "url": self._url(execution),
            "application": self._wanted.application,
            "pipeline": self._wanted.pipeline,
            "digest": self._wanted.digest,
            "bound_reference": outcome.bound_reference,
        }

    async def _follow(self) -> Mapping[str, Any] | None:
        """The execution, whole: by its id once it is known, before that by a search."""
        if self._execution is None:
            execution_id = await self._search()
        else:
            execution_id = str(self._execution["id"])
        if execution_id is None:
            return None
        try:
            self._execution = await self._client.get_execution(execution_id)
        except NotFound:
            return None
        return self._execution

    async def _search(self) -> str | None:
        wanted = self._wanted
        rows = await self._client.search(
            wanted.application, wanted.pipeline, wanted.repository, wanted.tag, since_ms=wanted.since_ms - _SKEW_MS
        )
        if not rows:
            return None
        # Newest first; one that was superseded in the queue is not what became of the tag if there is another.
        alive = [row for row in rows if row.get("status") != "CANCELED"] or rows
        self._others = len(rows) - 1
        return str(max(alive, key=lambda row: number(row.get("buildTime")))["id"])

    async def _status(self, execution: Mapping[str, Any] | None) -> JobStatus:
        if execution is None:
            return await self._not_started()
        outcome = self._outcome(execution)
        state = _STATES.get(outcome.kind, JobState.FAILED)
        reason = outcome.reason
        if state is JobState.FAILED:
            reason = await self._explained(str(execution["id"]), reason)
        if self._others:
            reason += f" ({self._others} more executions of this tag exist)"
        return JobStatus(
            id=self._wanted.id,
            state=state,
            native=outcome.kind.value,
            reason=shorten(reason, 1500),
            url=self._url(execution),
            detail={"execution_id": str(execution["id"])},
        )

    async def _not_started(self) -> JobStatus:
        wanted = self._wanted
        late = self._now() - wanted.since_ms / 1000 >= wanted.start_timeout
        url = f"{self._client.deck_url}/#/applications/{wanted.application}/executions"
        if not late:
            return JobStatus(wanted.id, JobState.PENDING, "not_started", "no execution of this tag yet", url)
        reason = f"no execution for {wanted.id} within {wanted.start_timeout:.0f} s of its release: "
        return JobStatus(wanted.id, JobState.FAILED, "never_started", reason + await self._diagnosis(), url)

    async def _diagnosis(self) -> str:
        """Why a push starts nothing: what the pipeline's configuration shows, else the causes that nothing shows."""
        wanted = self._wanted
        where = f"pipeline {wanted.pipeline} of application {wanted.application}"
        try:
            config = await self._client.pipeline_config(wanted.application, wanted.pipeline)
        except NotFound:
            return f"there is no {where}. Create it, or correct deploy.spinnaker in the manifest"
        except RemoteError as exc:
            return f"the configuration of {where} could not be read ({exc})"
        problems = trigger_problems(config, wanted.repository, wanted.tag)
        if problems:
            return "; ".join(problems) + f". Correct the triggers of {where}"
        causes = "; ".join(_SILENT_CAUSES)
        warning = concurrency_warning(config)
        hint = f" ({warning})" if warning else ""
        return f"a trigger of {where} matches, so one of: {causes}{hint}"

    async def _explained(self, execution_id: str, reason: str) -> str:
        """The reason with the stage that failed, through nested pipelines."""
        try:
            stages = await self._client.failed_stages(execution_id)
        except RemoteError:
            return reason
        told = [
            f"{stage.name} ({stage.type}) {stage.status}" + (f": {stage.exception}" if stage.exception else "")
            for stage in stages
            if stage.exception not in reason or stage.name not in reason
        ]
        return "; ".join([reason, *told])

    def _outcome(self, execution: Mapping[str, Any]) -> DeploymentOutcome:
        return deployment_outcome(execution, self._wanted.repository, self._wanted.tag, self._wanted.digest)

    def _url(self, execution: Mapping[str, Any]) -> str:
        return self._client.execution_url(self._wanted.application, str(execution["id"]))
