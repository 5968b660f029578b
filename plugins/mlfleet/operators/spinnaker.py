"""Follows the deployment that the push of a released tag started."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mlfleet.errors import ConfigError, JobError, JobTimedOut, NotFound, OutcomeUnknown, RequestRefused
from mlfleet.hooks.spinnaker import SpinnakerHook
from mlfleet.operators.remote_job import BaseRemoteJobOperator
from mlfleet.remote.policies import RerunMode

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.clients.spinnaker import SpinnakerClient
    from mlfleet.operators.run_values import RunValues
    from mlfleet.remote.decisions import Tell
    from mlfleet.remote.job import JobStatus
    from mlfleet.remote.protocol import RemoteSystem
    from mlfleet.systems.spinnaker import Deployment
    from mlfleet.triggers.base import RemoteJobTrigger


class SpinnakerDeployOperator(BaseRemoteJobOperator):
    """Finds the execution of the tag that ``release_task_id`` pushed and says what came of it.

    It starts nothing (the push did), and leaves the execution running when the task is stopped, unless
    ``on_kill_policy="cancel"``. Clearing it looks again. ``start_timeout`` is the time after the release by which an
    execution must have appeared; with ``on_not_started="start"`` the pipeline is then started by hand, with the same
    image, and gets the same time again, while "fail" leaves the choice to a person.

    Returns ``{"outcome": "deployed", "execution_id", "url", "application", "pipeline", "digest", "bound_reference"}``;
    every other outcome is an error.
    """

    hook_class = SpinnakerHook

    def __init__(
        self,
        *,
        application: str,
        pipeline: str,
        release_task_id: str,
        spinnaker_conn_id: str = SpinnakerHook.default_conn_name,
        timeout: timedelta | None = None,
        start_timeout: timedelta = timedelta(minutes=10),
        on_not_started: str = "fail",
        on_kill_policy: str = "leave",
        **kwargs: Any,
    ) -> None:
        if on_not_started not in {"fail", "start"}:
            raise ConfigError(f"on_not_started is 'fail' or 'start', not {on_not_started!r}")
        if on_kill_policy not in {"leave", "cancel"}:
            raise ConfigError(f"on_kill_policy is 'leave' or 'cancel', not {on_kill_policy!r}")
        policy = "stop" if on_kill_policy == "cancel" else "leave"
        super().__init__(conn_id=spinnaker_conn_id, timeout=timeout, on_kill_policy=policy, **kwargs)
        self.application, self.pipeline, self.release_task_id = application, pipeline, release_task_id
        self.start_timeout, self.on_not_started = start_timeout, on_not_started

    def make_spec(self, values: RunValues, context: Context) -> dict[str, Any]:
        """What to look for, from the release. Raises ConfigError when nothing was released."""
        from mlfleet.systems.spinnaker import Deployment

        try:
            release = values.task_output(self.release_task_id)
        except LookupError as exc:
            raise ConfigError(f"there is no release to follow: {exc}", f"task {self.release_task_id}") from exc
        return Deployment(
            application=values.resolve(self.application),
            pipeline=values.resolve(self.pipeline),
            repository=release["repository"],
            tag=release["tag"],
            digest=release.get("digest"),
            since_ms=int(release["released_at_ms"]),
            start_timeout=self.start_timeout.total_seconds(),
            on_not_started=self.on_not_started,
            registry=str(release.get("registry") or ""),
        ).as_json()

    def system_args(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """The deployment."""
        return {"deployment": dict(spec)}

    def make_system(self, client: SpinnakerClient, args: Mapping[str, Any]) -> RemoteSystem:
        """Spinnaker."""
        from mlfleet.systems.spinnaker import Deployment, SpinnakerSystem

        return SpinnakerSystem(client, Deployment.from_json(args["deployment"]))

    def make_trigger(self, common: Mapping[str, Any], args: Mapping[str, Any]) -> RemoteJobTrigger:
        """Waits for the execution and its end."""
        from mlfleet.triggers.spinnaker import SpinnakerTrigger

        return SpinnakerTrigger(**common, **args)

    async def begin(
        self, system: RemoteSystem, spec: Mapping[str, Any], context: Context, mode: RerunMode | None
    ) -> JobStatus:
        """Look, without submitting: no record is needed for a job that somebody else starts."""
        from mlfleet.operators.records import teller
        from mlfleet.remote.decisions import Decision, Kind
        from mlfleet.remote.job import JobState
        from mlfleet.systems.spinnaker import Deployment

        wanted = Deployment.from_json(spec)
        where = f"{wanted.application}/{wanted.pipeline}"
        tell = teller(self.log.info, system.name)
        tell(Decision(Kind.LOOK, f"looking for the execution of {wanted.id} in {where}"))
        status = await _seen(system, wanted)
        if mode is RerunMode.RESUME and status.state is JobState.FAILED:
            tell(Decision(Kind.RESUMED, f"a person asked to start {where} by hand for {wanted.id}", wanted.id))
            await system.resume(wanted.id)
            return await _seen(system, wanted)
        if status.detail.get("infrastructure"):
            return await _started(system, wanted, tell)
        return status

    def todo_for(self, error: JobError) -> str:
        """A tag starts one execution only: looking again, which is what clearing this task does, would not deploy."""
        if isinstance(error, JobTimedOut):
            return "Clear this task to go on following the execution, or make deploy.timeout longer"
        again = f"Mend the cause, then clear {self.release_task_id!r} to release the image anew"
        if error.state != "never_started":
            return again
        return (
            f"{again}; or have the pipeline started by hand with this image: set rerun_mode to resume in the Task "
            f"State Store tab (Storage) of {self.task_id!r} and clear that task"
        )


async def _seen(system: RemoteSystem, wanted: Deployment) -> JobStatus:
    from mlfleet.remote.protocol import look

    status = await look(system, wanted.id)
    if status is None:
        raise NotFound(system.name, f"the execution of {wanted.id} does not exist any more")
    return status


async def _started(system: RemoteSystem, wanted: Deployment, tell: Tell) -> JobStatus:
    """The status after a start by hand, which the task's policy asks for."""
    from mlfleet.remote.decisions import Decision, Kind

    try:
        await system.resume(wanted.id)
    except (OutcomeUnknown, RequestRefused) as exc:
        refused = f"{wanted.id} started nothing, and starting its pipeline by hand failed: {exc}"
        tell(Decision(Kind.RESUME_REFUSED, refused, wanted.id))
    else:
        tell(Decision(Kind.RESUMED, f"{wanted.id} started nothing: its pipeline was started by hand", wanted.id))
    return await _seen(system, wanted)
