"""Which failures of a task another try can cure, as an Airflow 3.3 retry policy."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import RetryDecision, RetryPolicy

from mlfleet.errors import MlfleetError

if TYPE_CHECKING:
    from airflow.sdk import Context

# What is wrong in code that cannot be read, imported or finished to the end of a name stays wrong.
_FAULTS_OF_CODE = (ImportError, NameError, SyntaxError)


class FleetRetryPolicy(RetryPolicy):
    """Retries what infrastructure did, and nothing that a person has to correct.

    An error of mlfleet says itself whether a later try can succeed (`MlfleetError.retryable`), and a system that asked
    to be left alone for a while (``retry_after``, seconds) is; a team's own step also fails at once where its code
    cannot be imported. For all else the manifest's ``retries`` count alone.

    The operators of mlfleet fail fast by themselves where they stand in hand-written DAGs (`triggers.events`); Airflow
    does not ask a policy then.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """The decision about one failure; its reason is logged, and stored with the task instance."""
        if isinstance(exception, MlfleetError):
            if not exception.retryable:
                return RetryDecision.fail(f"another try would end alike: {type(exception).__name__}")
            seconds = getattr(exception, "retry_after", None)
            if seconds:
                return RetryDecision.retry(timedelta(seconds=seconds), "the system asked to wait that long")
        elif isinstance(exception, _FAULTS_OF_CODE):
            return RetryDecision.fail(f"a fault of the code: {type(exception).__name__}")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        """Nothing but its kind: it has no settings."""
        return {"__type": "FleetRetryPolicy"}

    @classmethod
    def deserialize(cls, data: Mapping[str, Any]) -> FleetRetryPolicy:
        """The same policy again."""
        return cls()
