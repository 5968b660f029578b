"""A KFP sandbox for tests: its server, which can be stopped, killed and started again, and the official clients."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import kfp
import kfp_server_api

from tests.support.kfp_pipelines import compiled
from tests.support.processes import SERVICES_PYTHON, ProcessId, Service, free_port, identify, start_service, wait_for

# The official client says so each time that one is made.
CLIENT_WARNING = "ignore:This client only works with Kubeflow Pipeline v2.0.0-beta.2 and later versions.:FutureWarning"
# Components run with the first python3 of the path, as they would in an image.
PATH = {"PATH": f"{SERVICES_PYTHON.parent}{os.pathsep}{os.environ['PATH']}"}
ENDED = {"SUCCEEDED", "FAILED"}


@dataclass
class KFPSandbox:
    """The server over `root`/state; `packages` are compiled into `root`."""

    root: Path
    port: int = field(default_factory=free_port)
    service: Service | None = None
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def start(self, **environment: str) -> Service:
        command = [SERVICES_PYTHON, "-m", "sandbox.kfp", "--port", str(self.port), "--state", self.root / "state"]
        started = start_service(command, self.port, "/apis/v2beta1/healthz", self.log_file, env={**PATH, **environment})
        self.service = self._stack.enter_context(started)
        return self.service

    def stop(self) -> None:
        """SIGTERM; asserts that nothing is left."""
        self._stack.close()

    @property
    def log_file(self) -> Path:
        """The server's own log."""
        return self.root / "kfp.log"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self) -> kfp.Client:
        return kfp.Client(host=self.url, namespace="kubeflow")

    @property
    def runs_api(self) -> kfp_server_api.RunServiceApi:
        return kfp_server_api.RunServiceApi(kfp_server_api.ApiClient(kfp_server_api.Configuration(host=self.url)))

    def http(self, method: str, path: str, **options: Any) -> httpx.Response:
        return httpx.request(method, self.url + path, timeout=30, trust_env=False, **options)

    def get(self, path: str, **params: Any) -> dict[str, Any]:
        return dict(self.http("GET", f"/apis/v2beta1/{path}", params=params).raise_for_status().json())

    def start_run(self, pipeline: Any, enable_caching: bool | None = None, **arguments: Any) -> str:
        """Runs the pipeline from its package through the official client; the run's id."""
        package = compiled(pipeline, self.root)
        run = self.client().create_run_from_pipeline_package(
            package, arguments=arguments, run_name=pipeline.name, enable_caching=enable_caching
        )
        return str(run.run_id)

    def wait(self, run_id: str, timeout: float = 60) -> dict[str, Any]:
        """The run's message once it has ended."""

        def probe() -> dict[str, Any] | None:
            run = self.get(f"runs/{run_id}")
            return run if run["state"] in ENDED else None

        return wait_for(probe, f"run {run_id} to end", timeout)

    def run(self, pipeline: Any, enable_caching: bool | None = None, **arguments: Any) -> dict[str, Any]:
        return self.wait(self.start_run(pipeline, enable_caching, **arguments))

    def inside(self, run_id: str) -> dict[str, Any]:
        """What the sandbox itself knows of a run: executions, and its tasks with inputs and outputs."""
        return dict(self.http("GET", f"/sandbox/runs/{run_id}").raise_for_status().json())

    def tasks(self, run_id: str) -> dict[str, dict[str, Any]]:
        """The run's tasks by path."""
        return {task["path"]: task for task in self.inside(run_id)["tasks"]}

    def states(self, run_id: str) -> dict[str, str]:
        return {path: task["state"] for path, task in self.tasks(run_id).items()}

    def log(self, run: dict[str, Any], task: str) -> str:
        """A task's log, asked for with the pod name that the API tells."""
        (detail,) = [each for each in run["run_details"]["task_details"] if each["display_name"] == task]
        (child,) = detail["child_tasks"]
        return self.http("GET", f"/apis/v1alpha1/runs/{run['run_id']}/nodes/{child['pod_name']}/log").text

    def trouble(self, **faults: int) -> None:
        self.http("POST", "/sandbox/faults", json=faults).raise_for_status()


def sleeping_processes(folder: Path) -> list[ProcessId]:
    """The component `sleep` and its two children, once they are there."""
    wait_for((folder / "pids").exists, "the component to sleep")
    found = [identify(int(pid)) for pid in (folder / "pids").read_text().split()]
    assert None not in found
    return [each for each in found if each]
