"""The whole way, for real: manifest, DAG, Polyaxon, KFP, image, release, Spinnaker, answered request."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from sandbox.demo import real_item
from tests.support.world import World, wait_for

PROJECT = "price-suggestion"


@pytest.fixture(scope="module")
def run(world: World) -> dict[str, Any]:
    """One finished run, with what was seen while its tasks waited."""
    world.wait_for_dag(PROJECT)
    world.airflow.unpause(PROJECT)
    (first, *_) = wait_for(lambda: world.airflow.runs(PROJECT), 60, lambda: "a scheduled run")
    run_id = first["dag_run_id"]
    links: dict[str, dict[str, str | None]] = {}
    logs: dict[str, str] = {}

    def looked() -> bool:
        for task in world.airflow.task_instances(PROJECT, run_id):
            name = task["task_id"]
            if task["state"] == "deferred":
                links.setdefault(name, world.airflow.links(PROJECT, run_id, name))
                logs[name] = world.airflow.log(PROJECT, run_id, name)
        return world.airflow.run(PROJECT, run_id)["state"] in ("success", "failed")

    wait_for(looked, 420, lambda: str(world.states(PROJECT, run_id)))
    state = world.airflow.run(PROJECT, run_id)["state"]
    assert state == "success", world.logs_of_failures(PROJECT, run_id)
    return {"run_id": run_id, "links": links, "logs": logs}


def xcom(world: World, run: dict[str, Any], task_id: str) -> Any:
    return world.airflow.xcom(PROJECT, run["run_id"], task_id)


def test_every_task_succeeded(world: World, run: dict[str, Any]) -> None:
    states = world.states(PROJECT, run["run_id"])
    assert set(states.values()) == {"success"}
    expected = {f"{experiment}.{step}" for experiment in ("default", "premium", "fair") for step in ("polyaxon", "kfp")}
    assert set(states) == expected | {"evaluate", "build_image", "verify_image", "release", "deploy"}


def test_polyaxon_tuned_and_kfp_got_the_best(world: World, run: dict[str, Any]) -> None:
    tuned = xcom(world, run, "default.polyaxon")
    base = f"{world.settings.url('polyaxon')}/api/v1/default/{tuned['project']}/runs"
    children = httpx.get(base, params={"query": f"pipeline:{tuned['uuid']}", "limit": 50}, timeout=10).json()["results"]
    assert len(children) > 1
    assert {child["status"] for child in children} == {"succeeded"}
    best = min(children, key=lambda child: child["outputs"]["mae"])
    assert tuned["best"]["uuid"] == best["uuid"]
    run_id = xcom(world, run, "default.kfp")["run_id"]
    detail = httpx.get(f"{world.settings.url('kfp')}/apis/v2beta1/runs/{run_id}", timeout=10).json()
    parameters = detail["runtime_config"]["parameters"]
    chosen = {name: value for name, value in tuned["best"]["inputs"].items() if name in parameters}
    assert chosen
    assert {name: parameters[name] for name in chosen} == chosen


def test_the_model_beats_the_baseline(world: World, run: dict[str, Any]) -> None:
    measured = xcom(world, run, "default.kfp")["outputs"]
    assert 0 < measured["mae"] < measured["baseline_mae"]
    evaluated = xcom(world, run, "evaluate")
    assert evaluated["passed"]
    assert len(evaluated["results"]) == 3


def test_what_was_built_was_released_and_deployed(world: World, run: dict[str, Any]) -> None:
    built, released, deployed = (xcom(world, run, task) for task in ("build_image", "release", "deploy"))
    assert built["tag"].startswith("build-")
    assert released["tag"].startswith("release-")
    assert built["digest"] == released["digest"] == deployed["digest"]
    production = world.production(PROJECT)
    assert production is not None
    assert production["digest"] == built["digest"]
    assert production["tag"] == released["tag"]
    execution = httpx.get(f"{world.settings.url('spinnaker')}/pipelines/{deployed['execution_id']}", timeout=10).json()
    assert execution["trigger"]["type"] == "docker"
    assert execution["trigger"]["tag"] == released["tag"]


def test_the_image_says_where_it_comes_from(world: World, run: dict[str, Any]) -> None:
    labels = xcom(world, run, "build_image")["labels"]
    text = str(labels)
    assert xcom(world, run, "default.polyaxon")["uuid"] in text
    assert xcom(world, run, "default.kfp")["run_id"] in text
    assert labels["org.opencontainers.image.revision"]


def test_the_deployed_model_answers(world: World, run: dict[str, Any]) -> None:
    item, truth = real_item(world.settings.cache / "data" / "diamonds.csv")
    url = f"{world.settings.url('serving')}/{PROJECT}/predict"
    for experiment in ("default", "premium", "fair"):
        answer = httpx.post(url, json={"experiment": experiment, "items": [item]}, timeout=30)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"][0] == pytest.approx(truth, rel=0.6)
    assert httpx.post(url, json={"experiment": "no-such", "items": [item]}, timeout=30).status_code == 400


def test_links_and_logs_are_there_while_a_task_waits(world: World, run: dict[str, Any]) -> None:
    for task in ("default.polyaxon", "default.kfp"):
        addresses = [url for url in run["links"][task].values() if url]
        assert addresses
        assert httpx.get(addresses[0].split("#")[0], timeout=10).status_code == 200
    # A record keeps the newest lines that fit (remote.logs), so what a component writes last is there.
    log = world.airflow.log(PROJECT, run["run_id"], "default.kfp")
    assert "Wrote executor output file" in log
