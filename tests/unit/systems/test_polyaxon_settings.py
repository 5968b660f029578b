"""What a manifest says of a Polyaxon run, in the places where Polyaxon reads it."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from mlfleet.errors import SpecError
from mlfleet.systems.polyaxon_operation import build_operation
from mlfleet.systems.polyaxon_settings import RunSettings

COMPONENT: dict[str, Any] = {
    "version": 1.1,
    "kind": "component",
    "run": {
        "kind": "job",
        "connections": ["bucket"],
        "environment": {"nodeSelector": {"zone": "a"}},
        "volumes": [{"name": "cache", "emptyDir": {}}],
        "init": [{"file": {"filename": "first.txt", "content": "one"}}],
        "container": {"image": "old:1", "command": ["true"], "resources": {"limits": {"cpu": "1", "example.com/x": 1}}},
    },
}
CODE = {"connection": "fleet", "url": "https://github.com/acme/fleet", "revision": "c0ffee", "folder": "fleet"}


def build(settings: RunSettings, component: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    given = copy.deepcopy(component or COMPONENT)
    operation = build_operation(yaml.safe_dump(given), source="polyaxonfile.yaml", settings=settings, **more)
    assert given == (component or COMPONENT)
    return operation


def run_of(settings: RunSettings, **more: Any) -> dict[str, Any]:
    run: dict[str, Any] = build(settings, **more)["component"]["run"]
    return run


def test_without_settings_the_operation_is_as_it_was() -> None:
    assert build({}) == build_operation(yaml.safe_dump(COMPONENT), source="x")


def test_the_container_gets_image_and_resources() -> None:
    container = run_of({"image": "new:2", "resources": {"cpu": "4", "nvidia.com/gpu": "1"}})["container"]
    assert container["image"] == "new:2"
    assert container["command"] == ["true"]
    assert container["resources"] == {
        "requests": {"cpu": "4", "nvidia.com/gpu": "1"},
        "limits": {"cpu": "4", "nvidia.com/gpu": "1", "example.com/x": 1},
    }


def test_nodes_queue_presets_and_connections_join_those_of_the_file() -> None:
    spot = {"key": "spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    operation = build(
        {"selector": {"pool": "gpu"}, "tolerations": [spot], "connections": ["bucket", "secret"],
         "queue": "agent/gpu", "presets": ["small"]},
    )  # fmt: skip
    assert operation["component"]["run"]["environment"] == {
        "nodeSelector": {"zone": "a", "pool": "gpu"}, "tolerations": [spot],
    }  # fmt: skip
    assert operation["component"]["run"]["connections"] == ["bucket", "secret"]
    assert (operation["queue"], operation["presets"]) == ("agent/gpu", ["small"])


def test_a_volume_takes_the_place_of_one_with_its_name() -> None:
    volume = {"name": "cache", "persistentVolumeClaim": {"claimName": "big"}}
    run = run_of({"volumes": [{"volume": volume, "mount": {"name": "cache", "mountPath": "/cache"}}]})
    assert run["volumes"] == [volume]
    assert run["container"]["volumeMounts"] == [{"name": "cache", "mountPath": "/cache"}]


def test_the_code_is_cloned_before_the_files_are_made() -> None:
    init = run_of({"code": CODE}, files={"train.py": "print(1)\n"})["init"]
    assert init[0] == {"git": {"url": CODE["url"], "revision": "c0ffee"}, "connection": "fleet"}
    assert [step["file"]["filename"] for step in init[1:]] == ["first.txt", "train.py"]


@pytest.mark.parametrize("revision", ["1.4", "1" * 40, "12e4"])
def test_a_revision_that_reads_like_a_number_is_written_in_another_way(revision: str) -> None:
    assert run_of({"code": {**CODE, "revision": revision}})["init"][0]["git"]["revision"] == f"{revision}~0"


def test_a_build_clones_the_same_commit_and_pushes_where_it_is_told() -> None:
    build_of = build(
        {"code": CODE, "build": {"component": "kaniko", "connection": "registry", "destination": "ml/train:1",
                                 "context": "include/pipelines/prices", "params": {"cache": True}}},
    )["build"]  # fmt: skip
    assert build_of == {
        "hubRef": "kaniko",
        "connection": "registry",
        "params": {
            "context": {"value": "{{ globals.artifacts_path }}/fleet/include/pipelines/prices"},
            "destination": {"value": "ml/train:1", "connection": "registry"},
            "cache": {"value": True},
        },
        "runPatch": {"init": [{"git": {"url": CODE["url"], "revision": "c0ffee"}, "connection": "fleet"}]},
    }


def test_a_component_of_the_hub_gets_a_patch() -> None:
    operation = build_operation(source="acme/train:1", settings={"image": "new:2", "selector": {"pool": "gpu"}})
    assert operation["hubRef"] == "acme/train:1"
    assert "component" not in operation
    assert operation["runPatch"] == {"container": {"image": "new:2"}, "environment": {"nodeSelector": {"pool": "gpu"}}}
    assert "runPatch" not in build_operation(source="acme/train:1", settings={"queue": "gpu"})


@pytest.mark.parametrize(
    ("run", "pods"),
    [
        ({"kind": "pytorchjob", "master": {"container": {}}, "worker": {"replicas": 2, "container": {}}},
         [("master",), ("worker",)]),
        ({"kind": "raycluster", "head": {"container": {}}, "workers": {"small": {"container": {}}}},
         [("head",), ("workers", "small")]),
    ],
)  # fmt: skip
def test_every_pod_of_a_distributed_run_gets_them(run: dict[str, Any], pods: list[tuple[str, ...]]) -> None:
    changed = run_of({"image": "new:2", "code": CODE}, component={**COMPONENT, "run": run}, files={"a.txt": "b"})
    for path in pods:
        pod = changed
        for key in path:
            pod = pod[key]
        assert pod["container"]["image"] == "new:2"
        assert len(pod["init"]) == 2
    assert "container" not in changed


@pytest.mark.parametrize(
    ("component", "says"), [({"run": {"kind": "dag", "operations": []}}, "'dag' has no container"), ({}, "no `run`")]
)
def test_a_run_without_a_container_is_refused(component: dict[str, Any], says: str) -> None:
    with pytest.raises(SpecError, match=says):
        build({"image": "new:2"}, {"version": 1.1, "kind": "component", **component})
