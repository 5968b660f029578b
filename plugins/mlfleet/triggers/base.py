"""One trigger for all systems: it carries ids, a connection id, a deadline, never a credential.

Traps of Airflow 3.3.2 that shaped it (airflow.md 2.1 to 2.5): a second deferral in one try truncates the first one's
log, so everything happens in this one wait; ``on_kill`` is cancelled after one second, so the stop runs in a task of
its own; it also comes when triggers are reassigned after a missed heartbeat, so the task's state is asked first;
``task_state_store`` hangs in the triggerer, so the log cursor lives in XCom; ``defer(timeout=)`` stops nothing, so the
deadline is kept here; an event that comes while the deferring worker process still lingers is taken for the end of the
second half, so an early one is held back.
"""

from __future__ import annotations

import asyncio
import time
from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any, ClassVar

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger, TriggerEvent

from mlfleet.hooks.base import SystemHook
from mlfleet.remote.job import JobStatus
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.remote.watching import Memory, Watch
from mlfleet.triggers.events import CURSOR_KEY
from mlfleet.triggers.sharing import Connection, log_budget
from mlfleet.triggers.task_state import task_state

URL_KEY = "remote_url"

_STATE_TRIES = 3
_STATE_SECONDS = 20.0
_LAST_WORDS = 0.5

# A task that nobody refers to may be collected before it is done.
_STOPPING: set[asyncio.Task[str]] = set()


