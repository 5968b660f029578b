"""The Airflow plugin (entry point ``airflow.plugins``): what Airflow must know to show mlfleet's tasks."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from mlfleet.links.remote_job import RemoteJobLink


class MLFleetPlugin(AirflowPlugin):
    """Registers the extra links, so that the API server can show them for tasks that it only knows serialized."""

    name = "mlfleet"
    operator_extra_links = [RemoteJobLink()]  # noqa: RUF012 - Airflow reads a plain class attribute
