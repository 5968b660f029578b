"""What all operators share, and the one operator that runs a remote job.

Deferrable by default: ``execute`` takes seconds (look up, submit, look up), then one trigger waits. Exactly one
deferral per try, because a second one would truncate the first one's log (airflow.md 2.1).
"""

from __future__ import annotations

import asyncio
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from airflow.sdk import BaseOperator
from airflow.sdk.definitions.param import ParamsDict
from airflow.sdk.execution_time.context import NEVER_EXPIRE

from mlfleet.errors import ConfigError, JobError
from mlfleet.hooks.base import SystemHook
from mlfleet.links.remote_job import REMOTE_URL, RemoteJobLink
from mlfleet.operators.run_values import RunValues, task_identity
from mlfleet.remote.conclusion import conclude
from mlfleet.remote.job import JobStatus
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.remote.submission import Decision, OnFailed, Record, Submission
from mlfleet.remote.watching import End, Outcome, Watch
from mlfleet.triggers.base import CURSOR_KEY, RemoteJobTrigger
from mlfleet.triggers.events import failing_fast

if TYPE_CHECKING:
    from airflow.sdk import Context

RECORD_KEY = "mlfleet_job"
_KILL_SECONDS = 20.0


def find_file(path: str, context: Context) -> Path:
    """A file or folder of the repository: absolute, or relative to a folder above the DAG's file.

    Raises ConfigError that lists where it was looked for.
    """
    wanted = Path(path)
    if wanted.is_absolute():
        places = [wanted]
    else:
        fileloc = getattr(context.get("dag"), "fileloc", None) or ""
        roots = [*Path(fileloc).parents[:4], Path.cwd()] if fileloc else [Path.cwd()]
        places = [root / wanted for root in roots]
    for place in places:
        if place.exists():
            return place
    raise ConfigError(f"{path} does not exist", ", ".join(str(place) for place in places), "Correct the manifest")


def own_params(params: Mapping[str, Any] | None) -> dict[str, Any]:
    """The values of an argument called ``params`` that were given to the task itself.

    Airflow merges a DAG's params into an argument of that name and wraps each in a Param (sdk bases/operator.py).
    """
    if isinstance(params, ParamsDict):
        return {name: params[name] for name in params if params.get_param(name).source != "dag"}
    return dict(params or {})


