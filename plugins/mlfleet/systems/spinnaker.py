"""A deployment by Spinnaker as a remote job: we do not start it, we find it by its image tag (spinnaker.md 8).

The push of the tag is the deployment, so nothing is submitted here, and nothing is stopped unless asked for. A tag is
unique per release and never reused, which makes it the key. What Spinnaker may lose on the way (spinnaker.md 3.4) is
told when no execution appears; the way out is :meth:`SpinnakerSystem.resume`, a start by hand.

Remaining window, of the start by hand alone: a push that Spinnaker notices after all, later than ``start_timeout`` and
between the last look and the start (a call is tried for a minute), makes a second execution of the tag (the push's has
no correlation id). And a start whose execution came late, ended and was not in the search when another process asked
again is made twice: while it is live the correlation id prevents that.
Both deploy the same image; the status tells how many executions there are.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any

from mlfleet.clients.answers import moment_ms, number
from mlfleet.clients.spinnaker import Listed, SpinnakerClient
from mlfleet.clients.spinnaker_outcome import (
    DeploymentOutcome,
    OutcomeKind,
    deployment_outcome,
    is_complete,
    needs_contexts,
)
from mlfleet.errors import NotFound, OutcomeUnknown, RemoteError, RequestRefused, TransientError
from mlfleet.remote.job import JobKey, JobState, JobStatus, TaskIdentity
from mlfleet.remote.logs import shorten
from mlfleet.remote.protocol import Cursor, LogChunk, RemoteSystem, look
from mlfleet.systems.spinnaker_deployment import Deployment, Execution, Followed, looks_of, never_began
from mlfleet.systems.spinnaker_start import diagnosis, start_by_hand

__all__ = ["Deployment", "SpinnakerSystem"]

_STATES = {
    OutcomeKind.DEPLOYED: JobState.SUCCEEDED,
    OutcomeKind.RUNNING: JobState.RUNNING,
    OutcomeKind.WAITING_FOR_JUDGMENT: JobState.RUNNING,
    OutcomeKind.REJECTED: JobState.STOPPED,
    OutcomeKind.CANCELED: JobState.STOPPED,
    OutcomeKind.SUPERSEDED: JobState.STOPPED,
}
# Whole executions that one poll reads at once.
_PARALLEL = 8
# A started pipeline shows after a second or two; so often, and with such pauses, it is looked for before we go on.
_APPEAR_LOOKS = 10
_APPEAR_PAUSE = 1.5
# Seconds after its release until which a deployment is started by hand without a person's word. Who clears a task of
# last month must not put last month's model into production.
_FRESH = 86_400.0


class SpinnakerSystem:
    """Finds and follows the execution of one deployment.

    ``now`` (epoch seconds) and ``sleep`` replace time in tests.
    """

    name = "spinnaker"
    lookup_grace = 0.0

    def __init__(
        self,
        client: SpinnakerClient,
        deployment: Deployment,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client, self._wanted, self._now, self._sleep = client, deployment, now, sleep
        self._followed = Followed(deployment)

    @property
    def lane(self) -> Hashable:
        """A search is of one application; executions that are known are read together, whatever they belong to."""
        return "following" if self._followed.execution else ("searching", self._wanted.application)

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()

    async def find(self, key: JobKey) -> list[JobStatus]:
        """The deployment itself: it is found by its tag, whoever pushed it."""
        status = await look(self, self._wanted.id)
        return [] if status is None else [status]

    async def find_task(self, task: TaskIdentity) -> list[JobStatus]:
        """None: an execution is never ours to end."""
        return []

    async def submit(self, key: JobKey, spec: Mapping[str, Any]) -> JobStatus:
        """Nothing to send: the push was the submission. Raises NotFound when its execution is gone."""
        status = await look(self, self._wanted.id)
        if status is None:
            raise self._gone()
        return status

    async def confirm(self, job_id: str) -> None:
        """Nothing to do."""

    async def poll_many(self, jobs: Mapping[str, RemoteSystem]) -> dict[str, JobStatus]:
        """The deployments' statuses; each exists from its push on, also before an execution does.

        One search for each application with deployments that have no execution yet, one list of the executions that
        are known, and one whole execution for each that has ended or asks a person.
        """
        views = {job_id: view for job_id, view in jobs.items() if isinstance(view, SpinnakerSystem)}
        listed = await self._client.glance(each for view in views.values() if (each := view._followed.execution_id))
        statuses = {job_id: view._followed.unchanged(listed.glances) for job_id, view in views.items()}
        changed = {job_id: view for job_id, view in views.items() if statuses[job_id] is None}
        if changed:
            statuses.update(await self._read(changed, listed))
        return {job_id: status for job_id, status in statuses.items() if status is not None}

    async def _read(self, views: Mapping[str, SpinnakerSystem], listed: Listed) -> dict[str, JobStatus | None]:
        """The statuses of those about whom a glance at the list is not enough."""
        rows: dict[str, Execution] = dict(listed.rows())
        searching = [view for view in views.values() if view._followed.execution is None]
        found, trouble = await self._search_all(searching, must_work=not rows)
        rows.update({str(row["id"]): row for row in found})
        statuses = {job_id: view._told_by(rows) for job_id, view in views.items()}
        for job_id, status in statuses.items():
            if status is not None:
                views[job_id]._followed.seen_in(listed.glances)
        unclear = {job_id: view for job_id, view in views.items() if statuses[job_id] is None}
        return {**statuses, **await self._ask_for_each(unclear, trouble)}

    @staticmethod
    async def _ask_for_each(
        views: Mapping[str, SpinnakerSystem], trouble: Mapping[str, str]
    ) -> dict[str, JobStatus | None]:
        """What a list can't tell: a few requests for each view, a few views at once."""
        limit = asyncio.Semaphore(_PARALLEL)

        async def told(view: SpinnakerSystem) -> JobStatus | None:
            async with limit:
                execution_id = view._followed.execution_id
                if execution_id is None:
                    return await view._not_started(trouble.get(view._wanted.application, ""))
                return await view._whole(execution_id)

        found: dict[str, JobStatus | None] = {}
        answers = await asyncio.gather(*(told(view) for view in views.values()), return_exceptions=True)
        for job_id, status in zip(views, answers, strict=True):
            if isinstance(status, BaseException):
                raise status
            found[job_id] = status
        return found

    async def stop(self, job_id: str) -> None:
        """Cancel the execution; a finished or missing one is fine. Called only when the task's policy says so."""
        execution_id = await self._execution_id()
        if execution_id is None:
            return
        try:
            await self._client.cancel(execution_id, "the Airflow task that follows it was stopped")
        except NotFound:
            return

    async def discard(self, job_id: str) -> None:
        """Never: several executions of one tag are told, not ended."""

    async def resume(self, job_id: str) -> None:
        """Start the pipeline by hand with the same image, after a push that started nothing.

        Raises RequestRefused when the tag has an execution that began, or the pipeline can't be started;
        OutcomeUnknown when the answer was lost and nothing appeared (asking again starts nothing twice).
        """
        followed = self._followed
        start = await start_by_hand(self._client, self._wanted)
        own = followed.own(await self._search([self]))
        for row in own:
            if not never_began(row, self._wanted.image):
                raise RequestRefused(
                    self.name, f"{self._wanted.id} has an execution, {row['status']}: {self._url(str(row['id']))}"
                )
        followed.forget({str(row["id"]) for row in own})
        lost: OutcomeUnknown | None = None
        try:
            await start()
        except OutcomeUnknown as exc:
            lost = exc
        followed.asked_at, followed.answered = self._now(), lost is None
        # Also after a yes: whoever looks next may be another process, which can't know that this one has asked.
        if not await self._appears() and lost is not None:
            raise lost

    async def logs(self, job_id: str, cursor: Cursor) -> LogChunk:
        """Spinnaker has no logs; stages that changed are the lines, the cursor being ``{stage id: status}``."""
        told, lines = dict(cursor), []
        for stage in (self._followed.execution or {}).get("stages") or ():
            if not isinstance(stage, Mapping) or stage.get("parentStageId"):
                continue
            stage_id, status = str(stage.get("id")), str(stage.get("status"))
            if told.get(stage_id, "NOT_STARTED") != status:
                lines.append(f"stage {stage.get('name') or stage.get('type')}: {status}")
                told[stage_id] = status
        return LogChunk(tuple(lines), told)

    async def result(self, job_id: str) -> dict[str, Any]:
        """What was deployed, by the newest execution of the tag that deployed it: others may have come since.

        Raises TransientError when none shows a deployment (any more: somebody may have restarted a stage, or the search
        leaves out what the wait has just seen); a retry looks again.
        """
        execution_id, outcome = await self._deployed()
        return {
            "outcome": outcome.kind.value,
            "execution_id": execution_id,
            "url": self._url(execution_id),
            "application": self._wanted.application,
            "pipeline": self._wanted.pipeline,
            "digest": self._wanted.digest,
            "bound_reference": outcome.bound_reference,
        }

    # Finding

    async def _deployed(self) -> tuple[str, DeploymentOutcome]:
        """The execution that deployed, and its outcome; raises what :meth:`result` does."""
        rows = sorted(self._followed.own(await self._search([self])), key=lambda row: -number(row.get("buildTime")))
        for row in rows:
            if is_complete(row):
                outcome = self._outcome(await self._client.get_execution(str(row["id"])))
                if outcome.kind is OutcomeKind.DEPLOYED:
                    return str(row["id"]), outcome
        told = self._outcome(rows[0]).reason if rows else "the search found none"
        raise TransientError(self.name, f"{self._wanted.id} was deployed, but no execution shows it now: {told}")

    async def _execution_id(self) -> str | None:
        """The execution's id, by a search when it is not known yet."""
        if self._followed.execution is None:
            self._followed.choose(await self._search([self]))
        return self._followed.execution_id

    async def _search_all(
        self, views: Sequence[SpinnakerSystem], *, must_work: bool
    ) -> tuple[list[Execution], dict[str, str]]:
        """One search for each application; what is found is remembered on the views.

        A search that does not work must not keep the news from those whose execution is known: with ``must_work`` off
        it is told by application in the second value. Otherwise it raises.
        """
        found: list[Execution] = []
        trouble: dict[str, str] = {}
        for application in dict.fromkeys(view._wanted.application for view in views):
            ours = [view for view in views if view._wanted.application == application]
            try:
                rows = await self._search(ours)
            except TransientError as exc:
                if must_work:
                    raise
                trouble[application] = str(exc)
                continue
            for view in ours:
                view._followed.choose(rows)
            found += rows
        return found, trouble

    async def _search(self, views: Iterable[SpinnakerSystem]) -> Sequence[Execution]:
        """All executions of the views' tags; the views have one application."""
        wanted = [view._wanted for view in views]
        pipelines = {each.pipeline for each in wanted}
        return await self._client.search(
            wanted[0].application,
            [each.image for each in wanted],
            since_ms=min(each.earliest_ms for each in wanted),
            pipeline=pipelines.pop() if len(pipelines) == 1 else None,
        )

    async def _appears(self) -> bool:
        """Whether the execution can be found within the seconds that Spinnaker needs to make it."""
        for _ in range(_APPEAR_LOOKS):
            try:
                if await self._execution_id() is not None:
                    return True
            except RemoteError:
                pass
            await self._sleep(_APPEAR_PAUSE)
        return False

    # Telling

    def _told_by(self, rows: Mapping[str, Execution]) -> JobStatus | None:
        """This deployment's status from a list's rows alone; None when they can't tell.

        A list leaves out what can't be read; asked for alone, only a missing execution is a 404.
        """
        followed = self._followed
        row = rows.get(followed.execution_id or "")
        if row is None:
            return None
        if followed.told is not None and followed.looks == looks_of(row):
            return followed.told
        if needs_contexts(row):
            return None
        status = self._live(row, self._outcome(row))
        followed.keep(row, status)
        return status

    async def _whole(self, execution_id: str) -> JobStatus | None:
        """The status from the whole execution; None when there is none."""
        try:
            execution = await self._client.get_execution(execution_id)
        except NotFound:
            return None
        except TransientError as exc:
            # Gate's empty 200 (spinnaker.md 0.5) must not be taken for an end, nor end the poll for the others.
            known = self._followed.execution or {"id": execution_id}
            return self._status(known, JobState.UNKNOWN, "unreadable", f"the execution can't be read now: {exc}")
        outcome = self._outcome(execution)
        status = self._live(execution, outcome)
        if status.state is JobState.FAILED:
            reason = await self._explained(execution_id, outcome.reason)
            status = self._status(execution, status.state, status.native, reason)
        self._followed.keep(execution, status)
        return status

    def _live(self, execution: Execution, outcome: DeploymentOutcome) -> JobStatus:
        state = _STATES.get(outcome.kind, JobState.FAILED)
        return self._status(execution, state, outcome.kind.value, outcome.reason)

    def _status(self, execution: Execution, state: JobState, native: str, reason: str) -> JobStatus:
        execution_id = str(execution["id"])
        if self._followed.others:
            reason += f" ({self._followed.others} more executions of this tag exist)"
        return JobStatus(
            id=self._wanted.id,
            state=state,
            native=native,
            reason=shorten(reason, 1500),
            url=self._url(execution_id),
            created_at=moment_ms(execution.get("buildTime")),
            started_at=moment_ms(execution.get("startTime")),
            finished_at=moment_ms(execution.get("endTime")) if state.is_final else None,
            detail={"execution_id": execution_id},
        )

    async def _not_started(self, trouble: str) -> JobStatus:
        wanted, followed = self._wanted, self._followed
        url = f"{self._client.deck_url}/#/applications/{wanted.application}/executions"
        late = self._now() - followed.waits_since() >= wanted.start_timeout
        if trouble or not late:
            reason = f"the search does not work now: {trouble}" if trouble else "no execution of this tag yet"
            reason += ", its pipeline was started by hand" if followed.asked_at else ""
            return JobStatus(
                wanted.id, JobState.PENDING, "not_started", reason, url, created_at=moment_ms(wanted.since_ms)
            )
        what = "the start by hand of its pipeline" if followed.asked_at else "its release"
        reason = f"no execution for {wanted.id} within {wanted.start_timeout:.0f} s of {what}: "
        reason += await diagnosis(self._client, wanted)
        detail = {"infrastructure": True} if self._may_start() else {}
        return JobStatus(wanted.id, JobState.FAILED, "never_started", reason, url, detail=detail)

    def _may_start(self) -> bool:
        """Whether the policy lets it be started by hand: once, and not a release of the past."""
        wanted = self._wanted
        age = self._now() - wanted.since_ms / 1000
        return wanted.on_not_started == "start" and not self._followed.answered and age < _FRESH + wanted.start_timeout

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

    def _outcome(self, execution: Execution) -> DeploymentOutcome:
        return deployment_outcome(execution, self._wanted.repository, self._wanted.tag, self._wanted.digest)

    def _url(self, execution_id: str) -> str:
        return self._client.execution_url(self._wanted.application, execution_id)

    def _gone(self) -> NotFound:
        return NotFound(self.name, f"the execution for {self._wanted.id} does not exist any more")
