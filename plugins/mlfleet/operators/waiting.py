"""Waiting for a remote job in the task's own process, and stopping it when a person ended the task."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from mlfleet.remote.polling import SharedPoll
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.remote.watching import End, Outcome, Watch
from mlfleet.triggers.task_state import task_state

__all__ = ["End", "Outcome", "is_ended_by_person", "stop", "wait_for"]

_STATE_SECONDS = 3.0


async def wait_for(
    connect: Callable[[], RemoteSystem],
    job_id: str,
    *,
    deadline: float | None,
    interval: float,
    emit: Callable[[str], None],
    stop_at_deadline: bool,
) -> Outcome:
    """Follows a job to its end in the task's own process; the arguments are those of `remote.watching.Watch`."""
    poll = _poll(connect)
    try:
        return await Watch(
            poll=poll,
            make=_itself,
            job_id=job_id,
            deadline=deadline,
            interval=interval,
            emit=emit,
            stop_at_deadline=stop_at_deadline,
        ).run()
    finally:
        await poll.aclose()


async def stop(connect: Callable[[], RemoteSystem], job_id: str) -> str:
    """Stops a job with a client of its own; returns why that did not work, "" when it did."""
    poll = _poll(connect)
    try:
        return await Watch(poll=poll, make=_itself, job_id=job_id).stop()
    finally:
        await poll.aclose()


def is_ended_by_person(ti: Any, log: Any) -> bool | None:
    """Whether Airflow has the task in another state than running; None when it does not say so in three seconds."""
    found: list[str | None] = []

    def ask() -> None:
        try:
            found.append(task_state(ti))
        except Exception as exc:
            log.warning("The state of the task could not be learned: %s", exc)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_STATE_SECONDS)
    return found[0] != "running" if found else None


def _poll(connect: Callable[[], RemoteSystem]) -> SharedPoll:
    async def system() -> RemoteSystem:
        return connect()

    return SharedPoll(system)


def _itself(system: Any) -> RemoteSystem:
    """Alone, a system is its own connection."""
    return system  # type: ignore[no-any-return]
