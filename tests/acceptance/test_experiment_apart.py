"""An experiment with a schedule and an image of its own: trained, delivered and backfilled by itself."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from mlfleet.clients.retry import RetryPolicy
from mlfleet.fleet.connecting import Wire
from tests.support.fleet import apply_repository, connections
from tests.support.world import World, wait_for

PROJECT = "segments"
APART = "segments.short-haul"
REPOSITORY = "ml/segments/short-haul"
# The registry's account is called as the stand-in's Igor calls it.
PLACE = """\
name: dev
registry: 127.0.0.1:{registry}
spinnaker: {{account: sandbox-registry, template: include/spinnaker/deploy.yaml}}
connections: {{spinnaker: spinnaker_default, kfp: kfp_default}}
values: {{data_root: x, pipeline_root: x, base_image: x}}
"""


@pytest.fixture(scope="module")
def applied(world: World, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What `mlfleet apply` makes for this project."""
    root = tmp_path_factory.mktemp("repository")
    for folder in (f"include/pipelines/{PROJECT}", "include/pipelines/_lib", "include/components", "include/spinnaker"):
        shutil.copytree(world.deployment / folder, root / folder, symlinks=True)
    for folder in ("projects", "environments"):
        (root / "include" / folder).mkdir()
    manifest = Path("include/projects", f"{PROJECT}.yaml")
    shutil.copy(world.deployment / manifest, root / manifest)
    (root / "include/environments/dev.yaml").write_text(PLACE.format(registry=world.settings.ports["registry"]))
    urls = {name: world.settings.url(name) for name in ("kfp", "spinnaker")}
    wire = Wire(connections(**urls), retry=RetryPolicy())
    return sorted(f"{step.change.kind.value} {step.change.name}" for step in apply_repository(root, wire).steps)


@pytest.fixture(scope="module")
def released(world: World, applied: list[str]) -> str:
    """A run by hand of one day, after the one that the schedule starts was stopped by a person; it goes live."""
    world.wait_for_dag(APART)
    world.airflow.unpause(APART)
    (scheduled, *_) = wait_for(lambda: world.airflow.runs(APART), 60, lambda: "a scheduled run")
    world.airflow.call("PATCH", f"/dags/{APART}/dagRuns/{scheduled['dag_run_id']}", json={"state": "failed"})
    day = {"data_interval_start": "2026-11-08T05:00:00Z", "data_interval_end": "2026-11-09T05:00:00Z"}
    body = {"logical_date": "2026-11-08T05:00:00Z", **day}
    run_id = str(world.airflow.call("POST", f"/dags/{APART}/dagRuns", json=body)["dag_run_id"])
    assert world.wait_for_run(APART, run_id) == "success", world.logs_of_failures(APART, run_id)
    return run_id


def xcom(world: World, run_id: str, task: str, key: str = "return_value") -> Any:
    return world.airflow.xcom(APART, run_id, f"short-haul.{task}", key)


def trained_until(world: World, run_id: str) -> str:
    return datetime.fromisoformat(xcom(world, run_id, "kfp")["outputs"]["data_end"]).date().isoformat()


def live(world: World) -> Any:
    production = world.production(PROJECT)
    assert production is not None
    return production["digest"]


def test_each_image_has_a_pipeline(applied: list[str]) -> None:
    assert [each for each in applied if each.startswith("Spinnaker")] == [
        f"Spinnaker application {PROJECT}",
        f"Spinnaker pipeline {PROJECT}/deploy-default",
        f"Spinnaker pipeline {PROJECT}/deploy-short-haul",
        f"Spinnaker pipeline {PROJECT}/rollback",
    ]


def test_two_dags_hold_the_whole_way_of_one_experiment_each(world: World) -> None:
    for dag_id, group in ((PROJECT, "default"), (APART, "short-haul")):
        world.wait_for_dag(dag_id)
        tasks = world.airflow.call("GET", f"/dags/{dag_id}/tasks")["tasks"]
        steps = ("kfp", "evaluate", "build_image", "verify_image", "release", "deploy")
        assert {task["task_id"] for task in tasks} == {f"{group}.{step}" for step in steps}


def test_its_run_trains_on_its_own_day_and_goes_live_through_its_own_pipeline(world: World, released: str) -> None:
    assert trained_until(world, released) == "2026-11-09"
    built, deployed = xcom(world, released, "build_image"), xcom(world, released, "deploy")
    assert built["repository"] == REPOSITORY
    assert live(world) == built["digest"] == deployed["digest"]
    url = f"{world.settings.url('spinnaker')}/pipelines/{deployed['execution_id']}"
    assert httpx.get(url, timeout=10).json()["name"] == "deploy-short-haul"


def test_a_backfill_of_newer_data_goes_live(world: World, released: str) -> None:
    """`deploy.backfill: newer`, by what the run by hand has left with the project's asset."""
    before, known = live(world), {run["dag_run_id"] for run in world.airflow.runs(APART)}
    world.backfill(APART, "2026-11-10", "2026-11-10")
    (run_id,) = wait_for(lambda: {run["dag_run_id"] for run in world.airflow.runs(APART)} - known, 60,
                         lambda: "the backfill's run")  # fmt: skip
    assert world.wait_for_run(APART, run_id) == "success", world.logs_of_failures(APART, run_id)
    assert world.airflow.run(APART, run_id)["run_type"] == "backfill"
    assert trained_until(world, run_id) == "2026-11-11"
    decision = xcom(world, run_id, "release", "decision")
    told = f"data ends 2026-11-11T05:00:00+00:00, that of run {released} 2026-11-09T05:00:00+00:00"
    assert told in decision["reason"]
    assert live(world) == xcom(world, run_id, "build_image")["digest"] != before
