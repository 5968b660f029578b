from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException, TaskDeferred

from mlfleet.errors import JobTimedOut, TransientError
from mlfleet.sensors.container_registry import ImageSensor
from mlfleet.triggers.container_registry import ImageTrigger
from tests.support.delivery import FakeRegistry, Run, connections, network

REPO = "ml/churn"


@pytest.fixture
def registry(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
    for name, value in connections().items():
        monkeypatch.setenv(name, value)
    registry = FakeRegistry()
    with network(registry):
        yield registry


def sensor(**changes: Any) -> ImageSensor:
    return ImageSensor(**{"task_id": "verify_image", "repository": REPO, "tag": "build-k", **changes})


def test_an_image_that_is_there(registry: FakeRegistry) -> None:
    digest = registry.add_image(REPO, "build-k", {"mlfleet.key": "k"})
    found = sensor(digest=digest, labels={"mlfleet.key": "k"}).execute((task := Run()).context())
    assert found == {"repository": REPO, "tag": "build-k", "digest": digest, "labels": {"mlfleet.key": "k"}}
    assert task.pushed["remote_url"] == f"http://registry.test:5000/v2/{REPO}/manifests/build-k"


def test_it_waits_for_the_tag_and_the_digest(registry: FakeRegistry) -> None:
    digest = registry.add_image(REPO, "other", {"a": "b"})
    registry.add_image(REPO, "build-k", {"not": "yet"})
    with pytest.raises(TaskDeferred) as deferred:
        sensor(digest=digest, poke_interval=0.01).execute(Run().context())
    assert deferred.value.method_name == "execute_complete"
    path, arguments = deferred.value.trigger.serialize()
    assert path == "mlfleet.triggers.container_registry.ImageTrigger"
    assert arguments["digest"] == digest
    assert "password" not in str(arguments)

    async def first() -> Any:
        generator = ImageTrigger(**{**arguments, "not_before": 0.0}).run()
        waiting = asyncio.ensure_future(generator.__anext__())
        await asyncio.sleep(0.05)
        assert not waiting.done()
        assert registry.add_image(REPO, "build-k", {"a": "b"}) == digest
        return (await waiting).payload

    event = asyncio.run(first())
    assert sensor(digest=digest).execute_complete(Run().context(), event)["digest"] == digest


def test_labels_that_differ_fail_at_once(registry: FakeRegistry) -> None:
    registry.add_image(REPO, "build-k", {"mlfleet.key": "other"})
    with pytest.raises(AirflowFailException, match=r"mlfleet.key is 'other', mlfleet.project is None"):
        sensor(labels={"mlfleet.key": "k", "mlfleet.project": None}).execute(Run().context())


def test_a_label_with_any_value(registry: FakeRegistry) -> None:
    registry.add_image(REPO, "build-k", {"mlfleet.key": "whatever"})
    assert sensor(labels={"mlfleet.key": None}).execute(Run().context())["tag"] == "build-k"


@pytest.mark.parametrize(
    ("outcome", "error"),
    [("timeout", JobTimedOut), ("gave_up", TransientError), ("refused", AirflowFailException)],
)
def test_other_ends(outcome: str, error: type[Exception], registry: FakeRegistry) -> None:
    with pytest.raises(error, match="what went wrong"):
        sensor().execute_complete(Run().context(), {"outcome": outcome, "error": "what went wrong"})


def test_in_the_worker_slot(registry: FakeRegistry) -> None:
    poked = sensor(deferrable=False).poke(Run().context())
    assert not poked.is_done
    registry.add_image(REPO, "build-k", {})
    poked = sensor(deferrable=False).poke(Run().context())
    assert poked.is_done
    assert poked.xcom_value["tag"] == "build-k"
