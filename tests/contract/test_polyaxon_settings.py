"""What the manifest says of a Polyaxon run, as the real server compiles it and hands it to an agent."""

from __future__ import annotations

import asyncio
import json
import uuid
from typing import Any

import httpx
import pytest

from mlfleet.clients.http import HttpClient
from mlfleet.clients.polyaxon import PolyaxonClient
from mlfleet.errors import SpecError
from mlfleet.remote.job import JobKey, TaskIdentity
from mlfleet.systems.polyaxon import PolyaxonSystem
from mlfleet.systems.polyaxon_operation import as_content, build_operation
from mlfleet.systems.polyaxon_settings import RunSettings
from tests.support.polyaxon import PolyaxonSandbox, job

SPOT = {"key": "spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
SETTINGS: RunSettings = {
    "image": "registry.example.com/ml/train:1.4",
    "resources": {"cpu": "4", "memory": "16Gi", "nvidia.com/gpu": "1"},
    "selector": {"cloud.google.com/gke-spot": "true"},
    "tolerations": [SPOT],
    "volumes": [
        {
            "volume": {"name": "cache", "persistentVolumeClaim": {"claimName": "cache", "readOnly": False}},
            "mount": {"name": "cache", "mountPath": "/cache", "readOnly": False},
        }
    ],
    "queue": "agent/gpu",
    "presets": ["small"],
}


CODE: RunSettings = {"code": {"url": "https://github.com/acme/fleet", "revision": "1" * 40, "folder": "fleet"}}
REPLICAS = {"master": {"replicas": 1, "container": {"command": ["true"]}},
            "worker": {"replicas": 1, "container": {"command": ["true"]}}}  # fmt: skip


def submitted(sandbox: PolyaxonSandbox, component: dict[str, Any], settings: RunSettings) -> dict[str, Any]:
    """The run after the server's compiler and the agent have seen it."""
    operation = build_operation(json.dumps(component), source="polyaxonfile.yaml", settings=settings)
    run = sandbox.wait(sandbox.submit(json.loads(as_content(operation))))
    return {**run, "content": json.loads(run["content"])}


def conditions(sandbox: PolyaxonSandbox, run: dict[str, Any]) -> dict[str, str]:
    return {condition["type"]: condition["message"] for condition in sandbox.conditions(run["uuid"])}


def is_as_asked(pod: dict[str, Any]) -> None:
    container = pod["container"]
    assert container["image"] == "registry.example.com/ml/train:1.4"
    for bound in ("requests", "limits"):
        # The server reads numbers in texts; Kubernetes takes both.
        assert {name: str(amount) for name, amount in container["resources"][bound].items()} == SETTINGS["resources"]
    assert container["volumeMounts"] == [{"name": "cache", "mountPath": "/cache", "readOnly": False}]
    assert pod["volumes"][0]["persistentVolumeClaim"]["claimName"] == "cache"
    # A label that is no text would be refused by Kubernetes.
    assert pod["environment"] == {"nodeSelector": {"cloud.google.com/gke-spot": "true"}, "tolerations": [SPOT]}


def test_the_server_compiles_what_was_asked_for(polyaxon_sandbox: PolyaxonSandbox) -> None:
    run = submitted(polyaxon_sandbox, job("true"), SETTINGS)
    is_as_asked(run["content"]["run"])
    assert (run["content"]["queue"], run["content"]["presets"]) == ("agent/gpu", ["small"])
    assert "queued" in conditions(polyaxon_sandbox, run)


def test_a_distributed_run_is_compiled_for_each_pod(polyaxon_sandbox: PolyaxonSandbox) -> None:
    component = {"version": 1.1, "kind": "component", "run": {"kind": "pytorchjob", **REPLICAS}}
    run = submitted(polyaxon_sandbox, component, SETTINGS)
    for replica in REPLICAS:
        is_as_asked(run["content"]["run"][replica])


def test_the_code_is_cloned_at_the_commit(polyaxon_sandbox: PolyaxonSandbox) -> None:
    """One of digits alone, which the server would take for a number and then refuse."""
    run = submitted(polyaxon_sandbox, job("true"), CODE)
    assert run["content"]["run"]["init"] == [
        {"git": {"url": "https://github.com/acme/fleet", "revision": "1" * 40 + "~0"}}
    ]
    assert "queued" in conditions(polyaxon_sandbox, run)


@pytest.mark.parametrize(
    "settings",
    [{"connections": ["bucket"]}, {"code": {"connection": "fleet", "revision": "c0ffee", "folder": "fleet"}}],
)
def test_a_connection_that_polyaxon_does_not_have_is_named(
    polyaxon_sandbox: PolyaxonSandbox, settings: RunSettings
) -> None:
    failed = conditions(polyaxon_sandbox, submitted(polyaxon_sandbox, job("true"), settings))["failed"]
    assert "not found in the agent.connections catalog" in failed
    assert str(settings.get("connections", ["fleet"])[0]) in failed


def test_the_community_edition_has_no_hub(polyaxon_sandbox: PolyaxonSandbox) -> None:
    """So neither components of it nor a build by one of them: both end as an error of the specification."""
    build: RunSettings = {
        **CODE, "build": {"component": "kaniko", "connection": "registry", "destination": "ml/train:1", "context": ""},
    }  # fmt: skip
    run = submitted(polyaxon_sandbox, job("true"), build)
    assert run["content"]["build"]["params"]["context"] == {"value": "{{ globals.artifacts_path }}/fleet"}
    assert "queued" not in conditions(polyaxon_sandbox, run)

    async def refused() -> None:
        http = HttpClient(polyaxon_sandbox.url, system="polyaxon")
        system = PolyaxonSystem(PolyaxonClient(http), polyaxon_sandbox.project)
        content = as_content(build_operation(source="acme/train:1", settings={"queue": "gpu"}))
        task = TaskIdentity("test", "prices", f"manual__{uuid.uuid4()}", "default.polyaxon")
        try:
            await system.submit(JobKey(task, "1", 0), {"content": content})
        finally:
            await system.aclose()

    with pytest.raises(SpecError, match="reference"):
        asyncio.run(refused())


def test_runs_of_a_commit_are_found(polyaxon_sandbox: PolyaxonSandbox) -> None:
    task, commit = TaskIdentity("test", "prices", f"manual__{uuid.uuid4()}", "default.polyaxon"), uuid.uuid4().hex

    async def submit() -> str:
        http = HttpClient(polyaxon_sandbox.url, system="polyaxon")
        system = PolyaxonSystem(PolyaxonClient(http), polyaxon_sandbox.project)
        try:
            content = as_content(build_operation(json.dumps(job("true")), source="x"))
            return (await system.submit(JobKey(task, "1", 0), {"content": content, "labels": {"commit": commit}})).id
        finally:
            await system.aclose()

    uuid_of_run = asyncio.run(submit())
    path = f"/api/v1/default/{polyaxon_sandbox.project}/runs"
    answer: httpx.Response = polyaxon_sandbox.http.get(path, params={"query": f"meta_info.mlfleet_commit:{commit}"})
    assert [run["uuid"] for run in answer.json()["results"]] == [uuid_of_run]
