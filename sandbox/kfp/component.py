"""Runs one component in a child process, as the launcher of a pod would, with kfp.local's own placeholder code."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.kfp import pip_line
from sandbox.kfp.texts import value_of
from sandbox.polyaxon.agent.proc import kill_all_with_environment, with_environment

Artifact = dict[str, Any]
# Every process of a component inherits these, also those that leave its process group.
STATE_MARK, TASK_MARK = "MLFLEET_KFP_STATE", "MLFLEET_KFP_TASK"
GRACE = 3.0  # seconds between SIGTERM and SIGKILL
_LITERAL = "{{literal$"


class ComponentError(Exception):
    """The component did not succeed; the text is the task's error."""


class UnsupportedError(ComponentError):
    """This can't be run, here or at all, however often it is tried; the text is one sentence that says what."""


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

    ``marks`` are environment variables by which its processes are found; ``state`` is a folder of its own, and its
    temporary files go below ``temporary``.
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
    temporary: Path
    marks: dict[str, str]


def execute(job: Job, stopped: Callable[[], bool]) -> Values:
    """Runs the component to its end and returns its outputs; it is ended before when ``stopped`` becomes true.

    Raises ComponentError when it fails, UnsupportedError when it can't be run here.
    """
    container = job.executor.get("container")
    if container is None:
        return _import_artifact(job)
    command, needed = pip_line.split(container.get("command", []))
    if not any("kfp.dsl.executor_main" in word for word in command):
        raise UnsupportedError(
            f"task {job.task} is a container component, which the sandbox can't run: it has no containers"
        )
    if missing := pip_line.unmet(needed):
        raise UnsupportedError(f"task {job.task} needs a package that the sandbox does not install: {missing}")
    folder = _local_path(job.root) / job.task / str(uuid.uuid4())
    output_file = job.state / "executor_output.json"
    shutil.rmtree(job.state, ignore_errors=True)  # of an earlier attempt
    job.state.mkdir(parents=True)
    executor_input = _executor_input(job, folder, output_file)
    arguments = _resolved(container.get("args", []), executor_input, job)
    code = _run([*command, *arguments], container.get("env", []), job, stopped)
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


def _resolved(arguments: list[str], executor_input: dict[str, Any], job: Job) -> list[str]:
    """The arguments with their placeholders filled in; those in the values are plain text by now and stay."""
    from kfp.local import placeholder_utils  # seconds to import, and not every server runs something

    words: list[str] = placeholder_utils.replace_placeholders(
        full_command=arguments,
        executor_input_dict=json.loads(json.dumps(executor_input).replace("{{$", _LITERAL)),
        pipeline_resource_name=job.pipeline,
        task_resource_name=job.task,
        pipeline_root=job.root,
        unique_pipeline_id=job.run_id,
    )
    return [word.replace(_LITERAL, "{{$") for word in words]


def _run(words: Sequence[str], env: list[dict[str, str]], job: Job, stopped: Callable[[], bool]) -> int:
    temporary = tempfile.mkdtemp(dir=job.temporary)  # short: names of sockets go into such folders
    variables = {
        **os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": temporary,
        # The interpreter that `pip_line` judged, and that nobody may change.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PIP_NO_INDEX": "1", **{entry["name"]: entry["value"] for entry in env}, **job.marks,
    }  # fmt: skip
    try:
        with job.log.open("ab") as log:
            process = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, env=variables, cwd=job.state,
                start_new_session=True,
            )  # fmt: skip
            return _end_of(process, job.marks[TASK_MARK], stopped)
    except OSError as error:
        raise ComponentError(f"task {job.task} could not be started: {error}") from error
    finally:
        # What a component leaves behind dies with its pod.
        kill_all_with_environment(TASK_MARK, job.marks[TASK_MARK])
        shutil.rmtree(temporary, ignore_errors=True)


def _end_of(process: subprocess.Popen[bytes], mark: str, stopped: Callable[[], bool]) -> int:
    """The process's exit code. When it has to stop: SIGTERM to its group, and SIGKILL to all that is left of it."""
    while not stopped():
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.wait(0.2)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and with_environment(TASK_MARK, mark):
        time.sleep(0.1)
    kill_all_with_environment(TASK_MARK, mark)
    return process.wait()


def _outputs(job: Job, executor_input: dict[str, Any], output_file: Path) -> Values:
    """What the component said it made. Raises ComponentError when it left out a parameter, as the launcher does."""
    said = json.loads(output_file.read_text()) if output_file.exists() else {}
    parameters = dict(said.get("parameterValues", {}))
    for name, place in executor_input["outputs"]["parameters"].items():
        if name not in parameters:
            kind = job.component["outputDefinitions"]["parameters"][name].get("parameterType", "STRING")
            try:
                parameters[name] = value_of(Path(place["outputFile"]).read_text(), kind)
            except (OSError, ValueError) as error:
                raise ComponentError(
                    f"task {job.task} gave no output parameter {name} of type {kind}: {error}"
                ) from error
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
