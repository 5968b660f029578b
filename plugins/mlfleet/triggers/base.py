"""One trigger for all systems: it carries ids, a connection id, a deadline, never a credential.

Traps of Airflow 3.3.2 that shaped it (airflow.md 2.1 to 2.5): a second deferral in one try truncates the first one's
log, so everything happens in this one wait; ``on_kill`` is cancelled after one second, so the stop runs in a task of
its own; ``task_state_store`` hangs in the triggerer, so the log cursor lives in XCom; ``defer(timeout=)`` stops
nothing, so the deadline is kept here.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import AsyncIterator, Mapping
from typing import Any

from airflow.sdk.execution_time.xcom import XCom
from airflow.triggers.base import BaseTrigger, TriggerEvent

from mlfleet.remote.job import JobStatus
from mlfleet.remote.protocol import Cursor, RemoteSystem
from mlfleet.remote.watching import Watch

CURSOR_KEY = "log_cursor"
URL_KEY = "remote_url"

# A task that nobody refers to may be collected before it is done.
_STOPPING: set[asyncio.Task[str]] = set()


class RemoteJobTrigger(BaseTrigger):
    """Waits for one remote job and fires one event (the JSON of remote.watching.Outcome).

    ``deadline`` in epoch seconds, ``poll_interval`` in seconds; ``stop_on_kill`` whether a person who marks or clears
    the task also stops the job, ``stop_at_deadline`` likewise. Subclasses add what their system needs to :meth:`extra`.
    """

    def __init__(
        self,
        *,
        conn_id: str,
        job_id: str,
        deadline: float | None = None,
        poll_interval: float = 10.0,
        stop_on_kill: bool = True,
        stop_at_deadline: bool = True,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id, self.job_id, self.deadline = conn_id, job_id, deadline
        self.poll_interval = poll_interval
        self.stop_on_kill, self.stop_at_deadline = stop_on_kill, stop_at_deadline
        self._watch: Watch | None = None
        self._url = ""

    @abstractmethod
    async def connect(self) -> RemoteSystem:
        """The system, with credentials read now."""

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
            **self.extra(),
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire one event."""
        cursor = await self._saved_cursor()
        if cursor:
            self.log.info("Waiting goes on in another triggerer; lines of the remote log below may repeat earlier ones")
        self._watch = Watch(
            connect=self.connect,
            job_id=self.job_id,
            deadline=self.deadline,
            interval=self.poll_interval,
            cursor=cursor,
            emit=self.log.info,
            save_cursor=self._save_cursor,
            seen=self._seen,
            stop_at_deadline=self.stop_at_deadline,
        )
        outcome = await self._watch.run()
        yield TriggerEvent(outcome.as_json())  # type: ignore[no-untyped-call]

    async def on_kill(self) -> None:
        """A person marked or cleared the task: stop the job before anything else.

        Airflow cancels this method after one second (airflow.md 2.4); the task goes on without it.
        """
        if not self.stop_on_kill:
            return
        watch, self._watch = self._watch, None
        task = asyncio.get_running_loop().create_task(
            self._stop(watch or Watch(connect=self.connect, job_id=self.job_id))
        )
        _STOPPING.add(task)
        task.add_done_callback(_STOPPING.discard)
        await asyncio.shield(task)

    async def _stop(self, watch: Watch) -> str:
        problem = await watch.stop()
        if problem:
            self.log.warning("Job %s could not be stopped and may still run: %s", self.job_id, problem)
        else:
            self.log.info("Stopped job %s", self.job_id)
        await watch.close()
        return problem

    async def cleanup(self) -> None:
        """Close the client. A stop that is under way has taken the watch with it and keeps its own."""
        watch, self._watch = self._watch, None
        if watch is not None:
            await watch.close()

    async def _seen(self, status: JobStatus) -> None:
        """Keep the link to the remote page right, for jobs whose page is known only after a while."""
        if status.url and status.url != self._url:
            self._url = status.url
            await self._set_xcom(URL_KEY, status.url)

    async def _saved_cursor(self) -> Cursor:
        where = self._where()
        if where is None:
            return {}
        try:
            value = await XCom.aget_one(key=CURSOR_KEY, **where)
        except Exception as exc:
            self.log.warning("The log cursor could not be read (%s): the remote log starts anew", exc)
            return {}
        return value if isinstance(value, Mapping) else {}

    async def _save_cursor(self, cursor: Cursor) -> None:
        await self._set_xcom(CURSOR_KEY, dict(cursor))

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
