"""What tests of trouble share: run one task to its error, and prove that it said it once and left nothing behind."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from mlfleet.errors import MlfleetError
from tests.support.delivery import Run
from tests.support.processes import alive, descendants


def failure(task: BaseOperator, run: Run) -> BaseException:
    """The error that the task ends with; its text stands once in what Airflow logs, and no process outlives it."""
    before = descendants(os.getpid())
    with pytest.raises((MlfleetError, AirflowFailException)) as caught:
        task.execute(run.context())
    left = [process for process in descendants(os.getpid()) - before if alive(process)]
    assert not left, f"the task left processes behind: {left}"
    error = caught.value
    print(f"{type(error).__name__}: {error}")
    first = str(error).splitlines()[0]
    assert [str(each) for each in _chain(error) if first in str(each)] == [str(error)], "the message is told twice"
    return error


def fails_at_once(task: BaseOperator, run: Run) -> str:
    """The text of an error that another try can't cure: Airflow must not retry it."""
    error = failure(task, run)
    assert isinstance(error, AirflowFailException), repr(error)
    return str(error)


def fails_for_now(task: BaseOperator, run: Run) -> str:
    """The text of an error that a later try may not meet again: Airflow retries it."""
    error = failure(task, run)
    assert isinstance(error, MlfleetError), repr(error)
    assert error.retryable
    return str(error)


def connection(conn_type: str, url: str) -> str:
    """The value of an AIRFLOW_CONN variable."""
    host, _, port = url.removeprefix("http://").partition(":")
    return json.dumps({"conn_type": conn_type, "schema": "http", "host": host, "port": int(port)})


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what Airflow prints with it: its causes, and contexts that were not suppressed."""
    found: list[Any] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return found
