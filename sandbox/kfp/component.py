"""Runs one component in a child process, as the launcher of a pod would, with kfp.local's own placeholder code."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.polyaxon.agent.proc import kill_all_with_environment

Artifact = dict[str, Any]
Started = Callable[[subprocess.Popen[bytes]], None]
# Every process of a component inherits these, also those that leave its process group.
STATE_MARK, RUN_MARK, TASK_MARK = "MLFLEET_KFP_STATE", "MLFLEET_KFP_RUN", "MLFLEET_KFP_TASK"


class ComponentError(Exception):
    """The component did not succeed; the text is the task's error."""


class UnsupportedError(ComponentError):
    """The stand-in can't run this; the text is one sentence that says what."""


@dataclass(frozen=True)
class Values:
    """Parameters by name (JSON values) and artifacts by name (lists of RuntimeArtifact dicts)."""

    parameters: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, list[Artifact]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Plain data."""
        return {"parameters": self.parameters, "artifacts": self.artifacts}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Values:
        """The opposite."""
        return cls(data["parameters"], data["artifacts"])


@dataclass(frozen=True)
class Job:
    """One execution: where it belongs, what it gets, where its log and its artifacts go.

    ``marks`` are environment variables by which its processes are found; ``state`` is a folder of its own.
    """

    pipeline: str
    run_id: str
    task: str
    component: dict[str, Any]
    executor: dict[str, Any]
    inputs: Values
    root: str
    log: Path
    state: Path
    marks: dict[str, str]


def execute(job: Job, started: Started) -> Values:
    """Runs the component to its end and returns its outputs; ``started`` gets the process, so that it can be killed.

    Raises ComponentError when it fails, UnsupportedError when it can't be run here.
    """
    container = job.executor.get("container")
    if container is None:
        return _import_artifact(job)
    command = [*container.get("command", []), *container.get("args", [])]
    if not any("kfp.dsl.executor_main" in word for word in command):
        raise UnsupportedError(
            f"task {job.task} is a container component, which the sandbox can't run: it has no containers"
        )
    folder = _local_path(job.root) / job.task / str(uuid.uuid4())
    output_file = job.state / "executor_output.json"
    job.state.mkdir(parents=True, exist_ok=True)
    output_file.unlink(missing_ok=True)
    executor_input = _executor_input(job, folder, output_file)
    code = _run(_resolved(command, executor_input, job), container.get("env", []), job, started)
    if code != 0:
        last = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        raise ComponentError(f"task {job.task} ended with exit code {code}{': ' + last[0] if last else ''}")
    return _outputs(job, executor_input, output_file)


def _local_path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise UnsupportedError(f"the sandbox keeps artifacts in local folders only, not in {parts.scheme}://")
    return Path(parts.path)


def _executor_input(job: Job, folder: Path, output_file: Path) -> dict[str, Any]:
    """The ExecutorInput message: the launcher's folders are <root>/<task>/<random>/<artifact>."""
    outputs = job.component.get("outputDefinitions", {})
    artifacts = {}
    folder.mkdir(parents=True, exist_ok=True)
    for name, definition in outputs.get("artifacts", {}).items():
        artifacts[name] = {"artifacts": [{
            "name": name, "type": definition.get("artifactType", {}), "uri": str(folder / name), "metadata": {},
        }]}  # fmt: skip
    inputs = job.inputs
    return {
        "inputs": {
            "parameterValues": inputs.parameters,
            "artifacts": {name: {"artifacts": found} for name, found in inputs.artifacts.items()},
        },
        "outputs": {
            "parameters": {name: {"outputFile": str(job.state / name)} for name in outputs.get("parameters", {})},
            "artifacts": artifacts,
            "outputFile": str(output_file),
        },
    }


def _resolved(command: list[str], executor_input: dict[str, Any], job: Job) -> list[str]:
    from kfp.local import placeholder_utils  # seconds to import, and not every server runs something

    words: list[str] = placeholder_utils.replace_placeholders(
        full_command=command,
        executor_input_dict=executor_input,
        pipeline_resource_name=job.pipeline,
        task_resource_name=job.task,
        pipeline_root=job.root,
        unique_pipeline_id=job.run_id,
    )
    return words


def _run(words: list[str], env: list[dict[str, str]], job: Job, started: Started) -> int:
    variables = {**os.environ, "PYTHONUNBUFFERED": "1", **{entry["name"]: entry["value"] for entry in env}}
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env={**variables, **job.marks},
            cwd=job.state, start_new_session=True,
        )  # fmt: skip
        started(process)
        code = process.wait()
    # What a component leaves behind dies with its pod.
    kill_all_with_environment(TASK_MARK, job.marks[TASK_MARK])
    return code


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the component's process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _outputs(job: Job, executor_input: dict[str, Any], output_file: Path) -> Values:
    said = json.loads(output_file.read_text()) if output_file.exists() else {}
    parameters = dict(said.get("parameterValues", {}))
    for name, place in executor_input["outputs"]["parameters"].items():
        file = Path(place["outputFile"])
        if name not in parameters and file.exists():
            kind = job.component["outputDefinitions"]["parameters"][name].get("parameterType")
            parameters[name] = file.read_text() if kind == "STRING" else json.loads(file.read_text())
    artifacts = {name: found["artifacts"] for name, found in executor_input["outputs"]["artifacts"].items()}
    for name, found in said.get("artifacts", {}).items():
        # The component tells uri and metadata; what it leaves out, the type, stays as it was asked for.
        planned = artifacts.get(name) or [{}]
        artifacts[name] = [{**planned[0], **each} for each in found["artifacts"]]
    return Values(parameters, artifacts)


def _import_artifact(job: Job) -> Values:
    importer = job.executor.get("importer")
    if importer is None:
        raise UnsupportedError(
            f"task {job.task} has an executor that the sandbox does not know: {', '.join(job.executor)}"
        )
    uri = importer["artifactUri"]
    value = uri["constant"] if "constant" in uri else job.inputs.parameters[uri["runtimeParameter"]]
    artifact = {
        "name": "artifact",
        "type": importer["typeSchema"],
        "uri": value,
        "metadata": importer.get("metadata", {}),
    }
    return Values({}, {"artifact": [artifact]})
