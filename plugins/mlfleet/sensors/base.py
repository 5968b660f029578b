"""One sensor for all systems: waits for a job that somebody else started, and never stops it."""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow.sdk import BaseSensorOperator, PokeReturnValue

from mlfleet.errors import JobError
from mlfleet.hooks.base import SystemHook
from mlfleet.links.remote_job import REMOTE_URL, RemoteJobLink
from mlfleet.remote.conclusion import conclude
from mlfleet.remote.job import JobStatus
from mlfleet.remote.protocol import RemoteSystem, look
from mlfleet.remote.watching import End, Outcome
from mlfleet.triggers.base import RemoteJobTrigger
from mlfleet.triggers.events import CURSOR_KEY, earliest_event, failing_fast

if TYPE_CHECKING:
    from airflow.sdk import Context


class RemoteJobSensor(BaseSensorOperator):
    """Waits for a remote job to succeed and returns its result; fails when the job fails.

    Deferrable by default; with ``deferrable=False`` it pokes every ``poke_interval`` seconds, in ``mode`` poke or
    reschedule. ``timeout`` (seconds or timedelta) ends the wait, never the job.
    """

    operator_extra_links = (RemoteJobLink(),)
    hook_class: ClassVar[type[SystemHook[Any]]]

    def __init__(self, *, conn_id: str, deferrable: bool = True, poke_interval: float = 10.0, **kwargs: Any) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.conn_id, self.deferrable = conn_id, deferrable

    @property
    @abstractmethod
    def job_id(self) -> str:
        """What the system calls the job, or will call it."""

    @abstractmethod
    def make_system(self, client: Any) -> RemoteSystem:
        """The system on a client."""

    @abstractmethod
    def make_trigger(self, **common: Any) -> RemoteJobTrigger:
        """The trigger that waits; ``common`` are the arguments that all triggers share."""

    def execute(self, context: Context) -> Any:
        """Look once; wait if the job is not done."""
        if not self.deferrable:
            return super().execute(context)
        with failing_fast(_todo_for):
            connect = self._connector()
            status = asyncio.run(_look(connect, self.job_id))
            if status is not None:
                self._announce(context, status)
                if status.state.is_final:
                    return asyncio.run(conclude(connect, Outcome(End.FINISHED, status)))
            context["ti"].xcom_push(key=CURSOR_KEY, value={})
            trigger = self.make_trigger(
                conn_id=self.conn_id,
                job_id=self.job_id,
                deadline=time.time() + self.timeout if self.timeout else None,
                poll_interval=self.poke_interval,
                stop_on_kill=False,
                stop_at_deadline=False,
                not_before=earliest_event(),
                url=status.url if status is not None else "",
            )
            return self.defer(trigger=trigger, method_name="execute_complete")

    def execute_complete(self, context: Context, event: Mapping[str, Any]) -> Any:
        """The trigger fired: hand on the result, or raise what went wrong."""
        with failing_fast(_todo_for):
            outcome = Outcome.from_json(event)
            if outcome.status is not None:
                self._announce(context, outcome.status)
            return asyncio.run(conclude(self._connector(), outcome))

    def poke(self, context: Context) -> PokeReturnValue:
        """One look; done when the job is."""
        with failing_fast(_todo_for):
            connect = self._connector()
            status = asyncio.run(_look(connect, self.job_id))
            if status is None or not status.state.is_final:
                return PokeReturnValue(is_done=False)
            self._announce(context, status)
            result = asyncio.run(conclude(connect, Outcome(End.FINISHED, status)))
            return PokeReturnValue(is_done=True, xcom_value=result)

    def _connector(self) -> Callable[[], RemoteSystem]:
        make_client = self.hook_class(self.conn_id).client_factory()
        return lambda: self.make_system(make_client())

    def _announce(self, context: Context, status: JobStatus) -> None:
        self.log.info("Remote job %s is %s: %s", status.id, status.native or status.state.value, status.url)
        if status.url:
            context["ti"].xcom_push(key=REMOTE_URL, value=status.url)


def _todo_for(error: JobError) -> str:
    """A sensor starts nothing: clearing it alone would only find the same job again."""
    return "Mend the cause and run the job anew: this task only watches it"


async def _look(connect: Callable[[], RemoteSystem], job_id: str) -> JobStatus | None:
    system = connect()
    try:
        return await look(system, job_id)
    finally:
        await system.aclose()
