"""Callbacks and deadline of a DAG, from `notify`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from airflow.sdk.definitions.callback import AsyncCallback
from airflow.sdk.definitions.deadline import DeadlineAlert, DeadlineReference

from mlfleet.manifest.naming import format_duration
from mlfleet.notifications.webhook import WebhookNotifier, late

if TYPE_CHECKING:
    from mlfleet.manifest.models import Project

_ENDS = {"failure": "failed", "success": "succeeded"}


def notifications_of(project: Project) -> dict[str, Any]:
    """Arguments of the DAG; empty when nobody is to be told."""
    notify = project.notify
    if notify is None:
        return {}
    owner = project.owners[0].github
    arguments: dict[str, Any] = {
        f"on_{event}_callback": [WebhookNotifier(conn_id=notify.webhook, event=_ENDS[event], owner=owner)]
        for event in notify.events
    }
    if notify.late_after:
        told = {"conn_id": notify.webhook, "after": format_duration(notify.late_after), "owner": owner}
        arguments["deadline"] = DeadlineAlert(
            DeadlineReference.DAGRUN_QUEUED_AT, notify.late_after, AsyncCallback(late, kwargs=told), name="late"
        )
    return arguments
