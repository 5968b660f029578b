from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk import PokeReturnValue
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from mlfleet.errors import JobFailed, JobTimedOut
from mlfleet.sensors.kfp import KFPRunSensor
from mlfleet.sensors.polyaxon import PolyaxonRunSensor
from mlfleet.sensors.spinnaker import SpinnakerExecutionSensor
from mlfleet.triggers.kfp import KFPTrigger
from tests.support.delivery import Run
from tests.support.kfp_wire import CONNECTION, KFPWire, kfp_wire


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[KFPWire]:
    monkeypatch.setenv("AIRFLOW_CONN_KFP_DEFAULT", CONNECTION)
    with kfp_wire() as wire:
        wire.runs["r1"] = {"run_id": "r1", "display_name": "by hand", "state": "RUNNING"}
        yield wire


def sensor(**changes: Any) -> KFPRunSensor:
    return KFPRunSensor(**{"task_id": "wait", "run_id": "r1", "poke_interval": 0.01, **changes})


def deferred(task: Any, run: Run) -> TaskDeferred:
    with pytest.raises(TaskDeferred) as caught:
        task.execute(run.context())
    return caught.value


def event(waiting: TaskDeferred) -> Any:
    async def first() -> Any:
        trigger = KFPTrigger(**{**waiting.trigger.serialize()[1], "not_before": 0.0})
        found = await trigger.run().__anext__()
        await trigger.cleanup()
        return found.payload

    return asyncio.run(first())


def test_a_finished_run_is_handed_on_without_waiting(wire: KFPWire) -> None:
    wire.finish()
    run = Run()
    assert sensor().execute(run.context())["run_id"] == "r1"
    assert run.pushed["remote_url"].endswith("/r1")


def test_it_waits_and_hands_on(wire: KFPWire) -> None:
    run = Run()
    waiting = deferred(sensor(), run)
    assert run.pushed["remote_url"].endswith("/r1")
    wire.finish()
    assert sensor().execute_complete(run.context(), event(waiting))["status"] == "SUCCEEDED"


def test_a_run_that_fails_fails_the_sensor(wire: KFPWire) -> None:
    run = Run()
    waiting = deferred(sensor(), run)
    wire.finish("FAILED")
    with pytest.raises(JobFailed):
        sensor().execute_complete(run.context(), event(waiting))


def test_a_run_that_does_not_exist_is_told(wire: KFPWire) -> None:
    run = Run()
    waiting = deferred(sensor(run_id="nobody"), run)
    with pytest.raises(JobFailed, match="does not exist"):
        sensor().execute_complete(run.context(), event(waiting))


def test_its_time_out_and_its_kill_leave_the_run_alone(wire: KFPWire) -> None:
    run = Run()
    waiting = deferred(sensor(timeout=0.05), run)
    with pytest.raises(JobTimedOut):
        sensor().execute_complete(run.context(), event(waiting))
    asyncio.run(KFPTrigger(**waiting.trigger.serialize()[1]).on_kill())
    assert wire.runs["r1"]["state"] == "RUNNING"


def test_without_deferring_it_pokes(wire: KFPWire) -> None:
    task, run = sensor(deferrable=False), Run()
    assert not task.poke(run.context())
    wire.finish()
    found = task.poke(run.context())
    assert isinstance(found, PokeReturnValue)
    assert found.xcom_value["run_id"] == "r1"


def test_a_missing_connection_fails_at_once() -> None:
    with pytest.raises(AirflowFailException, match="AIRFLOW_CONN_NOWHERE"):
        sensor(kfp_conn_id="nowhere").execute(Run().context())


def test_what_the_sensors_wait_for() -> None:
    polyaxon = PolyaxonRunSensor(task_id="p", project="churn", uuid="0a1b-2c3d")
    assert polyaxon.job_id == "0a1b2c3d"
    assert polyaxon.make_trigger(conn_id="c", job_id="j").serialize()[1]["project"] == "churn"
    spinnaker = SpinnakerExecutionSensor(
        task_id="s", application="a", pipeline="p", repository="ml/churn", tag="release-1", timeout=60
    )
    assert spinnaker.job_id == "ml/churn:release-1"
    found = spinnaker.make_trigger(conn_id="c", job_id="j").serialize()[1]["deployment"]
    assert (found["application"], found["tag"], found["digest"]) == ("a", "release-1", None)
