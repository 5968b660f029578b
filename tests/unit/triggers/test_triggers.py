from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time.xcom import XCom
from airflow.sdk.module_loading import import_string

from mlfleet.remote.job import JobState
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.systems.spinnaker import Deployment
from mlfleet.triggers.base import CURSOR_KEY, RemoteJobTrigger
from mlfleet.triggers.container_registry import ImageTrigger
from mlfleet.triggers.kfp import KFPTrigger
from mlfleet.triggers.polyaxon import PolyaxonTrigger
from mlfleet.triggers.spinnaker import SpinnakerTrigger
from tests.support.remote import MemorySystem

COMMON: dict[str, Any] = {"conn_id": "c", "job_id": "j", "deadline": 12.5, "poll_interval": 3.0, "stop_on_kill": False}
TRIGGERS = [
    PolyaxonTrigger(project="p", best_by={"metric": "mae", "direction": "min"}, **COMMON),
    PolyaxonTrigger(project="p", conn_id="c", job_id="j"),
    KFPTrigger(**COMMON),
    SpinnakerTrigger(deployment=Deployment("a", "p", "r", "t", None, 5).as_json(), **COMMON),
    ImageTrigger(conn_id="c", repository="r", tag="t", digest="sha256:1", deadline=1.0, poll_interval=2.0),
]


@pytest.mark.parametrize("trigger", TRIGGERS, ids=lambda trigger: type(trigger).__name__)
def test_a_trigger_survives_the_database(trigger: Any) -> None:
    path, kwargs = trigger.serialize()
    again = import_string(path)(**json.loads(json.dumps(kwargs)))
    assert type(again) is type(trigger)
    assert again.serialize() == (path, kwargs)


class MemoryTrigger(RemoteJobTrigger):
    """A trigger on a system in memory."""

    system: MemorySystem

    async def connect(self) -> RemoteSystem:
        return self.system


@pytest.fixture
def xcom(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """XCom as a dictionary; the task instance is always the same one."""
    kept: dict[str, Any] = {}

    async def aset(key: str, value: Any, **where: Any) -> None:
        assert where == {"dag_id": "d", "task_id": "t", "run_id": "r", "map_index": -1}
        kept[key] = json.loads(json.dumps(value))

    async def aget_one(*, key: str, **where: Any) -> Any:
        return kept.get(key)

    monkeypatch.setattr(XCom, "aset", aset)
    monkeypatch.setattr(XCom, "aget_one", aget_one)
    return kept


def trigger(system: MemorySystem) -> MemoryTrigger:
    made = MemoryTrigger(conn_id="c", job_id="job-0", poll_interval=0.01)
    made.system = system
    made._task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    return made


def test_the_cursor_and_the_link_live_in_xcom(xcom: dict[str, Any]) -> None:
    system = MemorySystem(lines=["one", "two"])
    system.put(JobState.SUCCEEDED)
    event = asyncio.run(trigger(system).run().__anext__())
    assert event.payload["outcome"] == "finished"
    assert xcom == {CURSOR_KEY: {"read": 2}, "remote_url": "https://memory/job-0"}


def test_the_next_triggerer_reads_on(xcom: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    xcom[CURSOR_KEY] = {"read": 1}
    system = MemorySystem(lines=["one", "two"])
    system.put(JobState.SUCCEEDED)
    waiting = trigger(system)
    said: list[str] = []
    monkeypatch.setattr(type(waiting), "log", SimpleNamespace(info=said.append, warning=said.append))
    asyncio.run(waiting.run().__anext__())
    assert "another triggerer" in said[0]
    assert "two" in said
    assert "one" not in said


def test_an_xcom_that_cannot_be_written_does_not_end_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no database")

    monkeypatch.setattr(XCom, "aset", broken)
    monkeypatch.setattr(XCom, "aget_one", broken)
    system = MemorySystem(lines=["one"])
    system.put(JobState.SUCCEEDED)
    assert asyncio.run(trigger(system).run().__anext__()).payload["outcome"] == "finished"


def test_a_restart_of_the_triggerer_stops_nothing(xcom: dict[str, Any]) -> None:
    """Airflow cancels the run and calls cleanup, not on_kill (airflow.md 4)."""
    system = MemorySystem()
    system.put(JobState.RUNNING)

    async def restart() -> None:
        waiting = trigger(system)
        running = asyncio.ensure_future(waiting.run().__anext__())
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await waiting.cleanup()

    asyncio.run(restart())
    assert system.jobs["job-0"].state is JobState.RUNNING
    assert system.closed


def test_a_kill_stops_over_the_open_connection(xcom: dict[str, Any]) -> None:
    """Asking Airflow for the connection again may take seconds that on_kill does not have."""
    system = MemorySystem()
    system.put(JobState.RUNNING)

    async def kill() -> None:
        waiting = trigger(system)
        running = asyncio.ensure_future(waiting.run().__anext__())
        await asyncio.sleep(0.05)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

        async def never() -> RemoteSystem:
            raise AssertionError("asked again")

        waiting.connect = never  # type: ignore[method-assign]
        await waiting.on_kill()
        await waiting.cleanup()

    asyncio.run(kill())
    assert system.jobs["job-0"].state is JobState.STOPPED
