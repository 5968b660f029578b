"""Time and backfills on real dated data: every run trains on its own interval, and a backfill never deploys."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Any

import pytest

from tests.acceptance.conftest import World, wait_for

PROJECT = "flight-delay"


def outputs(world: World, run_id: str) -> dict[str, Any]:
    groups = [task for task in world.states(PROJECT, run_id) if task.endswith(".kfp")]
    (task,) = groups
    return dict(world.airflow.xcom(PROJECT, run_id, task)["outputs"])


@pytest.fixture(scope="module")
def backfill(world: World) -> list[dict[str, Any]]:
    """The finished runs of a backfill over two days, made before anything of the project was deployed."""
    world.wait_for_dag(PROJECT)
    body = {"dag_id": PROJECT, "from_date": "2026-11-05T00:00:00Z", "to_date": "2026-11-06T23:00:00Z",
            "max_active_runs": 1, "reprocess_behavior": "none", "dag_run_conf": {}}  # fmt: skip
    world.airflow.call("POST", "/backfills", json=body)
    world.airflow.unpause(PROJECT)

    def runs() -> list[dict[str, Any]]:
        listed = world.airflow.call("GET", f"/dags/{PROJECT}/dagRuns")["dag_runs"]
        return [run for run in listed if run["run_type"] == "backfill"]

    wait_for(
        lambda: runs() and all(run["state"] in ("success", "failed") for run in runs()), 420,
        lambda: str([(run["run_id"], world.states(PROJECT, run["run_id"])) for run in runs()]),
    )  # fmt: skip
    return runs()


def test_a_backfill_trains_each_interval_and_never_deploys(world: World, backfill: list[dict[str, Any]]) -> None:
    assert len(backfill) == 2
    seen = set()
    for run in backfill:
        assert run["state"] == "success", world.logs_of_failures(PROJECT, run["dag_run_id"])
        states = world.states(PROJECT, run["dag_run_id"])
        assert states["build_image"] == "success"
        assert states["release"] == states["deploy"] == "skipped"
        decision = world.airflow.xcom(PROJECT, run["dag_run_id"], "release", "decision")
        assert "backfill" in decision["reason"]
        trained = outputs(world, run["dag_run_id"])
        end = datetime.fromisoformat(run["data_interval_end"]).date()
        assert date.fromisoformat(trained["data_end"][:10]) == end
        seen.add(trained["data_end"])
    assert len(seen) == 2
    assert world.production(PROJECT) is None


def test_a_run_by_hand_trains_on_its_own_interval_and_deploys(world: World, backfill: list[dict[str, Any]]) -> None:
    run_id = world.airflow.trigger(PROJECT)
    state = world.wait_for_run(PROJECT, run_id)
    assert state == "success", world.logs_of_failures(PROJECT, run_id)
    run = world.airflow.run(PROJECT, run_id)
    assert run["logical_date"] is None
    trained = outputs(world, run_id)
    end = datetime.fromisoformat(run["run_after"]).date()
    assert date.fromisoformat(trained["data_end"][:10]) in (end, end + timedelta(days=1))
    production = world.production(PROJECT)
    assert production is not None
    assert production["digest"] == world.airflow.xcom(PROJECT, run_id, "build_image")["digest"]
