"""The one operator that runs a remote job; a subclass says which system and what to submit.

Deferrable by default: ``execute`` takes seconds (look up, submit, look up), then one trigger waits. Exactly one
deferral per try, because a second one would truncate the first one's log (airflow.md 2.1).

Every process that builds a DAG imports the operators' modules, so what only a running task needs (clients, systems, the
remote job's core, triggers) is imported where it runs.
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

from mlfleet.errors import ConfigError, JobError, JobStopped
from mlfleet.hooks.base import SystemHook
from mlfleet.links.remote_job import REMOTE_URL, RemoteJobLink
from mlfleet.operators.base import MlfleetOperator
from mlfleet.remote.policies import OnFailed, RerunMode
from mlfleet.triggers.events import CURSOR_KEY, earliest_event, failing_fast

if TYPE_CHECKING:
    from airflow.sdk import Context

    from mlfleet.operators.run_values import RunValues
    from mlfleet.remote.job import JobStatus
    from mlfleet.remote.protocol import RemoteSystem
    from mlfleet.remote.watching import Outcome
    from mlfleet.triggers.base import RemoteJobTrigger

# Airflow kills the process five seconds after it asked it to end (sdk supervisor.py, kill).
_KILL_SECONDS = 4.0


class BaseRemoteJobOperator(MlfleetOperator):
    """Runs one remote job to its end and returns its result.

    ``conn_id``        the Airflow connection
    ``timeout``        after it the job is stopped and the task fails (and is retried, if it has retries); None: never.
                       ``execution_timeout`` counts as well, which Airflow itself does not honour during deferral
    ``deferrable``     wait in the triggerer (default) or in the worker slot
    ``poll_interval``  seconds between polls of a job that runs for long
    ``on_failed``      what a retry does with a job that failed: "resubmit" (default), "resume" or "fail"
    ``on_kill_policy`` "stop" (default) or "leave" the job when a person marks or clears the task

    A subclass names its hook and says what to submit, which system runs it and which trigger waits for it.
    """

    operator_extra_links = (RemoteJobLink(),)
    hook_class: ClassVar[type[SystemHook[Any]]]

    def __init__(
        self,
        *,
        conn_id: str,
        timeout: timedelta | None = None,
        deferrable: bool = True,
        poll_interval: float = 10.0,
        on_failed: str = OnFailed.RESUBMIT.value,
        on_kill_policy: str = "stop",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if on_kill_policy not in {"stop", "leave"}:
            raise ConfigError(f"on_kill_policy is 'stop' or 'leave', not {on_kill_policy!r}", f"task {self.task_id}")
        self.conn_id, self.timeout, self.deferrable = conn_id, timeout, deferrable
        self.poll_interval = poll_interval
        if on_failed not in set(OnFailed):
            raise ConfigError(f"on_failed is resubmit, resume or fail, not {on_failed!r}", f"task {self.task_id}")
        self.on_failed = OnFailed(on_failed).value
        self.on_kill_policy = on_kill_policy
        self._kill: Callable[[], RemoteSystem] | None = None
        self._job_id: str | None = None
        self._ti: Any = None
        self._deadline: float | None = None
        self._ended_by_person = False

    # What a subclass says

    @abstractmethod
    def make_spec(self, values: RunValues, context: Context) -> dict[str, Any]:
        """What to submit (JSON), with all references resolved and everything checked that can be checked here."""

    @abstractmethod
    def system_args(self, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments (JSON) that the system and the trigger need beside the connection."""

    @abstractmethod
    def make_system(self, client: Any, args: Mapping[str, Any]) -> RemoteSystem:
        """The system on a client."""

    @abstractmethod
    def make_trigger(self, common: Mapping[str, Any], args: Mapping[str, Any]) -> RemoteJobTrigger:
        """The trigger that waits for the job; ``common`` are the arguments that all triggers share."""

    def trigger_args(self, status: JobStatus) -> dict[str, Any]:
        """The arguments that all triggers have in common."""
        stop = self.on_kill_policy == "stop"
        return {
            "conn_id": self.conn_id,
            "job_id": status.id,
            "deadline": self._deadline,
            "poll_interval": self.poll_interval,
            "stop_on_kill": stop,
            "stop_at_deadline": stop,
            "not_before": earliest_event(),
            "url": status.url,
        }

    async def begin(
        self, system: RemoteSystem, spec: Mapping[str, Any], context: Context, mode: RerunMode | None
    ) -> JobStatus:
        """The job to wait for; here it is found or submitted. ``mode`` is a person's wish for this try."""
        from mlfleet.operators.records import TaskStateRecords, teller
        from mlfleet.operators.run_values import task_identity
        from mlfleet.remote.submission import Submission

        submission = Submission(
            system,
            TaskStateRecords(context["task_state_store"]),
            task_identity(context),
            generation=context["ti"].max_tries,
            on_failed=OnFailed(self.on_failed),
            mode=mode,
            tell=teller(self.log.info, system.name),
        )
        return await submission.enter(spec)

    # What all have in common

    def execute(self, context: Context) -> Any:
        """Find or submit the job, and wait for it."""
        # Along with all that `on_kill` needs: it may come in the middle of an import, and if it needed the same one, it
        # would wait for this thread, which waits for it.
        from mlfleet.operators.waiting import End, Outcome

        with failing_fast(self.todo_for):
            self._ti = context["ti"]
            self._deadline = self._limit()
            spec = self.make_spec(self.values(context), context)
            args = self.system_args(spec)
            connect = self._connector(args)
            self._kill = connect
            status = self._begun(connect, spec, context)
            self._announce(context, status)
            if status.state.is_final:
                return self._conclude(connect, Outcome(End.FINISHED, status), context)
            if self.deferrable:
                trigger = self.make_trigger(self.trigger_args(status), args)
                self.defer(trigger=trigger, method_name="execute_complete", kwargs={"args": args})
            return self._conclude(connect, self._wait_here(connect, status.id), context)

    def execute_complete(self, context: Context, event: Mapping[str, Any], args: Mapping[str, Any]) -> Any:
        """The trigger fired: hand on the result, or raise what went wrong."""
        from mlfleet.remote.watching import Outcome

        with failing_fast(self.todo_for):
            return self._conclude(self._connector(args), Outcome.from_json(event), context)

    def on_kill(self) -> None:
        """The process is asked to end. A person who marked or cleared the task stops the job; a restart stops nothing.

        Runs in a signal handler, maybe in the middle of an event loop or of a call to Airflow: so in a thread, with a
        client of its own, and never for long.
        """
        if self._kill is None or self.on_kill_policy != "stop":
            return
        thread = threading.Thread(target=self._stop_if_asked, daemon=True)
        thread.start()
        thread.join(_KILL_SECONDS)

    def _stop_if_asked(self) -> None:
        from mlfleet.operators.waiting import is_ended_by_person, stop

        connect, job_id = self._kill, self._job_id
        late = self._deadline is not None and time.time() >= self._deadline - 1.0
        by_person = None if late else is_ended_by_person(self._ti, self.log)
        if not late and not by_person:
            known = "no person ended its task, and a retry carries on with it"
            unknown = "it is not known whether a person ended its task"
            self.log.info("The remote job is left alone: %s", unknown if by_person is None else known)
            return
        self._ended_by_person = not late
        if connect is not None and job_id is not None:
            problem = asyncio.run(stop(connect, job_id))
            self.log.info("Stop of job %s: %s", job_id, problem or "asked for")

    def todo_for(self, error: JobError) -> str:
        """The next step after the job's bad end; "" leaves it to the error."""
        return ""

    def _connector(self, args: Mapping[str, Any]) -> Callable[[], RemoteSystem]:
        """Makes systems; the connection is read once, here, outside of any event loop."""
        make_client = self.hook_class(self.conn_id).client_factory()
        return lambda: self.make_system(make_client(), args)

    def _begun(self, connect: Callable[[], RemoteSystem], spec: Mapping[str, Any], context: Context) -> JobStatus:
        from mlfleet.operators.records import consume, rerun_mode

        store = context["task_state_store"]
        mode = rerun_mode(store)

        async def begin() -> JobStatus:
            system = connect()
            try:
                return await self.begin(system, spec, context, mode)
            finally:
                await system.aclose()

        status = asyncio.run(begin())
        self._job_id = status.id
        if mode is not None:
            consume(store)
        if self._ended_by_person:
            from mlfleet.operators.waiting import stop

            # The person came while the job was being submitted, when there was no id to stop yet.
            problem = asyncio.run(stop(connect, status.id))
            raise JobStopped(self.hook_class.conn_type, status.id, reason=problem or "the task was ended meanwhile")
        return status

    def _announce(self, context: Context, status: JobStatus) -> None:
        """Leave link and cursor in XCom before waiting, so that the link works meanwhile (airflow.md 2.2)."""
        self.log.info("Remote job %s is %s: %s", status.id, status.native or status.state.value, status.url)
        ti = context["ti"]
        if status.url:
            ti.xcom_push(key=REMOTE_URL, value=status.url)
        # The trigger asks for it; a missing key would be an error line in the triggerer's log (airflow.md 2.3).
        ti.xcom_push(key=CURSOR_KEY, value={})

    def _limit(self) -> float | None:
        limits = [limit for limit in (self.timeout, self.execution_timeout) if limit is not None]
        return time.time() + min(limits).total_seconds() if limits else None

    def _wait_here(self, connect: Callable[[], RemoteSystem], job_id: str) -> Outcome:
        from mlfleet.operators.waiting import wait_for

        return asyncio.run(
            wait_for(
                connect,
                job_id,
                deadline=self._deadline,
                interval=self.poll_interval,
                emit=self.log.info,
                stop_at_deadline=self.on_kill_policy == "stop",
            )
        )

    def _conclude(self, connect: Callable[[], RemoteSystem], outcome: Outcome, context: Context) -> Any:
        """The result of a succeeded job; raises the error that fits any other end. The report is left either way."""
        from mlfleet.operators.records import REPORT_KEY, report
        from mlfleet.remote.conclusion import conclude

        if outcome.status is not None and outcome.status.url:
            context["ti"].xcom_push(key=REMOTE_URL, value=outcome.status.url)
        context["ti"].xcom_push(key=REPORT_KEY, value=report(context, outcome))
        return asyncio.run(conclude(connect, outcome))
