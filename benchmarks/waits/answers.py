"""Answers of the pretended server, made once: a request only fills job numbers in.

Sizes follow the real ones: KFP's lists and its GET give the whole run with the pipeline's spec (6 KB for three steps),
Gate gives an execution of two stages with their contexts (5 to 8 KB), 1.5 KB without them (``expand=false``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

JOB, GROUP = "@@job@@", "@@group@@"
RUN_ID = f"5eed0000-0000-4000-8000-{JOB}"
EXECUTION_ID = f"01WAITING00000{JOB}"
APPLICATION, PIPELINE = f"fleet-{GROUP}", "deploy"
REPOSITORY, TAG = f"models/fleet-{GROUP}", f"release-{JOB}"
DIGEST = "sha256:" + "5eed" * 16
GROUPS = 30
# An hour ago: old enough for every adaptive interval to have reached its end.
BORN = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=1)
# Build times differ by a millisecond from job to job; the number stands where a number must stand in JSON.
BUILT = '"@@built@@"'
BORN_MS = int(BORN.timestamp()) * 1000


def fill(text: str, job: int) -> str:
    """``text`` with the numbers of one job in it."""
    return text.replace(JOB, f"{job:012d}").replace(GROUP, f"{job % GROUPS:03d}")


def job_of(text: str) -> int:
    """The number in a run id, an execution id or a tag."""
    return int(text[-12:])


def built(job: int) -> int:
    """When the job's execution was built, in epoch milliseconds."""
    return BORN_MS + job


class Row:
    """One kind of answer, as bytes with holes."""

    def __init__(self, value: dict[str, Any]) -> None:
        self._text = json.dumps(value).encode()

    def __len__(self) -> int:
        return len(self.of(0))

    def of(self, job: int) -> bytes:
        filled = self._text.replace(JOB.encode(), b"%012d" % job).replace(BUILT.encode(), b"%d" % built(job))
        return filled.replace(GROUP.encode(), b"%03d" % (job % GROUPS))


def listed(rows: Iterable[bytes]) -> bytes:
    return b"[" + b",".join(rows) + b"]"


def kfp_run(state: str) -> dict[str, Any]:
    """A run of three steps, started from a spec, as GET /runs and GET /runs/{id} show it."""
    began, ended = BORN.isoformat(), (BORN + timedelta(minutes=50)).isoformat()
    final = state == "SUCCEEDED"
    steps = ["prepare-data", "train-model", "evaluate-model"]
    tasks = [
        {
            "run_id": RUN_ID, "task_id": f"task-{JOB}-{number}", "display_name": step, "create_time": began,
            "start_time": began, "end_time": ended, "state": "SUCCEEDED" if final or number < 2 else state,
            "pod_name": f"waiting-{JOB}-{step}", "execution_id": "0",
            "state_history": [{"update_time": began, "state": "RUNNING"}, {"update_time": ended, "state": state}],
        }
        for number, step in enumerate(steps)
    ]  # fmt: skip
    return {
        "experiment_id": "5eed0000-1111-4000-8000-000000000000", "run_id": RUN_ID, "display_name": f"waiting-{JOB}",
        "storage_state": "AVAILABLE", "description": json.dumps({"mlfleet_key": f"key-{JOB}", "task": "waiting/train"}),
        "pipeline_spec": _pipeline_spec(steps), "service_account": "pipeline-runner", "created_at": began,
        "runtime_config": {"parameters": {"rows": 1000, "date": "2026-01-01"}, "pipeline_root": "s3://bucket/root"},
        "scheduled_at": began, "finished_at": ended if final else "1970-01-01T00:00:00Z", "state": state,
        "run_details": {"task_details": tasks},
        "state_history": [{"update_time": began, "state": "RUNNING"}, {"update_time": ended, "state": state}],
    }  # fmt: skip


