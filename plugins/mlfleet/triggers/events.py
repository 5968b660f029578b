"""What operators and sensors share about the event of a trigger and about failing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from mlfleet.errors import JobError, MlfleetError


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
