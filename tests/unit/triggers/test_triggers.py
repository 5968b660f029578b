from __future__ import annotations

import asyncio
import json
import time
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from airflow.sdk.execution_time.xcom import XCom
from airflow.sdk.module_loading import import_string

from mlfleet.remote.job import JobState
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.systems.spinnaker import Deployment
from mlfleet.triggers.base import RemoteJobTrigger
from mlfleet.triggers.container_registry import ImageTrigger
from mlfleet.triggers.events import CURSOR_KEY
from mlfleet.triggers.kfp import KFPTrigger
from mlfleet.triggers.polyaxon import PolyaxonTrigger
from mlfleet.triggers.spinnaker import SpinnakerTrigger
from tests.support.airflow_channel import airflow_says
from tests.support.remote import MemorySystem, itself

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


class MemoryHook:
    """Connections by id are systems in memory; `read` counts how often each was read."""

    conn_type = "memory"
    connections: ClassVar[dict[str, MemorySystem]] = {}
    read: ClassVar[list[str]] = []

    def __init__(self, conn_id: str) -> None:
        self.conn_id = conn_id

    async def aclient(self) -> MemorySystem:
        self.read.append(self.conn_id)
        return self.connections[self.conn_id]


class MemoryTrigger(RemoteJobTrigger):
    """A trigger on a system in memory."""

    hook_class = MemoryHook

    def make_system(self, client: Any) -> RemoteSystem:
        return itself(client)  # type: ignore[no-any-return]


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


def trigger(system: MemorySystem, job_id: str = "job-0", **more: Any) -> MemoryTrigger:
    MemoryHook.connections, MemoryHook.read = {"c": system, "twin": system}, []
    made = MemoryTrigger(**{"conn_id": "c", "job_id": job_id, "poll_interval": 0.01, **more})
    made._task_instance = SimpleNamespace(dag_id="d", task_id="t", run_id="r", map_index=-1)
    return made


def test_the_cursor_and_the_link_live_in_xcom(xcom: dict[str, Any]) -> None:
    system = MemorySystem(lines=["one", "two"])
    system.put(JobState.SUCCEEDED)
    event = asyncio.run(trigger(system).run().__anext__())
    assert event.payload["outcome"] == "finished"
    assert xcom == {
        CURSOR_KEY: {"cursor": {"read": 2}, "resumes": 0, "left_well": False},
        "remote_url": "https://memory/job-0",
    }


@pytest.mark.parametrize("left_well", [True, False])
def test_the_next_triggerer_reads_on(xcom: dict[str, Any], monkeypatch: pytest.MonkeyPatch, left_well: bool) -> None:
    xcom[CURSOR_KEY] = {"cursor": {"read": 1}, "resumes": 0, "left_well": left_well}
    system = MemorySystem(lines=["one", "two"])
    system.put(JobState.SUCCEEDED)
    waiting = trigger(system)
    said: list[str] = []
    monkeypatch.setattr(type(waiting), "log", SimpleNamespace(info=said.append, warning=said.append))
    asyncio.run(waiting.run().__anext__())
    # Only after a kill -9 lines may come twice.
    assert any("may repeat earlier ones" in record for record in said) is not left_well
    lines = "\n".join(said).splitlines()
    assert "two" in lines
    assert "one" not in lines


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
    system = MemorySystem(lines=["one"])
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
    assert xcom[CURSOR_KEY] == {"cursor": {"read": 1}, "resumes": 0, "left_well": True}


async def killed(waiting: MemoryTrigger) -> None:
    """What Airflow does with a trigger whose task a person ended, or that moves to another triggerer."""
    running = asyncio.ensure_future(waiting.run().__anext__())
    await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    await waiting.on_kill()
    await waiting.cleanup()


@pytest.mark.parametrize("state", ["failed", "success", "queued", None])
def test_a_person_who_ends_the_task_stops_the_job_over_the_open_connection(
    xcom: dict[str, Any], monkeypatch: pytest.MonkeyPatch, state: str | None
) -> None:
    """Asking Airflow for the connection again may take seconds that on_kill does not have."""
    airflow_says(monkeypatch, state)
    system = MemorySystem()
    system.put(JobState.RUNNING)
    asyncio.run(killed(trigger(system)))
    assert system.jobs["job-0"].state is JobState.STOPPED
    assert MemoryHook.read == ["c"]
    assert system.closed


@pytest.mark.parametrize("answer", ["deferred", ConnectionError("the channel is closed")])
def test_a_missed_heartbeat_stops_nothing(
    xcom: dict[str, Any], monkeypatch: pytest.MonkeyPatch, answer: str | Exception
) -> None:
    """Triggers that move to another triggerer are cancelled as by a person (peers.md 4)."""
    airflow_says(monkeypatch, answer)
    monkeypatch.setattr("mlfleet.triggers.base._STATE_TRIES", 1)
    system = MemorySystem()
    system.put(JobState.RUNNING)
    asyncio.run(killed(trigger(system)))
    assert system.jobs["job-0"].state is JobState.RUNNING


def test_an_early_end_is_held_back(xcom: dict[str, Any]) -> None:
    """The process that deferred may still linger, and Airflow would take its end for that of the second half."""
    system = MemorySystem()
    system.put(JobState.SUCCEEDED)
    not_before = time.time() + 0.5
    asyncio.run(trigger(system, not_before=not_before).run().__anext__())
    assert time.time() >= not_before


def test_all_triggers_of_a_connection_share_client_and_requests(xcom: dict[str, Any]) -> None:
    system = MemorySystem()
    for _ in range(30):
        system.put(JobState.RUNNING)

    async def wait() -> list[Any]:
        waiting = [trigger(system, f"job-{n}", poll_interval=0.2) for n in range(30)]
        running = [asyncio.ensure_future(each.run().__anext__()) for each in waiting]
        await asyncio.sleep(0.3)
        for n in range(30):
            system.set(f"job-{n}", JobState.SUCCEEDED)
        events = await asyncio.gather(*running)
        for each in waiting:
            await each.cleanup()
        return [event.payload["status"]["id"] for event in events]

    assert asyncio.run(wait()) == [f"job-{n}" for n in range(30)]
    assert MemoryHook.read == ["c"]
    assert system.calls.count("poll") < 15
    assert system.closed


def test_two_connections_with_the_same_host_stay_two(xcom: dict[str, Any]) -> None:
    system = MemorySystem()
    system.put(JobState.SUCCEEDED)

    async def wait() -> None:
        waiting = [trigger(system), trigger(system, conn_id="twin")]
        await asyncio.gather(*(each.run().__anext__() for each in waiting))
        for each in waiting:
            await each.cleanup()

    asyncio.run(wait())
    assert sorted(MemoryHook.read) == ["c", "twin"]
