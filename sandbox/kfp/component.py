"""Runs one component as a pod would: judged here, executed by `launcher` in a child of the fork server."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sandbox.kfp import pip_line
from sandbox.kfp.forkserver import Child, ForkServer, ForkServerError
from sandbox.polyaxon.agent.proc import kill_all_with_environment, with_environment

Artifact = dict[str, Any]
# Every process of a component inherits these, also those that leave its process group.
STATE_MARK, TASK_MARK = "MLFLEET_KFP_STATE", "MLFLEET_KFP_TASK"
GRACE = 3.0  # seconds between SIGTERM and SIGKILL


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


@dataclass(frozen=True)
class Launch:
    """A job as the child gets it: its ``command`` without the pip line, and all its environment ``variables``.

    ``folder`` is where its output artifacts go.
    """

    job: Job
    command: list[str]
    folder: Path
    variables: dict[str, str]


def execute(job: Job, forkserver: ForkServer, stopped: Callable[[], bool]) -> Values:
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
    # The launcher's folders are <root>/<task>/<random>/<artifact>.
    folder = _local_path(job.root) / job.task / str(uuid.uuid4())
    shutil.rmtree(job.state, ignore_errors=True)  # of an earlier attempt
    job.state.mkdir(parents=True)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = tempfile.mkdtemp(dir=job.temporary)  # short: names of sockets go into such folders
    try:
        return _launched(Launch(job, command, folder, _variables(job, temporary)), forkserver, stopped)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _local_path(uri: str) -> Path:
    parts = urlsplit(uri)
    if parts.scheme not in ("", "file"):
        raise UnsupportedError(f"the sandbox keeps artifacts in local folders only, not in {parts.scheme}://")
    return Path(parts.path)


def _variables(job: Job, temporary: str) -> dict[str, str]:
    env = job.executor["container"].get("env", [])
    return {
        **os.environ, "PYTHONUNBUFFERED": "1", "TMPDIR": temporary,
        # The interpreter that `pip_line` judged, and that nobody may change.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        "PIP_NO_INDEX": "1", **{entry["name"]: entry["value"] for entry in env}, **job.marks,
    }  # fmt: skip


def _launched(launch: Launch, forkserver: ForkServer, stopped: Callable[[], bool]) -> Values:
    task, mark = launch.job.task, launch.job.marks[TASK_MARK]
    try:
        child = forkserver.start(launch)
        try:
            while not child.answered(0.2):
                if stopped():
                    _stop(child, mark)
                    break
            outputs: Values = child.answer()
            return outputs
        finally:
            child.end()
            # What a component leaves behind dies with its pod.
            kill_all_with_environment(TASK_MARK, mark)
    except ForkServerError as error:
        raise ComponentError(f"task {task} was ended: {error}") from error


def _stop(child: Child, mark: str) -> None:
    """SIGTERM to the component's group, and SIGKILL to all that is left of it after a while."""
    child.terminate()
    deadline = time.monotonic() + GRACE
    while time.monotonic() < deadline and with_environment(TASK_MARK, mark):
        time.sleep(0.1)
    kill_all_with_environment(TASK_MARK, mark)
    if not child.answered(0.5):  # not even started
        raise ComponentError("the run was terminated")


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