class RemoteJobTrigger(BaseTrigger):
    """Waits for one remote job and fires one event (the JSON of remote.watching.Outcome).

    ``deadline`` in epoch seconds, ``poll_interval`` in seconds; ``stop_on_kill`` whether a person who marks or clears
    the task also stops the job, ``stop_at_deadline`` likewise; ``with_logs`` whether the job's log is tailed;
    ``not_before`` the epoch second before which no event is fired; ``url`` the page that the task has announced.
    Subclasses name their hook, make their system, and add what it needs to :meth:`extra`.
    """

    hook_class: ClassVar[type[SystemHook[Any]]]

    def __init__(
        self,
        *,
        conn_id: str,
        job_id: str,
        deadline: float | None = None,
        poll_interval: float = 10.0,
        stop_on_kill: bool = True,
        stop_at_deadline: bool = True,
        with_logs: bool = True,
        not_before: float = 0.0,
        url: str = "",
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id, self.job_id, self.deadline = conn_id, job_id, deadline
        self.poll_interval, self.with_logs = poll_interval, with_logs
        self.stop_on_kill, self.stop_at_deadline = stop_on_kill, stop_at_deadline
        self.not_before, self.url = not_before, url
        self._connection: Connection | None = None
        self._watch: Watch | None = None
        self._waiting = False

    @abstractmethod
    def make_system(self, client: Any) -> RemoteSystem:
        """The system on a client of the connection."""

    def extra(self) -> dict[str, Any]:
        """Arguments of the subclass's constructor beside those of this class."""
        return {}

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The import path of the class and the arguments of its constructor."""
        kind = type(self)
        return f"{kind.__module__}.{kind.__qualname__}", {
            "conn_id": self.conn_id,
            "job_id": self.job_id,
            "deadline": self.deadline,
            "poll_interval": self.poll_interval,
            "stop_on_kill": self.stop_on_kill,
            "stop_at_deadline": self.stop_at_deadline,
            "with_logs": self.with_logs,
            "not_before": self.not_before,
            "url": self.url,
            **self.extra(),
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire one event."""
        self._connection = Connection(self.hook_class, self.conn_id)
        self._watch = self._new_watch(self._connection)
        self._waiting = True
        outcome = await self._watch.run()
        await asyncio.sleep(max(0.0, self.not_before - time.time()))
        self._waiting = False
        yield TriggerEvent(outcome.as_json())  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """A person marked or cleared the task: stop the job.

        Airflow cancels this method after one second (airflow.md 2.4); the task that it starts goes on without it.
        """
        self._waiting = False
        if not self.stop_on_kill:
            return
        task = asyncio.get_running_loop().create_task(self._stop_if_asked(Connection(self.hook_class, self.conn_id)))
        _STOPPING.add(task)
        task.add_done_callback(_STOPPING.discard)
        await asyncio.shield(task)

    async def cleanup(self) -> None:
        """Leave the cursor for the next triggerer when this one ends in order, and give the connection back."""
        watch, self._watch = self._watch, None
        memory = watch.leave() if watch is not None and self._waiting else None
        if memory is not None:
            # The triggerer's channel is closing: the message goes out, its answer may not come any more.
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(_LAST_WORDS):
                    await self._save(memory, left_well=True)
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.close()

    def _new_watch(self, connection: Connection) -> Watch:
        return Watch(
            poll=connection.poll,
            make=self.make_system,
            job_id=self.job_id,
            deadline=self.deadline,
            interval=self.poll_interval,
            recall=self._recall,
            emit=self.log.info,
            save=self._save,
            seen=self._seen,
            stop_at_deadline=self.stop_at_deadline,
            with_logs=self.with_logs,
            budget=log_budget(),
        )

    async def _stop_if_asked(self, connection: Connection) -> str:
        try:
            if await self._still_deferred():
                self.log.info("Job %s is left alone: its task still waits, only the triggerer changed", self.job_id)
                return ""
            problem = await self._new_watch(connection).stop()
        finally:
            await connection.close()
        if problem:
            self.log.warning("Job %s could not be stopped and may still run: %s", self.job_id, problem)
        else:
            self.log.info("Stopped job %s", self.job_id)
        return problem

    async def _still_deferred(self) -> bool:
        """Whether the task waits as before: triggers that move to another triggerer are cancelled just as by a person.

        A task that was cleared and waits again looks the same; its new try has stopped the old job by then. When the
        state can't be learned the job is left alone: training for nothing costs less than training that is lost.
        """
        if self.task_instance is None:
            return False
        problem = ""
        for _ in range(_STATE_TRIES):
            try:
                async with asyncio.timeout(_STATE_SECONDS):
                    return await asyncio.to_thread(task_state, self.task_instance) == "deferred"
            except Exception as exc:
                problem = str(exc) or type(exc).__name__
                await asyncio.sleep(1.0)
        self.log.warning("The state of the task could not be learned (%s)", problem)
        return True

    async def _seen(self, status: JobStatus) -> None:
        """Keep the link to the remote page right, for jobs whose page is known only after a while."""
        if status.url and status.url != self.url:
            self.url = status.url
            await self._set_xcom(URL_KEY, status.url)

    async def _recall(self) -> Memory:
        """What the triggerer before this one left; says so if it was killed, because lines may come twice then."""
        where = self._where()
        if where is None:
            return Memory()
        try:
            value = await XCom.aget_one(key=CURSOR_KEY, **where)
        except Exception as exc:
            self.log.warning("The log cursor could not be read (%s): the remote log starts anew", exc)
            return Memory()
        memory = Memory.from_json(value)
        if memory.cursor and not value.get("left_well"):
            self.log.info("Waiting goes on in another triggerer; lines of the remote log below may repeat earlier ones")
        return memory

    async def _save(self, memory: Memory, *, left_well: bool = False) -> None:
        await self._set_xcom(CURSOR_KEY, {**memory.as_json(), "left_well": left_well})

    async def _set_xcom(self, key: str, value: Any) -> None:
        where = self._where()
        if where is None:
            return
        try:
            await XCom.aset(key, value, **where)
        except Exception as exc:
            # Links and cursors are comfort; losing one must not end a wait for hours of training.
            self.log.warning("XCom %s could not be written: %s", key, exc)

    def _where(self) -> dict[str, Any] | None:
        """The task instance, None outside a triggerer."""
        ti = self.task_instance
        if ti is None:
            return None
        return {"dag_id": ti.dag_id, "task_id": ti.task_id, "run_id": ti.run_id, "map_index": ti.map_index}
