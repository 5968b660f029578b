"""Apply and the drift DAG with a real Airflow: its pools, its connections, its runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlfleet.clients.retry import RetryPolicy
from mlfleet.fleet.apply import Applied
from mlfleet.fleet.connecting import Wire
from mlfleet.fleet.plan import Plan
from mlfleet.fleet.preparing import prepare_environment
from mlfleet.manifest.loading import Repository
from tests.support.fleet import apply_repository, connections
from tests.support.world import World

POOLS = """\
name: dev
fleet: pools-of-a-test
connections: {airflow: airflow_default}
values: {data_root: x, pipeline_root: x, base_image: x}
quotas: {pools: {training: {slots: 3, description: At a time}}}
"""


def wire(world: World) -> Wire:
    names = ("polyaxon", "kfp", "airflow")
    return Wire(connections(**{name: world.settings.url(name) for name in names}), retry=RetryPolicy())


def plan(root: Path, world: World) -> Plan:
    return prepare_environment(Repository(root), "dev", wire(world)).plan()


def apply(root: Path, world: World, prune: bool = False) -> Applied:
    return apply_repository(root, wire(world), prune)


@pytest.fixture
def deployment(world: World, tmp_path: Path) -> Iterator[Path]:
    """What Airflow runs, with its broken manifest out of the way."""
    manifest = world.deployment / "include" / "projects" / "broken.yaml"
    manifest.rename(tmp_path / "broken.yaml")
    yield world.deployment
    (tmp_path / "broken.yaml").rename(manifest)


def test_pools(world: World, deployment: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    shutil.copytree(deployment / "include", root / "include", symlinks=True)
    (root / "include" / "environments" / "dev.yaml").write_text(POOLS)
    # It names a pool that the tests of broken manifests make.
    (root / "include" / "projects" / "patient.yaml").unlink()

    def pools() -> list[str]:
        return [change.action.value for change in plan(root, world).changes if change.kind.value == "Airflow pool"]

    assert pools() == ["create"]
    apply(root, world)
    assert pools() == []
    pool = world.airflow.call("GET", "/pools/training")
    assert (pool["slots"], pool["include_deferred"]) == (3, True)
    assert pool["description"].startswith("At a time managed-by:pools-of-a-test#")
    world.airflow.call("PATCH", "/pools/training", json={"pool": "training", "slots": 99, "include_deferred": True})
    assert pools() == ["drift"]
    apply(root, world)
    assert world.airflow.call("GET", "/pools/training")["slots"] == 3
    (root / "include" / "environments" / "dev.yaml").write_text(
        POOLS.replace("{training: {slots: 3", "{other: {slots: 3")
    )
    assert pools() == ["create", "orphan"]
    apply(root, world, prune=True)
    assert pools() == []
    assert [each["name"] for each in world.airflow.call("GET", "/pools")["pools"]] == ["default_pool", "other"]


def test_the_drift_dag_fails_until_the_environment_is_in_step(world: World, deployment: Path) -> None:
    world.wait_for_dag("fleet_drift")
    world.airflow.unpause("fleet_drift")
    assert plan(deployment, world).changes
    before = world.airflow.trigger("fleet_drift")
    assert world.wait_for_run("fleet_drift", before) == "failed"
    assert world.states("fleet_drift", before) == {"compare": "success", "in_step": "failed"}
    assert "dev is not as the manifests ask for: " in world.airflow.log("fleet_drift", before, "in_step")
    apply(deployment, world)
    after = world.airflow.trigger("fleet_drift")
    assert world.wait_for_run("fleet_drift", after) == "success", world.logs_of_failures("fleet_drift", after)