class MlfleetOperator(BaseOperator):
    """Every operator of mlfleet: takes ``references`` and resolves ``${...}`` with them; no Jinja in its arguments."""

    ui_color = "#e8f0fe"

    def __init__(self, *, references: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.references = dict(references or {})

    def values(self, context: Context) -> RunValues:
        """What references stand for in this run."""
        return RunValues(context, self.references)


class StateStore(Protocol):
    """What we need of Airflow's ``task_state_store``."""

    def get(self, key: str, default: Any = None) -> Any:
        """A value."""
        ...

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        """Keep a value."""
        ...


class TaskStateRecords:
    """The record of a remote job in Airflow's task state store: survives retries, clears and 30 days (airflow.md 2)."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def load(self) -> Record | None:
        """The record, None when there is none or a person deleted or garbled it."""
        return Record.from_json(self._store.get(RECORD_KEY))

    def save(self, record: Record) -> None:
        """Keep it for good."""
        self._store.set(RECORD_KEY, record.as_json(), retention=NEVER_EXPIRE)


class BaseRemoteJobOperator(MlfleetOperator):
    """Runs one remote job to its end and returns its result.

    ``conn_id``        the Airflow connection
    ``timeout``        after it the job is stopped and the task fails (and is retried, if it has retries); None: never.
                       ``execution_timeout`` counts as well, which Airflow itself does not honour during deferral
    ``deferrable``     wait in the triggerer (default) or in the worker slot
    ``poll_interval``  seconds between polls of a job that runs for long
    ``on_failed``      what a retry does with a job that failed: "resubmit" (default) or "fail"
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
        self.on_failed = OnFailed(on_failed).value
        self.on_kill_policy = on_kill_policy
        self._kill: Callable[[], RemoteSystem] | None = None
        self._job_id: str | None = None

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
    def make_trigger(self, job_id: str, args: Mapping[str, Any], deadline: float | None) -> RemoteJobTrigger:
        """The trigger that waits for the job."""

    def trigger_args(self, job_id: str, deadline: float | None) -> dict[str, Any]:
        """The arguments that all triggers have in common."""
        stop = self.on_kill_policy == "stop"
        return {
            "conn_id": self.conn_id,
            "job_id": job_id,
            "deadline": deadline,
            "poll_interval": self.poll_interval,
            "stop_on_kill": stop,
            "stop_at_deadline": stop,
        }

    async def begin(
        self, system: RemoteSystem, spec: Mapping[str, Any], context: Context, tell: Callable[[Decision], None]
    ) -> JobStatus:
        """The job to wait for; here it is found or submitted."""
        submission = Submission(
            system,
            TaskStateRecords(context["task_state_store"]),
            task_identity(context),
            generation=context["ti"].max_tries,
            on_failed=OnFailed(self.on_failed),
            tell=tell,
        )
        return await submission.enter(spec)

    # What all have in common

    def execute(self, context: Context) -> Any:
        """Find or submit the job, and wait for it."""
        with failing_fast(self.todo_for):
            spec = self.make_spec(self.values(context), context)
            args = self.system_args(spec)
            connect = self._connector(args)
            self._kill = connect
            status = asyncio.run(self._begin(connect, spec, context))
            self._job_id = status.id
            self._announce(context, status)
            if status.state.is_final:
                return self._conclude(connect, Outcome(End.FINISHED, status), context)
            deadline = self._deadline()
            if self.deferrable:
                self.defer(
                    trigger=self.make_trigger(status.id, args, deadline),
                    method_name="execute_complete",
                    kwargs={"args": args},
                )
            return self._conclude(connect, self._wait_here(connect, status.id, deadline), context)

    def execute_complete(self, context: Context, event: Mapping[str, Any], args: Mapping[str, Any]) -> Any:
        """The trigger fired: hand on the result, or raise what went wrong."""
        with failing_fast(self.todo_for):
            return self._conclude(self._connector(args), Outcome.from_json(event), context)

    def on_kill(self) -> None:
        """The task is killed in the worker: stop the job.

        Runs in a signal handler, maybe in the middle of an event loop: so in a thread and with a client of its own.
        """
        connect, job_id = self._kill, self._job_id
        if connect is None or job_id is None or self.on_kill_policy != "stop":
            return

        async def stop() -> None:
            async def same() -> RemoteSystem:
                return connect()

            watch = Watch(connect=same, job_id=job_id)
            problem = await watch.stop()
            await watch.close()
            self.log.info("Stop of job %s: %s", job_id, problem or "asked for")

        thread = threading.Thread(target=lambda: asyncio.run(stop()), daemon=True)
        thread.start()
        thread.join(_KILL_SECONDS)

    def describe(self, result: dict[str, Any]) -> dict[str, Any]:
        """What the task returns: the system's result; a subclass may add to it."""
        return result

    def todo_for(self, error: JobError) -> str:
        """The next step after the job's bad end; "" leaves it to the error."""
        return ""

    def _connector(self, args: Mapping[str, Any]) -> Callable[[], RemoteSystem]:
        """Makes systems; the connection is read once, here, outside of any event loop."""
        make_client = self.hook_class(self.conn_id).client_factory()
        return lambda: self.make_system(make_client(), args)

    async def _begin(self, connect: Callable[[], RemoteSystem], spec: Mapping[str, Any], context: Context) -> JobStatus:
        system = connect()
        try:
            return await self.begin(system, spec, context, lambda decision: self.log.info(decision.sentence))
        finally:
            await system.aclose()

    def _announce(self, context: Context, status: JobStatus) -> None:
        """Leave link and cursor in XCom before waiting, so that the link works meanwhile (airflow.md 2.2)."""
        self.log.info("Remote job %s is %s: %s", status.id, status.native or status.state.value, status.url)
        ti = context["ti"]
        if status.url:
            ti.xcom_push(key=REMOTE_URL, value=status.url)
        # The trigger asks for it; a missing key would be an error line in the triggerer's log (airflow.md 2.3).
        ti.xcom_push(key=CURSOR_KEY, value={})

    def _deadline(self) -> float | None:
        limits = [limit for limit in (self.timeout, self.execution_timeout) if limit is not None]
        return time.time() + min(limits).total_seconds() if limits else None

    def _wait_here(self, connect: Callable[[], RemoteSystem], job_id: str, deadline: float | None) -> Outcome:
        async def wait() -> Outcome:
            async def same() -> RemoteSystem:
                return connect()

            watch = Watch(
                connect=same,
                job_id=job_id,
                deadline=deadline,
                interval=self.poll_interval,
                emit=self.log.info,
                stop_at_deadline=self.on_kill_policy == "stop",
            )
            try:
                return await watch.run()
            finally:
                await watch.close()

        return asyncio.run(wait())

    def _conclude(self, connect: Callable[[], RemoteSystem], outcome: Outcome, context: Context) -> Any:
        """The result of a succeeded job; raises the error that fits any other end."""
        if outcome.status is not None and outcome.status.url:
            context["ti"].xcom_push(key=REMOTE_URL, value=outcome.status.url)
        result = asyncio.run(conclude(connect, outcome))
        return self.describe(result)
