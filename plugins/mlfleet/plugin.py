"""The Airflow plugin (entry point ``airflow.plugins``): what Airflow must know to show mlfleet's tasks."""

from __future__ import annotations

from airflow.plugins_manager import AirflowPlugin

from mlfleet.links.remote_job import RemoteJobLink
from mlfleet.timetables.crons import MultipleCronDataIntervalTimetable


class MLFleetPlugin(AirflowPlugin):
    """Registers what Airflow knows of DAGs only serialized: extra links, for the API server, and timetables."""

    name = "mlfleet"
    operator_extra_links = [RemoteJobLink()]  # noqa: RUF012 - Airflow reads a plain class attribute
    timetables = [MultipleCronDataIntervalTimetable]  # noqa: RUF012
