"""The button that opens a task's remote job: the Polyaxon run, the KFP run, the Spinnaker execution, the image."""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.sdk import BaseOperatorLink
from airflow.sdk.execution_time.xcom import XCom

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey

REMOTE_URL = "remote_url"
"""XCom key under which a task leaves its remote job's address before it defers, so that the link works meanwhile."""


class RemoteJobLink(BaseOperatorLink):
    """Reads the address from XCom; empty until the job was found or submitted (reference airflow.md, 2.2)."""

    name = "Remote job"

    @property
    def xcom_key(self) -> str:
        """Where the API server reads the address."""
        return REMOTE_URL

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """The address, evaluated in the worker."""
        return XCom.get_value(key=REMOTE_URL, ti_key=ti_key) or ""