def _pipeline_spec(steps: list[str]) -> dict[str, Any]:
    body = "\n".join(f"    values[{line}] = rows.where(rows.column_{line} > 0).mean()" for line in range(10))
    executors = {
        f"exec-{step}": {
            "container": {
                "image": "registry.example/team/training:1.0",
                "command": ["sh", "-c", "python3 -m kfp.dsl.executor_main", f"def step(rows, values):\n{body}\n"],
                "args": ["--executor_input", "{{$}}", "--function_to_execute", step.replace("-", "_")],
                "resources": {"cpuLimit": 2.0, "memoryLimit": 4.0},
            }
        }
        for step in steps
    }
    parameters = {"rows": {"parameterType": "NUMBER_INTEGER"}, "date": {"parameterType": "STRING"}}
    components = {
        f"comp-{step}": {"executorLabel": f"exec-{step}", "inputDefinitions": {"parameters": parameters}}
        for step in steps
    }
    tasks = {
        step: {"componentRef": {"name": f"comp-{step}"}, "taskInfo": {"name": step}, "cachingOptions": {}}
        for step in steps
    }
    root = {"dag": {"tasks": tasks}, "inputDefinitions": {"parameters": parameters}}
    return {"components": components, "deploymentSpec": {"executors": executors}, "root": root,
            "pipelineInfo": {"name": "waiting"}, "schemaVersion": "2.1.0", "sdkVersion": "kfp-2.16.1"}  # fmt: skip


def execution(status: str, *, expand: bool) -> dict[str, Any]:
    """An execution that rolls the job's image out and checks it; with proof in it when it succeeded."""
    reference = f"registry.example/{REPOSITORY}:{TAG}@{DIGEST}"
    artifact = {"type": "docker/image", "name": f"registry.example/{REPOSITORY}", "version": TAG,
                "reference": reference}  # fmt: skip
    succeeded = status == "SUCCEEDED"
    found = {"outputs.boundArtifacts": [artifact], "outputs.manifests": [_manifest(reference)]} if succeeded else {}
    context = {"account": "production", "manifests": [_manifest(reference)], "moniker": {"app": APPLICATION}, **found}
    stages = [
        _stage("1", "deployManifest", "Deploy", status, context, found, expand=expand),
        _stage("2", "wait", "Settle", status if succeeded else "NOT_STARTED", {"waitTime": 30}, {}, expand=expand),
    ]
    return {
        "id": EXECUTION_ID, "type": "PIPELINE", "application": APPLICATION, "name": PIPELINE, "status": status,
        "buildTime": json.loads(BUILT), "startTime": BORN_MS, "endTime": BORN_MS + 3_000_000 if succeeded else None,
        "canceled": False, "limitConcurrent": False, "keepWaitingPipelines": True, "pipelineConfigId": f"config-{GROUP}",
        "trigger": {"type": "docker", "account": "registry", "registry": "registry.example", "repository": REPOSITORY,
                    "tag": TAG, "artifacts": [artifact], "user": "anonymous", "parameters": {}, "enabled": True},
        "stages": stages, "authentication": {"user": "anonymous", "allowedAccounts": ["production", "registry"]},
        "origin": "api", "notifications": [], "initialConfig": {}, "systemNotifications": [],
    }  # fmt: skip


def _stage(
    ref: str, kind: str, name: str, status: str, context: dict[str, Any], outputs: dict[str, Any], *, expand: bool
) -> dict[str, Any]:
    tasks = [
        {"id": str(number), "name": each, "implementingClass": f"com.netflix.spinnaker.orca.tasks.{each}Task",
         "status": status, "startTime": BORN_MS, "endTime": BORN_MS + 1000, "loopEnd": False, "loopStart": False}
        for number, each in enumerate(["ResolveManifests", "Deploy", "MonitorManifest", "WaitForStable", "Promote"])
    ]  # fmt: skip
    return {
        "id": f"01STAGE{ref}{JOB}", "refId": ref, "type": kind, "name": name, "status": status, "startTime": BORN_MS,
        "endTime": None, "requisiteStageRefIds": [] if ref == "1" else ["1"], "parentStageId": None,
        "context": context if expand else {}, "outputs": outputs if expand else {}, "tasks": tasks if expand else [],
    }  # fmt: skip


def _manifest(reference: str) -> dict[str, Any]:
    env = [{"name": f"SETTING_{number}", "value": f"value-of-setting-{number}"} for number in range(12)]
    container = {"name": "model", "image": reference, "env": env, "ports": [{"containerPort": 8080}],
                 "resources": {"limits": {"cpu": "2", "memory": "4Gi"}}}  # fmt: skip
    labels = {"app.kubernetes.io/name": APPLICATION, "app.kubernetes.io/managed-by": "spinnaker"}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": APPLICATION, "labels": labels},
            "spec": {"replicas": 3, "template": {"metadata": {"labels": labels},
                     "spec": {"containers": [container]}}}}  # fmt: skip
