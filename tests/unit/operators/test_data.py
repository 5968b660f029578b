"""Sensors of the google provider, and of asset events, with what a run is about."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time import task_runner
from airflow.sdk.execution_time.comms import AssetEventsResult

from mlfleet.errors import ConfigError, TransientError
from mlfleet.operators.data import AssetEventSensor, BigQueryPartitionSensor, GCSObjectSensor, partition_id
from tests.support.delivery import Run

STATIC = {"static": {"env.bucket": "acme-dev", "project.name": "prices"}}


def deferred(task: Any) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        task.execute(Run().context())
    return caught.value


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The provider's hooks: what they are asked, and whether it is there."""
    asked: dict[str, Any] = {"there": False}

    def exists(self: Any, bucket: str, name: str, *_: Any) -> bool:
        asked["object"] = (self.gcp_conn_id, bucket, name)
        return bool(asked["there"])

    def listed(self: Any, bucket: str, match_glob: str) -> list[str]:
        asked["glob"] = (bucket, match_glob)
        return ["x"] if asked["there"] else []

    def partition(self: Any, **where: str) -> bool:
        asked["partition"] = where
        return bool(asked["there"])

    # The line between us and the provider: its hooks reach for credentials of Google, which no test has.
    hooks = "airflow.providers.google.cloud.hooks"
    monkeypatch.setattr(f"{hooks}.gcs.GCSHook.__init__", _init)
    monkeypatch.setattr(f"{hooks}.gcs.GCSHook.exists", exists)
    monkeypatch.setattr(f"{hooks}.gcs.GCSHook.list", listed)
    monkeypatch.setattr(f"{hooks}.bigquery.BigQueryHook.__init__", _init)
    monkeypatch.setattr(f"{hooks}.bigquery.BigQueryHook.table_partition_exists", partition)
    return asked


def _init(self: Any, gcp_conn_id: str = "", **_: Any) -> None:
    self.gcp_conn_id = gcp_conn_id


def gcs(**more: Any) -> GCSObjectSensor:
    return GCSObjectSensor(
        task_id="features", bucket="${env.bucket}", object="${project.name}/${data.end}/_SUCCESS", references=STATIC,
        gcp_conn_id="google_dev", poke_interval=timedelta(minutes=5), timeout=timedelta(hours=6), **more,
    )  # fmt: skip


def test_an_object_is_waited_for_in_the_triggerer(hooks: dict[str, Any]) -> None:
    waiting = deferred(gcs())
    assert hooks["object"] == ("google_dev", "acme-dev", "prices/2026-11-10/_SUCCESS")
    kind, arguments = waiting.trigger.serialize()
    assert kind.endswith("GCSBlobTrigger")
    assert (arguments["bucket"], arguments["object_name"]) == ("acme-dev", "prices/2026-11-10/_SUCCESS")
    assert (arguments["google_cloud_conn_id"], arguments["poke_interval"]) == ("google_dev", 300)
    assert waiting.timeout == timedelta(hours=6)
    assert waiting.method_name == "execute_complete"


def test_what_is_there_is_not_waited_for(hooks: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    hooks["there"] = True
    assert gcs().execute(Run().context()) is None
    assert gcs(glob=True).execute(Run().context()) is None
    assert hooks["glob"] == ("acme-dev", "prices/2026-11-10/_SUCCESS")
    assert "outside of the Task Runner" not in caplog.text


def test_a_partition_is_waited_for_by_its_id(hooks: dict[str, Any]) -> None:
    task = BigQueryPartitionSensor(
        task_id="orders", project="acme", dataset="sales", table="orders", partition="${data.start}", references=STATIC
    )
    _, arguments = deferred(task).trigger.serialize()
    where = {"project_id": "acme", "dataset_id": "sales", "table_id": "orders", "partition_id": "20261109"}
    assert hooks["partition"] == where
    assert {name: arguments[name] for name in where} == where


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
    with pytest.raises(TransientError, match="403 Forbidden"):
        task.execute_complete(context, {"status": "error", "message": "403 Forbidden"})
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
