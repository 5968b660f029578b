"""What operators and sensors share with triggers: the event, the key of the log cursor; and about failing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow.sdk import conf
from airflow.sdk.exceptions import AirflowFailException

from mlfleet.errors import JobError, MlfleetError

CURSOR_KEY = "log_cursor"
"""XCom key of how far the remote log was read."""


def earliest_event() -> float:
    """The epoch second before which a task that defers now must not be woken.

    Its process lives on until its next heartbeat; an event before that is taken for the end of the task's second half,
    which Airflow then marks failed (3.3.2, scheduler_job_runner.process_executor_events).
    """
    return time.time() + conf.getfloat("workers", "min_heartbeat_interval", fallback=5.0) + 1.0


@contextmanager
def failing_fast(todo_for: Callable[[JobError], str] = lambda error: "") -> Iterator[None]:
    """Errors that another try can't cure fail the task at once; the others keep their class and are retried.

    ``todo_for`` gives the next step that a person should read in a job's error, "" for the one of its class.
    """
    try:
        yield
    except MlfleetError as exc:
        if isinstance(exc, JobError):
            exc.todo = todo_for(exc) or exc.todo
        if exc.retryable:
            raise
        # Airflow logs causes too, so `from exc` would tell the same message twice; the traceback is kept.
        raise AirflowFailException(str(exc)).with_traceback(exc.__traceback__) from None
