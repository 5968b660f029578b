"""Waiting for what must be there before a training: an object, a partition, an event of an asset.

The sensors of the google provider do the work. They are made when a task runs: the provider takes a second to import,
and DAGs are built in every process.
"""

from __future__ import annotations

import re
from abc import abstractmethod
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator

from mlfleet.errors import ConfigError, TransientError
from mlfleet.operators.run_values import RunValues

if TYPE_CHECKING:
    from airflow.sdk import Context

_CONNECTION = "google_cloud_default"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}.*")


class DataSensor(BaseSensorOperator):
    """Waits without a worker slot; takes ``references`` like every operator of mlfleet, and no Jinja.

    ``timeout`` ends the wait and fails the task for good: what did not come until then is for a person.
    """

    ui_color = "#e8f0fe"

    def __init__(
        self,
        *,
        references: Mapping[str, Any] | None = None,
        poke_interval: timedelta = timedelta(minutes=1),
        timeout: timedelta = timedelta(hours=12),
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, timeout=timeout, **kwargs)
        self.references = dict(references or {})

    def values(self, context: Context) -> RunValues:
        """What references stand for in this run."""
        return RunValues(context, self.references)


class GoogleSensor(DataSensor):
    """A sensor of the google provider, deferred to the triggerer after its first look."""

    def __init__(self, *, gcp_conn_id: str = _CONNECTION, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.gcp_conn_id = gcp_conn_id

    @abstractmethod
    def make(self, values: RunValues, common: Mapping[str, Any]) -> Any:
        """The provider's sensor for this run; ``common`` are the arguments that all of them take."""

    def execute(self, context: Context) -> Any:
        """Look once, then wait in the triggerer. Raises ConfigError without the google provider."""
        common = {"task_id": self.task_id, "deferrable": True, "poke_interval": self.poke_interval,
                  "timeout": self.timeout}  # fmt: skip
        try:
            sensor = self.make(self.values(context), common)
        except ImportError as error:
            raise ConfigError(f"the google provider can't be imported: {error}", f"task {self.task_id}",
                              "Install apache-airflow-providers-google") from error  # fmt: skip
        # Beneath Airflow's guard against operators in operators, which takes it for a mistake and logs a warning.
        type(sensor).execute.__wrapped__(sensor, context)

    def execute_complete(self, context: Context, event: Mapping[str, Any] | None = None) -> None:
        """The trigger fired. Raises TransientError for what it could not find out."""
        told = event or {}
        if told.get("status") != "success":
            raise TransientError("google", str(told.get("message") or "its trigger ended without a reason"))
        self.log.info("It is there: %s", told.get("message"))


class GCSObjectSensor(GoogleSensor):
    """Waits for an object of Google Cloud Storage; with ``glob`` for any that the pattern ``object`` matches."""

    def __init__(self, *, bucket: str, object: str, glob: bool = False, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.bucket, self.object, self.glob = bucket, object, glob

    def make(self, values: RunValues, common: Mapping[str, Any]) -> Any:
        """GCSObjectExistenceSensor."""
        from airflow.providers.google.cloud.sensors.gcs import GCSObjectExistenceSensor

        bucket, name = values.resolve(self.bucket), values.resolve(self.object)
        self.log.info("Waiting for gs://%s/%s", bucket, name)
        return GCSObjectExistenceSensor(
            bucket=bucket, object=name, use_glob=self.glob, google_cloud_conn_id=self.gcp_conn_id, **common
        )


class BigQueryPartitionSensor(GoogleSensor):
    """Waits for a partition of a BigQuery table; a date or time as ``partition`` becomes its id (`partition_id`)."""

    def __init__(self, *, project: str, dataset: str, table: str, partition: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.project, self.dataset, self.table, self.partition = project, dataset, table, partition

    def make(self, values: RunValues, common: Mapping[str, Any]) -> Any:
        """BigQueryTablePartitionExistenceSensor."""
        from airflow.providers.google.cloud.sensors.bigquery import BigQueryTablePartitionExistenceSensor

        project, dataset, table = values.resolve([self.project, self.dataset, self.table])
        partition = partition_id(str(values.resolve(self.partition)))
        self.log.info("Waiting for partition %s of %s.%s.%s", partition, project, dataset, table)
        return BigQueryTablePartitionExistenceSensor(
            project_id=project, dataset_id=dataset, table_id=table, partition_id=partition,
            gcp_conn_id=self.gcp_conn_id, **common,
        )  # fmt: skip


class AssetEventSensor(DataSensor):
    """Waits for an event of an asset, by ``name`` or ``uri``, at or after the start or the end of the run's data.

    The triggerer cannot ask for events, so the task is put back into the queue between two looks.
    """

    def __init__(self, *, name: str | None = None, uri: str | None = None, since: str = "start", **kwargs: Any) -> None:
        super().__init__(mode="reschedule", **kwargs)
        if (name is None) == (uri is None):
            raise ConfigError("an asset is told by either `name` or `uri`", f"task {self.task_id}")
        self.asset_name, self.asset_uri, self.since = name, uri, since

    def poke(self, context: Context) -> bool:
        """Whether there is such an event."""
        from airflow.sdk.execution_time.context import InletEventsAccessor

        values = self.values(context)
        bound = values.interval.end if self.since == "end" else values.interval.start
        name, uri = values.resolve(self.asset_name), values.resolve(self.asset_uri)
        events = InletEventsAccessor(asset_name=name, asset_uri=uri).after(bound.isoformat()).limit(1)
        self.log.info("%s event of asset %s since %s", "An" if len(events) else "No", name or uri, bound.isoformat())
        return bool(len(events))


def partition_id(text: str) -> str:
    """``2026-11-10`` as ``20261110``, a time as ``2026111003`` in UTC; any other text as it is."""
    if _DAY.fullmatch(text):
        return text.replace("-", "")
    if _TIME.fullmatch(text):
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).astimezone(UTC).strftime("%Y%m%d%H")
    return text
