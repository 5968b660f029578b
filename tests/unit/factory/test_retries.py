from __future__ import annotations

from datetime import timedelta

import pytest
from airflow.sdk import RetryAction

from mlfleet.errors import (
    AuthError,
    ConfigError,
    JobFailed,
    JobStopped,
    ManifestError,
    SpecError,
    TransientError,
    UnexpectedAnswer,
)
from mlfleet.factory.retries import FleetRetryPolicy


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (SpecError("kfp", "1"), RetryAction.FAIL),
        (JobStopped("kfp", "1"), RetryAction.FAIL),
        (ConfigError("no file"), RetryAction.FAIL),
        (ManifestError([]), RetryAction.FAIL),
        (AuthError("polyaxon", "401"), RetryAction.FAIL),
        (ModuleNotFoundError("pandas"), RetryAction.FAIL),
        (NameError("x"), RetryAction.FAIL),
        (JobFailed("kfp", "1"), RetryAction.DEFAULT),
        (TransientError("polyaxon", "502"), RetryAction.DEFAULT),
        (UnexpectedAnswer("polyaxon", "HTML"), RetryAction.DEFAULT),
        (ConnectionResetError(), RetryAction.DEFAULT),
        (ValueError("anything"), RetryAction.DEFAULT),
    ],
)
def test_what_another_try_can_cure(error: Exception, action: RetryAction) -> None:
    assert FleetRetryPolicy().evaluate(error, 1, 3).action is action


def test_a_system_that_asks_for_time_gets_it() -> None:
    decision = FleetRetryPolicy().evaluate(TransientError("kfp", "429", retry_after=90.0), 1, 3)
    assert (decision.action, decision.retry_delay) == (RetryAction.RETRY, timedelta(seconds=90))


def test_it_can_be_written_down() -> None:
    assert isinstance(FleetRetryPolicy.deserialize(FleetRetryPolicy().serialize()), FleetRetryPolicy)
