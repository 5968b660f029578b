"""From `training.polyaxon` to what its task is told."""

from __future__ import annotations

from typing import Any

import pytest

from mlfleet.manifest.document import parse
from mlfleet.manifest.environments import Environment
from mlfleet.manifest.models import Project
from mlfleet.manifest.training import Matrix
from mlfleet.systems.polyaxon_training import matrix_of, settings_of
from tests.unit.factory.conftest import dag_of
from tests.unit.manifest.samples import FULL, MINIMAL

SPOT = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}


def with_polyaxon(more: str) -> str:
    return FULL.replace("    timeout: PT20M\n", f"    timeout: PT20M\n{more}")


def task_of(more: str, experiment: str = "default") -> Any:
    return dag_of(with_polyaxon(more)).get_task(f"{experiment}.polyaxon")


def settings_in(nodes: dict[str, Any], polyaxon: str) -> Any:
    project = Project.model_validate(
        parse(f"{MINIMAL}training: {{polyaxon: {{polyaxonfile: p.yaml, {polyaxon}}}}}", "x").data
    )
    assert project.training is not None
    assert project.training.polyaxon is not None
    environment = Environment.model_validate({"name": "dev", "nodes": nodes})
    return settings_of(environment, project.training.polyaxon, f"include/pipelines/{project.name}")


def test_a_manifest_that_says_nothing_gives_no_settings() -> None:
    assert dag_of(FULL).get_task("default.polyaxon").settings == {}


def test_all_of_it() -> None:
    settings = task_of(
        """\
    image: "${env.base_image}:1"
    resources: {cpu: 4, memory: 16Gi, gpus: 2}
    node_pool: gpu-l4
    preemptible: true
    queue: agent/gpu
    presets: [small]
    connections: [data]
    code: {connection: fleet}
    volumes:
      - {name: cache, path: /cache, claim: training-cache}
      - {name: shm, path: /dev/shm, memory: 2Gi}
      - {name: token, path: /token, secret: kaggle, read_only: true}
      - {name: conf, path: /conf, config_map: train}
"""
    ).settings
    assert settings["image"] == "${env.base_image}:1"
    assert settings["resources"] == {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "2"}
    assert settings["selector"] == {"cloud.google.com/gke-nodepool": "gpu-l4", "cloud.google.com/gke-spot": "true"}
    assert settings["tolerations"] == [SPOT]
    assert (settings["queue"], settings["presets"], settings["connections"]) == ("agent/gpu", ["small"], ["data"])
    assert settings["code"] == {"connection": "fleet", "folder": "fleet"}
    sources = [{key: value for key, value in entry["volume"].items() if key != "name"} for entry in settings["volumes"]]
    assert sources == [
        {"persistentVolumeClaim": {"claimName": "training-cache", "readOnly": False}},
        {"emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}},
        {"secret": {"secretName": "kaggle"}},
        {"configMap": {"name": "train"}},
    ]
    assert settings["volumes"][2]["mount"] == {"name": "token", "mountPath": "/token", "readOnly": True}


def test_what_nodes_are_called_is_up_to_the_environment() -> None:
    nodes = {
        "pools": {"gpu": {"selector": {"pool": "a100"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]}},
        "preemptible": {"selector": {"spot": "yes"}},
        "gpu": "amd.com/gpu",
    }
    settings = settings_in(nodes, "node_pool: gpu, preemptible: true, resources: {gpus: 1}")
    assert settings["selector"] == {"pool": "a100", "spot": "yes"}
    assert settings["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
    assert settings["resources"] == {"amd.com/gpu": "1"}


@pytest.mark.parametrize(
    ("url", "folder"),
    [
        ("https://github.com/acme/fleet.git", "fleet"),
        ("git@github.com:acme/fleet.git", "fleet"),
        ("https://github.com/acme/fleet/", "fleet"),
    ],
)
def test_a_repository_is_cloned_to_a_folder_of_its_name(url: str, folder: str) -> None:
    assert settings_in({}, f'code: {{url: "{url}", revision: main}}')["code"] == {
        "url": url, "revision": "main", "folder": folder,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("code", "context", "expected"),
    [
        ("{connection: fleet}", "", "include/pipelines/prices"),
        ("{connection: fleet}", ", context: include/training", "include/training"),
        ("{connection: fleet}", ", context: .", ""),
        ("{connection: other, revision: main}", "", ""),
    ],
)
def test_the_image_is_built_from_the_projects_folder(code: str, context: str, expected: str) -> None:
    build = settings_in({}, f"code: {code}, build: {{connection: registry{context}}}")["build"]
    assert (build["context"], build["component"]) == (expected, "kaniko")


def test_early_stopping_compares_what_best_by_compares() -> None:
    matrix = task_of("    early_stopping: {value: 300, failed_percent: 50}\n").matrix
    assert matrix["earlyStopping"] == [
        {"kind": "metric_early_stopping", "metric": "mae", "value": 300.0, "optimization": "minimize"},
        {"kind": "failure_early_stopping", "percent": 50},
    ]
    own = task_of("    early_stopping: {value: 0.9, metric: auc, direction: max}\n").matrix["earlyStopping"]
    assert (own[0]["metric"], own[0]["optimization"]) == ("auc", "maximize")


def test_a_search_has_polyaxons_names() -> None:
    every = {field.alias or name: None for name, field in Matrix.model_fields.items()}
    written = {**every, "kind": "bayes", "numRuns": 3, "numInitialRuns": 2, "maxIterations": 4, "seed": 5,
               "utilityFunction": {"acquisitionFunction": "ucb", "kappa": None}, "resource": {"name": "steps"},
               "params": {"depth": {"kind": "choice", "value": [2]}}}  # fmt: skip
    section = Project.model_validate(parse(FULL, "test.yaml").data).training.polyaxon  # type: ignore[union-attr]
    assert section is not None
    found = matrix_of(section.model_copy(update={"matrix": Matrix.model_validate(written)}))
    assert found == {name: value for name, value in written.items() if value is not None}


def test_an_experiment_runs_elsewhere_and_with_another_image() -> None:
    own = (
        "    training: {polyaxon: {image: big:1, resources: {gpus: 4}, node_pool: a100, early_stopping: {value: 1}}}\n"
    )
    text = with_polyaxon("    image: small:1\n    resources: {cpu: 1}\n    queue: slow\n").replace(
        "    params: {segment: cards}\n", f"    params: {{segment: cards}}\n{own}"
    )
    dag = dag_of(text)
    common, cards = dag.get_task("default.polyaxon"), dag.get_task("trading-cards.polyaxon")
    assert common.settings == {"image": "small:1", "resources": {"cpu": "1"}, "queue": "slow"}
    assert cards.settings["image"] == "big:1"
    assert cards.settings["resources"] == {"nvidia.com/gpu": "4"}
    assert cards.settings["queue"] == "slow"
    assert "earlyStopping" not in common.matrix
    assert cards.matrix["earlyStopping"][0]["value"] == 1


def test_a_component_of_the_hub_needs_no_file() -> None:
    text = f"{MINIMAL}training: {{polyaxon: {{component: 'acme/train:1.2'}}}}\n"
    task = dag_of(text).get_task("default.polyaxon")
    assert (task.polyaxonfile, task.component) == (None, "acme/train:1.2")
