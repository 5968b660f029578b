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

Artifact = dict[str, Any]


class ComponentError(Exception):
    """The component did not succeed, or can't be run here; the text is the task's error."""


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
    """One execution: where it belongs, what it gets, where its log and its artifacts go."""

    pipeline: str
    run_id: str
    task: str
    component: dict[str, Any]
    executor: dict[str, Any]
    inputs: Values
    root: str
    log: Path
    state: Path


def local_path(uri: str) -> Path:
    """The path of a local URI; raises ComponentError for any other store."""
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise ComponentError(f"the sandbox keeps artifacts in local folders only, not in {parts.scheme}://")
    return Path(parts.path)


def execute(job: Job, started: Callable[[subprocess.Popen[bytes]], None]) -> Values:
    """Runs the component to its end and returns its outputs; ``started`` gets the process, so that it can be killed.

    Raises ComponentError when it fails or can't be run here.
    """
    container = job.executor.get("container")
    if container is None:
        return _import_artifact(job)
    command = [*container.get("command", []), *container.get("args", [])]
    if not any("kfp.dsl.executor_main" in word for word in command):
        raise ComponentError(
            f"task {job.task} is a container component, which the sandbox can't run: it has no containers"
        )
    folder = local_path(job.root) / job.task / str(uuid.uuid4())
    output_file = job.state / "executor_output.json"
    job.state.mkdir(parents=True, exist_ok=True)
    output_file.unlink(missing_ok=True)
    executor_input = _executor_input(job, folder, output_file)
    words = _resolved(command, executor_input, job)
    code = _run(words, container.get("env", []), job, started)
    if code != 0:
        last = [line for line in job.log.read_text(errors="replace").splitlines() if line.strip()][-1:]
        raise ComponentError(f"task {job.task} ended with exit code {code}{': ' + last[0] if last else ''}")
    return _outputs(job, executor_input, output_file)


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
    from kfp.local import placeholder_utils

    words: list[str] = placeholder_utils.replace_placeholders(
        full_command=command,
        executor_input_dict=executor_input,
        pipeline_resource_name=job.pipeline,
        task_resource_name=job.task,
        pipeline_root=job.root,
        unique_pipeline_id=job.run_id,
    )
    return words


def _run(
    words: list[str], env: list[dict[str, str]], job: Job, started: Callable[[subprocess.Popen[bytes]], None]
) -> int:
    variables = {**os.environ, "PYTHONUNBUFFERED": "1", **{entry["name"]: entry["value"] for entry in env}}
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=variables, cwd=job.state,
            start_new_session=True,
        )  # fmt: skip
        started(process)
        return process.wait()


def kill(process: subprocess.Popen[bytes]) -> None:
    """Ends the component's whole process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _outputs(job: Job, executor_input: dict[str, Any], output_file: Path) -> Values:
    said = json.loads(output_file.read_text()) if output_file.exists() else {}
    parameters = dict(said.get("parameterValues", {}))
    for name, place in executor_input["outputs"]["parameters"].items():
        file = Path(place["outputFile"])
        if name not in parameters and file.exists():
            parameters[name] = _decoded(file.read_text())
    artifacts = {name: found["artifacts"] for name, found in executor_input["outputs"]["artifacts"].items()}
    artifacts |= {name: found["artifacts"] for name, found in said.get("artifacts", {}).items()}
    return Values(parameters, artifacts)


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _import_artifact(job: Job) -> Values:
    importer = job.executor.get("importer")
    if importer is None:
        raise ComponentError(
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
