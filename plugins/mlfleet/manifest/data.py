"""``data`` of a manifest: what must be there before anything is trained."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from mlfleet.manifest.names import StepName
from mlfleet.manifest.sections import Section
from mlfleet.manifest.values import Duration, Text


class GCSObject(Section):
    """An object of Google Cloud Storage; with ``glob`` any object that the pattern matches."""

    bucket: Text
    object: Text
    glob: bool = False


class BigQueryPartition(Section):
    """A partition of a BigQuery table; a date or time as its id is written as BigQuery does."""

    project: Text
    dataset: Text
    table: Text
    partition: Text = "${data.start}"


class AssetUpdate(Section):
    """An event of an Airflow asset, by its name or its uri, at or after the start or the end of the run's data."""

    name: Text | None = None
    uri: Annotated[str, StringConstraints(pattern=r"^[^:\s]+:\S+$", max_length=1500)] | None = None
    since: Literal["start", "end"] = "start"


class DataRequirement(Section):
    """Something that must be there; exactly one of the three says what. It is waited for without a worker slot."""

    name: StepName
    gcs: GCSObject | None = None
    bigquery: BigQueryPartition | None = None
    asset: AssetUpdate | None = None
    timeout: Duration = datetime.timedelta(hours=12)
    every: Duration = Field(default=datetime.timedelta(minutes=1))
