"""An Airflow of its own beside the sandbox: settings, connections, the four programs, and its public REST API.

Nothing of mlfleet is imported here; Airflow is told where the sandbox is by environment variables alone, as a real
deployment is.
"""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

from sandbox.services import Service
from sandbox.settings import REPOSITORY, SandboxError, Settings

PROGRAMS = {
    "airflow-api": ("api-server", "--workers", "1"),
    "airflow-scheduler": ("scheduler", "--skip-serve-logs"),
    "airflow-dag-processor": ("dag-processor",),
    "airflow-triggerer": ("triggerer", "--skip-serve-logs"),
}


GIT_CONNECTION = "fleet_repository"


def environment(settings: Settings, base_image: str) -> dict[str, str]:
    """The environment variables of every Airflow program.

    ``base_image`` is the reference of the images' base in the sandbox's registry, as `sandbox.rootfs` pushed it.
    """
    home = settings.state("airflow")
    connections = {
        "POLYAXON_DEFAULT": {"conn_type": "polyaxon", "port": settings.ports["polyaxon"]},
        "KFP_DEFAULT": {"conn_type": "kfp", "port": settings.ports["kfp"]},
        "SPINNAKER_DEFAULT": {
            "conn_type": "spinnaker",
            "port": settings.ports["spinnaker"],
            "extra": {"deck_url": settings.url("spinnaker")},
        },
        "CONTAINER_REGISTRY_DEFAULT": {"conn_type": "container_registry", "port": settings.ports["registry"]},
    }
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(settings.deployment / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPOSITORY / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__PARALLELISM": "4",
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{settings.url('airflow')}/execution/",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(settings.ports["airflow"]),
        "AIRFLOW__API__BASE_URL": settings.url("airflow"),
        "AIRFLOW__API_AUTH__JWT_SECRET": "sandbox-only-secret-on-loopback-of-32-bytes-and-more-and-more-of-them",
        "AIRFLOW__API__SECRET_KEY": "sandbox-only-secret-on-loopback",
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST": json.dumps(_bundles(settings)),
        "AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_STORAGE_PATH": str(home / "bundles"),
        "AIRFLOW__DAG_PROCESSOR__REFRESH_INTERVAL": "10",
        "AIRFLOW__SCHEDULER__SCHEDULER_HEARTBEAT_SEC": "1",
        # A worker can need this long to notice that its deferred task has left; a job that is quicker than that comes
        # back under the eyes of LocalExecutor, which then takes the end of the first half for that of the second.
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "AIRFLOW__LOGGING__BASE_LOG_FOLDER": str(home / "logs"),
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "MLFLEET_ENV": "dev",
        "MLFLEET_DATA_ROOT": str(settings.cache / "data"),
        "MLFLEET_PIPELINE_ROOT": str(settings.state("kfp") / "pipeline-root"),
        "MLFLEET_BASE_IMAGE": base_image,
        "MLFLEET_BUILDAH_ROOT": str(settings.state("buildah")),
        "PATH": f"{settings.venv('airflow')}:{os.environ.get('PATH', os.defpath)}",
        **{
            f"AIRFLOW_CONN_{name}": json.dumps({"host": "127.0.0.1", "schema": "http", **connection})
            for name, connection in connections.items()
        },
        f"AIRFLOW_CONN_{GIT_CONNECTION.upper()}": json.dumps(
            {"conn_type": "git", "host": str(settings.git_deployment or "")}
        ),
    }


def _bundles(settings: Settings) -> list[dict[str, Any]]:
    """Hand-written DAGs, and those of the deployment's manifests."""
    local = "airflow.dag_processing.bundles.local.LocalDagBundle"
    manifests = "mlfleet.bundles.ManifestDagBundle"
    bundles: list[dict[str, Any]] = [
        {"name": "dags-folder", "classpath": local, "kwargs": {}},
        {"name": "projects", "classpath": manifests, "kwargs": {"path": str(settings.deployment)}},
    ]
    if settings.git_deployment:
        git = "airflow.providers.git.bundles.git.GitDagBundle"
        source = {"classpath": git, "kwargs": {"git_conn_id": GIT_CONNECTION, "tracking_ref": "main"}}
        bundles.append({"name": "git-projects", "classpath": manifests, "kwargs": {"source": source}})
    return bundles


def services(settings: Settings, variables: Mapping[str, str]) -> tuple[Service, ...]:
    """The four programs of Airflow; only the API server listens on a port."""
    airflow = str(settings.venv("airflow") / "airflow")
    api = settings.url("airflow")
    return tuple(
        Service(
            name=name,
            command=(airflow, *arguments),
            ports=("airflow",) if name == "airflow-api" else (),
            health=f"{api}/api/v2/version" if name == "airflow-api" else None,
            page=api if name == "airflow-api" else None,
            environment=variables,
            stop_seconds=30,
        )
        for name, arguments in PROGRAMS.items()
    )


