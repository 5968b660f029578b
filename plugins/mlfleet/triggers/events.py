"""What operators and sensors share about the event of a trigger and about failing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow.sdk.exceptions import AirflowFailException

from mlfleet.errors import MlfleetError


@contextmanager
def failing_fast() -> Iterator[None]:
    """Errors that another try can't cure fail the task at once; the others keep their class and are retried."""
    try:
        yield
    except MlfleetError as exc:
        if exc.retryable:
            raise
        raise AirflowFailException(str(exc)) from exc
