"""Time and backfills on real dated data: every run trains on its own interval, and a backfill never deploys."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import pytest

from tests.support.world import World, wait_for

PROJECT = "flight-delay"
FOLLOWER = "delay-follower"


def outputs(world: World, run_id: str) -> dict[str, Any]:
    groups = [task for task in world.states(PROJECT, run_id) if task.endswith(".kfp")]
    (task,) = groups
    return dict(world.airflow.xcom(PROJECT, run_id, task)["outputs"])


def day(text: str) -> date:
    return datetime.fromisoformat(text).date()


def deployed_digest(world: World) -> str | None:
    production = world.production(PROJECT)
    return production["digest"] if production else None


@pytest.fixture(scope="module")
def scheduled(world: World) -> dict[str, Any]:
    """The run that the schedule starts as soon as the project is unpaused; it deploys."""
    for project in (PROJECT, FOLLOWER):
        world.wait_for_dag(project)
        world.airflow.unpause(project)
    (run, *_) = wait_for(lambda: world.airflow.runs(PROJECT), 60, lambda: "a scheduled run")
    assert world.wait_for_run(PROJECT, run["dag_run_id"]) == "success", world.logs_of_failures(
        PROJECT, run["dag_run_id"]
    )
    return world.airflow.run(PROJECT, run["dag_run_id"])


def test_a_scheduled_run_trains_on_its_interval_and_deploys(world: World, scheduled: dict[str, Any]) -> None:
    assert scheduled["run_type"] == "scheduled"
    trained = outputs(world, scheduled["dag_run_id"])
    assert day(trained["data_end"]) == day(scheduled["data_interval_end"])
    built = world.airflow.xcom(PROJECT, scheduled["dag_run_id"], "build_image")
    assert deployed_digest(world) == built["digest"]


def test_a_run_that_an_asset_starts_trains_on_the_window_before_it(world: World, scheduled: dict[str, Any]) -> None:
    (run, *_) = wait_for(lambda: world.airflow.runs(FOLLOWER), 60, lambda: "a run after the release")
    run_id = run["dag_run_id"]
    assert run["run_type"] == "asset_triggered"
    assert (run["logical_date"], run["data_interval_end"]) == (None, None)
    assert world.wait_for_run(FOLLOWER, run_id) == "success", world.logs_of_failures(FOLLOWER, run_id)
    trained = world.airflow.xcom(FOLLOWER, run_id, "default.polyaxon")
    assert day(trained["inputs"]["data_end"]) == day(run["run_after"])
    events = world.airflow.call("GET", f"/dags/{FOLLOWER}/dagRuns/{run_id}/upstreamAssetEvents")["asset_events"]
    assert [event["source_run_id"] for event in events] == [scheduled["dag_run_id"]]


def test_a_backfill_trains_each_interval_and_never_deploys(world: World, scheduled: dict[str, Any]) -> None:
    before = deployed_digest(world)
    world.backfill(PROJECT, "2026-11-05", "2026-11-06")

    def runs() -> list[dict[str, Any]]:
        return [run for run in world.airflow.runs(PROJECT) if run["run_type"] == "backfill"]

    wait_for(
        lambda: len(runs()) == 2 and all(run["state"] in ("success", "failed") for run in runs()), 420,
        lambda: str([(run["run_id"], world.states(PROJECT, run["dag_run_id"])) for run in runs()]),
    )  # fmt: skip
    for run in runs():
        run_id = run["dag_run_id"]
        assert run["state"] == "success", world.logs_of_failures(PROJECT, run_id)
        states = world.states(PROJECT, run_id)
        assert states["build_image"] == "success"
        assert states["release"] == states["deploy"] == "skipped"
        assert "backfill" in world.airflow.xcom(PROJECT, run_id, "release", "decision")["reason"]
        assert day(outputs(world, run_id)["data_end"]) == day(run["data_interval_end"])
        assert world.airflow.xcom(PROJECT, run_id, "build_image")["digest"] != before
    assert len({outputs(world, run["dag_run_id"])["data_end"] for run in runs()}) == 2
    assert deployed_digest(world) == before


@pytest.fixture(scope="module")
def by_hand(world: World, scheduled: dict[str, Any]) -> dict[str, Any]:
    """A run by hand, after the manifest has given backfills of newer data leave."""
    manifest = world.deployment / f"include/projects/{PROJECT}.yaml"
    manifest.write_text(manifest.read_text().replace("  timeout: 15m\n", "  timeout: 15m\n  backfill: newer\n"))

    def doc() -> str:
        return str(world.airflow.call("GET", f"/dags/{PROJECT}/details")["doc_md"])

    wait_for(lambda: "backfill: newer" in doc(), 60, doc)
    run_id = world.airflow.trigger(PROJECT)
    assert world.wait_for_run(PROJECT, run_id) == "success", world.logs_of_failures(PROJECT, run_id)
    return world.airflow.run(PROJECT, run_id)


def test_a_run_by_hand_trains_on_the_days_before_it_and_deploys(world: World, by_hand: dict[str, Any]) -> None:
    assert by_hand["logical_date"] is None
    run_id = by_hand["dag_run_id"]
    assert day(outputs(world, run_id)["data_end"]) == day(by_hand["run_after"])
    assert deployed_digest(world) == world.airflow.xcom(PROJECT, run_id, "build_image")["digest"]


def test_with_leave_a_backfill_of_older_data_is_kept_back_by_what_was_released(
    world: World, by_hand: dict[str, Any]
) -> None:
    """`deploy.backfill: newer`: the run by hand left word with the project's asset, which the backfill finds."""
    live, before = deployed_digest(world), {run["dag_run_id"] for run in world.airflow.runs(PROJECT)}
    world.backfill(PROJECT, "2026-11-08", "2026-11-08")
    (run_id,) = wait_for(lambda: {run["dag_run_id"] for run in world.airflow.runs(PROJECT)} - before, 60,
                         lambda: "the backfill's run")  # fmt: skip
    assert world.wait_for_run(PROJECT, run_id) == "success", world.logs_of_failures(PROJECT, run_id)
    decision = world.airflow.xcom(PROJECT, run_id, "release", "decision")
    assert decision["guard"] == "backfill"
    told = f"is not newer: its data ends 2026-11-09T04:00:00+00:00, that of run {by_hand['dag_run_id']}"
    assert told in decision["reason"]
    assert deployed_digest(world) == live