def migrate(settings: Settings, variables: Mapping[str, str]) -> None:
    """Makes the metadata database; raises SandboxError with Airflow's own words when it can't."""
    settings.state("airflow").mkdir(parents=True, exist_ok=True)
    ran = subprocess.run(
        [str(settings.venv("airflow") / "airflow"), "db", "migrate"],
        env={**os.environ, **variables}, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    if ran.returncode:
        raise SandboxError(f"airflow db migrate failed:\n{ran.stdout[-1500:]}{ran.stderr[-1500:]}")


_DATABASE_TRIES = 5


class AirflowAPI:
    """The calls that the demo and the tests make; Airflow's public REST API v2.

    Raises SandboxError for an answer that is an error, httpx.HTTPError when there is none.
    """

    def __init__(
        self, base_url: str, timeout: float = 30, transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:  # fmt: skip
        self._client = httpx.Client(base_url=base_url, timeout=timeout, transport=transport)
        self._sleep = sleep

    def close(self) -> None:
        """Closes connections."""
        self._client.close()

    def log_in(self) -> None:
        """Gets a token; the sandbox's SimpleAuthManager makes everybody an admin."""
        token = self._client.get("/auth/token").raise_for_status().json()["access_token"]
        self._client.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, **keywords: Any) -> Any:
        """One call below ``/api/v2``; returns the decoded JSON."""
        answer = self._client.request(method, f"/api/v2{path}", **keywords)
        for _ in range(_DATABASE_TRIES):
            # SQLite is locked by another program of Airflow: the call was rolled back, and may be sent again.
            if not (answer.status_code == 500 and "Database error" in answer.text):
                break
            self._sleep(1.0)
            answer = self._client.request(method, f"/api/v2{path}", **keywords)
        if answer.is_error:
            raise SandboxError(f"Airflow: {method} {path} answered {answer.status_code}: {answer.text[:500]}")
        return answer.json() if answer.content else None

    def healthy(self) -> dict[str, str]:
        """Status of each component: metadatabase, scheduler, triggerer, dag_processor."""
        found = self.call("GET", "/monitor/health")
        return {name: part.get("status") or "missing" for name, part in found.items()}

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """The DAG as the scheduler knows it, or None before it was parsed."""
        answer = self._client.get(f"/api/v2/dags/{dag_id}")
        return answer.json() if answer.is_success else None

    def import_errors(self) -> list[dict[str, Any]]:
        """What did not parse: dicts with ``filename`` and ``stack_trace``."""
        return list(self.call("GET", "/importErrors")["import_errors"])

    def unpause(self, dag_id: str, paused: bool = False) -> None:
        """Lets the scheduler start runs of the DAG, or stops it."""
        self.call("PATCH", f"/dags/{dag_id}", json={"is_paused": paused})

    def trigger(self, dag_id: str, **body: Any) -> str:
        """Starts a run by hand and returns its run id; ``logical_date`` None gives a run without one."""
        body.setdefault("logical_date", None)
        return str(self.call("POST", f"/dags/{dag_id}/dagRuns", json=body)["dag_run_id"])

    def run(self, dag_id: str, run_id: str) -> dict[str, Any]:
        """The DAG run."""
        return dict(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}"))

    def runs(self, dag_id: str) -> list[dict[str, Any]]:
        """All runs of the DAG, oldest first."""
        return list(self.call("GET", f"/dags/{dag_id}/dagRuns", params={"order_by": "run_after"})["dag_runs"])

    def task_instances(self, dag_id: str, run_id: str) -> list[dict[str, Any]]:
        """All task instances of a run."""
        return list(self.call("GET", f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances")["task_instances"])

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value") -> Any:
        """A value that a task left, decoded; None when there is none."""
        answer = self._client.get(f"/api/v2/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}",
                                  params={"deserialize": "true"})  # fmt: skip
        if answer.status_code == httpx.codes.NOT_FOUND:
            return None
        value = answer.raise_for_status().json()["value"]
        return json.loads(value) if isinstance(value, str) and value[:1] in "{[" else value

    def links(self, dag_id: str, run_id: str, task_id: str) -> dict[str, str | None]:
        """The extra links of a task instance: name to URL."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/links"
        return dict(self.call("GET", path)["extra_links"])

    def log(self, dag_id: str, run_id: str, task_id: str) -> str:
        """The logs of all tries of the task, oldest first, as text, one event a line."""
        path = f"/dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        found: list[str] = []
        for number in range(1, self.call("GET", path)["try_number"] + 1):
            answer = self._client.get(f"/api/v2{path}/logs/{number}", params={"full_content": "true"},
                                      headers={"Accept": "application/json"})  # fmt: skip
            # A try that ended before its first line has none.
            if answer.status_code != httpx.codes.NOT_FOUND:
                found += [line for entry in answer.raise_for_status().json()["content"] for line in _lines(entry)]
        return "\n".join(found)


def _lines(entry: Any) -> list[str]:
    """A log entry as text: what was said and, where an exception is told, its type and message."""
    if not isinstance(entry, dict):
        return [str(entry)]
    errors = [f"{error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or []]
    return [str(entry.get("event", "")), *errors]
