"""Sensors of the google provider, and of asset events, with what a run is about."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import AssetEventsResult

from mlfleet.errors import ConfigError, TransientError
from mlfleet.operators.data import AssetEventSensor, BigQueryPartitionSensor, GCSObjectSensor, partition_id
from tests.support.delivery import Run
from tests.support.google_wire import CONNECTION, GoogleWire, google_wire

STATIC = {"static": {"env.bucket": "acme-dev", "project.name": "prices"}}


def event_of(waiting: TaskDeferred) -> Any:
    """What the trigger fires."""

    async def first() -> Any:
        return (await asyncio.wait_for(anext(aiter(waiting.trigger.run())), 120)).payload

    return asyncio.run(first())


def deferred(task: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        task.execute(Run().context())
    return caught.value


@pytest.fixture
def google(monkeypatch: pytest.MonkeyPatch) -> Iterator[GoogleWire]:
    pytest.importorskip("airflow.providers.google", reason="an extra of mlfleet")
    monkeypatch.setenv("AIRFLOW_CONN_GOOGLE_DEV", CONNECTION)
    with google_wire() as wire:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", wire.url)
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", wire.url)
        yield wire


def gcs(**more: Any) -> GCSObjectSensor:
    return GCSObjectSensor(
        task_id="features", bucket="${env.bucket}", object="${project.name}/${data.end}/_SUCCESS", references=STATIC,
        gcp_conn_id="google_dev", poke_interval=timedelta(minutes=5), timeout=timedelta(hours=6), **more,
    )  # fmt: skip


def test_an_object_is_waited_for_in_the_triggerer(google: GoogleWire) -> None:
    task = gcs()
    waiting = deferred(task)
    # The client of google-cloud-storage 3.17 looks at the bucket, too, in a thread of its own.
    assert "/storage/v1/b/acme-dev/o/prices/2026-11-10/_SUCCESS" in google.asked
    _, arguments = waiting.trigger.serialize()
    assert (arguments["google_cloud_conn_id"], arguments["poke_interval"]) == ("google_dev", 300)
    assert waiting.timeout == timedelta(hours=6)
    google.objects.add("acme-dev/prices/2026-11-10/_SUCCESS")
    getattr(task, waiting.method_name)(Run().context(), event_of(waiting))


def test_what_is_there_is_not_waited_for(google: GoogleWire, caplog: pytest.LogCaptureFixture) -> None:
    google.objects.add("acme-dev/prices/2026-11-10/_SUCCESS")
    assert gcs().execute(Run().context()) is None
    assert gcs(glob=True).execute(Run().context()) is None
    assert "prices/2026-11-10/_SUCCESS" in google.asked
    assert "outside of the Task Runner" not in caplog.text


def test_a_partition_is_waited_for_by_its_id(google: GoogleWire) -> None:
    task = BigQueryPartitionSensor(
        task_id="orders", project="acme", dataset="sales", table="orders", partition="${data.start}", references=STATIC,
        gcp_conn_id="google_dev",
    )  # fmt: skip
    _, arguments = deferred(task).trigger.serialize()
    where = {"project_id": "acme", "dataset_id": "sales", "table_id": "orders", "partition_id": "20261109"}
    assert {name: arguments[name] for name in where} == where
    google.partitions.add("acme.sales.orders$20261109")
    assert task.execute(Run().context()) is None


def test_a_bucket_that_is_not_ours_is_a_failure_and_not_a_wait(google: GoogleWire) -> None:
    waiting = deferred(gcs())
    google.broken = True
    from google.api_core.exceptions import Forbidden

    with pytest.raises(Forbidden):
        gcs().execute(Run().context())
    with pytest.raises(TransientError, match="403"):
        gcs().execute_complete(Run().context(), event_of(waiting))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-11-10", "20261110"),
        ("2026-11-10T03:00:00+00:00", "2026111003"),
        ("2026-11-10T03:00:00+09:00", "2026110918"),
        ("20261110", "20261110"),
        ("__UNPARTITIONED__", "__UNPARTITIONED__"),
    ],
)
def test_ids_of_partitions(text: str, expected: str) -> None:
    assert partition_id(text) == expected


def test_what_the_trigger_says_is_the_end() -> None:
    task, context = gcs(), Run().context()
    task.execute_complete(context, {"status": "success", "message": "it is there"})
    # The provider's BigQuery trigger gives no reason (triggers/bigquery.py).
    with pytest.raises(TransientError, match="without a reason"):
        task.execute_complete(context, {"status": "error"})


def test_without_the_provider_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "airflow.providers.google.cloud.sensors.gcs", None)
    with pytest.raises(ConfigError, match="Install apache-airflow-providers-google"):
        gcs().execute(Run().context())


@pytest.mark.parametrize(
    ("since", "after"), [("start", "2026-11-09T03:00:00+00:00"), ("end", "2026-11-10T03:00:00+00:00")]
)
def test_an_event_of_an_asset_counts_from_the_data_on(monkeypatch: pytest.MonkeyPatch, since: str, after: str) -> None:
    asked: list[Any] = []

    class Supervisor:
        def send(self, message: Any) -> AssetEventsResult:
            asked.append(message)
            event = {"id": 1, "timestamp": after, "asset": {"name": "a", "uri": "a", "group": "asset"},
                     "created_dagruns": []}  # fmt: skip
            return AssetEventsResult.model_validate({"asset_events": [event] if len(asked) > 1 else []})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Supervisor(), raising=False)
    task = AssetEventSensor(task_id="rates", name="rates-${project.name}", since=since, references=STATIC)
    assert task.poke(Run().context()) is False
    assert task.poke(Run().context()) is True
    assert (asked[0].name, asked[0].uri, asked[0].limit) == ("rates-prices", None, 1)
    assert asked[0].after.isoformat() == after


def test_an_asset_is_told_by_one_thing() -> None:
    with pytest.raises(ConfigError, match="either `name` or `uri`"):
        AssetEventSensor(task_id="rates")
