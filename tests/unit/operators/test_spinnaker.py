"""The operator that follows a deployment: what it does, and says, about a tag that started nothing."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
import respx
from airflow.sdk.exceptions import TaskDeferred

from mlfleet.errors import ConfigError, JobFailed
from mlfleet.operators.spinnaker import SpinnakerDeployOperator
from tests.support.delivery import Run
from tests.support.spinnaker_wire import REGISTRY, SpinnakerWire

TAG = "release-k-1"
CONNECTION = json.dumps({"conn_type": "spinnaker", "schema": "http", "host": "gate.test"})


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[SpinnakerWire]:
    monkeypatch.setenv("AIRFLOW_CONN_SPINNAKER_DEFAULT", CONNECTION)
    wire = SpinnakerWire(time.time, start_delay=0.0)
    with respx.mock(assert_all_called=False) as router:
        router.route(host="gate.test").mock(side_effect=wire.handle_async_request)
        yield wire


def run(age: float) -> Run:
    """A deployment whose release was `age` seconds ago."""
    released = {
        "repository": "ml/churn",
        "registry": REGISTRY,
        "tag": TAG,
        "digest": "sha256:" + "a" * 64,
        "released_at_ms": int((time.time() - age) * 1000),
    }
    return Run(task_id="deploy", results={"release": released})


def operator(**changes: Any) -> SpinnakerDeployOperator:
    given = {"task_id": "deploy", "application": "churn", "pipeline": "deploy-model", "release_task_id": "release"}
    return SpinnakerDeployOperator(**{**given, "start_timeout": timedelta(minutes=5), **changes})


def deferred(task: SpinnakerDeployOperator, waiting: Run) -> dict[str, Any]:
    with pytest.raises(TaskDeferred) as caught:
        task.execute(waiting.context())
    found: dict[str, Any] = caught.value.trigger.serialize()[1]["deployment"]
    return found


def test_it_waits_for_what_the_release_says(wire: SpinnakerWire) -> None:
    deployment = deferred(operator(on_not_started="start"), run(age=0))
    assert (deployment["tag"], deployment["registry"], deployment["on_not_started"]) == (TAG, REGISTRY, "start")
    assert wire.calls("POST", "") == []


def test_the_two_ways_out_are_told(wire: SpinnakerWire) -> None:
    with pytest.raises(JobFailed) as caught:
        operator().execute(run(age=600).context())
    told = str(caught.value)
    assert "clear 'release' to release the image anew" in told
    assert "set rerun_mode to resume in the Task State Store tab (Storage) of 'deploy' and clear that task" in told
    assert wire.calls("POST", "") == []


def test_another_failure_is_not_cured_by_a_start(wire: SpinnakerWire) -> None:
    wire.push(TAG)
    wire.finish(TAG, "TERMINAL")
    with pytest.raises(JobFailed) as caught:
        operator(on_not_started="start").execute(run(age=0).context())
    assert "rerun_mode" not in str(caught.value)
    assert len(wire.executions_of(TAG)) == 1


def test_the_policy_starts_it_by_hand_and_waits_on(wire: SpinnakerWire) -> None:
    deferred(operator(on_not_started="start"), run(age=600))
    assert len(wire.live(TAG)) == 1
    # The next try finds it.
    deferred(operator(on_not_started="start"), run(age=600))
    assert len(wire.executions_of(TAG)) == 1


def test_a_person_has_it_started_by_hand_for_one_rerun(wire: SpinnakerWire) -> None:
    waiting = run(age=600)
    waiting.store["rerun_mode"] = "resume"
    deferred(operator(), waiting.cleared())
    assert len(wire.live(TAG)) == 1
    assert not waiting.store.get("rerun_mode")


def test_a_start_that_can_not_be_made_fails_with_the_diagnosis(wire: SpinnakerWire) -> None:
    wire.config = {"name": "deploy-model", "disabled": True, "triggers": []}
    with pytest.raises(JobFailed, match="pipeline deploy-model is disabled"):
        operator(on_not_started="start").execute(run(age=600).context())
    assert wire.executions_of(TAG) == []


def test_a_policy_that_does_not_exist() -> None:
    with pytest.raises(ConfigError, match="on_not_started is 'fail' or 'start'"):
        operator(on_not_started="retry")
