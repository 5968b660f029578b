"""The Spinnaker stand-in for tests: real registry, real servers, pipelines written by the test, a small REST driver."""

from __future__ import annotations

import base64
import contextlib
import json
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import SERVICES_PYTHON, Service, free_port, start_service, wait_for

DONE = {"SUCCEEDED", "TERMINAL", "CANCELED", "STOPPED"}
ACCOUNT = "sandbox-registry"


@contextlib.contextmanager
def start_registry(folder: Path) -> Iterator[str]:
    """docker-registry; gives host:port."""
    port = free_port()
    command: list[str | Path] = [
        SERVICES_PYTHON,
        "-m",
        "sandbox.registry",
        "--port",
        str(port),
        "--state",
        folder / "registry",
    ]
    with start_service(command, port, "/v2/", folder / "registry.log"):
        yield f"127.0.0.1:{port}"


@dataclass
class Spinnaker:
    """A stand-in over `folder` that can be ended and started again with its state."""

    folder: Path
    registry: str
    port: int = field(default_factory=free_port)
    serving_port: int = field(default_factory=free_port)
    environment: dict[str, str] = field(default_factory=dict)
    service: Service | None = None
    _stack: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def __post_init__(self) -> None:
        self.pipelines = self.folder / "pipelines"
        self.pipelines.mkdir(parents=True, exist_ok=True)
        self.http = httpx.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20, trust_env=False)
        self.serving = httpx.Client(base_url=f"http://127.0.0.1:{self.serving_port}", timeout=20, trust_env=False)

    def start(self) -> None:
        command: list[str | Path] = [
            SERVICES_PYTHON, "-m", "sandbox.spinnaker", "--port", str(self.port), "--state", self.folder / "state",
            "--registry", self.registry, "--pipelines", self.pipelines, "--serving-port", str(self.serving_port),
            "--poll-interval", "0.2",
        ]  # fmt: skip
        log = self.folder / "spinnaker.log"
        running = start_service(command, self.port, "/health", log, env=self.environment)
        self.service = self._stack.enter_context(running)

    def stop(self) -> None:
        """SIGTERM; asserts that it leaves nothing behind."""
        self.service = None
        self._stack.close()

    def close(self) -> None:
        self.http.close()
        self.serving.close()
        self.stop()

    def pipeline(self, application: str, name: str, stages: list[dict[str, Any]], **more: Any) -> None:
        """Writes a pipeline; a `tag` makes a docker trigger for the repository `ml/<application>`."""
        tag = more.pop("tag", None)
        trigger = {"type": "docker", "enabled": True, "account": ACCOUNT, "organization": "ml", "registry": "",
                   "repository": f"ml/{application}", "tag": tag, **more.pop("trigger", {})}  # fmt: skip
        config = {
            "id": f"{application}-{name}-id", "application": application, "name": name, "limitConcurrent": True,
            "keepWaitingPipelines": False, "triggers": [trigger] if tag else [], "stages": stages, **more,
        }  # fmt: skip
        (self.pipelines / f"{application}.{name}.json").write_text(json.dumps(config))

    def switch(self, **values: Any) -> None:
        self.http.post("/sandbox/switches", json=values).raise_for_status()

    def begin(self, application: str, name: str, **body: Any) -> str:
        """Starts a pipeline the old way; gives the execution's id."""
        answer = self.http.post(f"/pipelines/{application}/{name}", json={"type": "manual", **body})
        assert answer.status_code == 202, answer.text
        return str(answer.json()["ref"].rpartition("/")[2])

    def execution(self, execution_id: str) -> dict[str, Any]:
        return dict(self.http.get(f"/pipelines/{execution_id}").raise_for_status().json())

    def wait(self, execution_id: str, *statuses: str, timeout: float = 30) -> dict[str, Any]:
        """The execution once it has one of the statuses (default: any final one)."""
        wanted = set(statuses) or DONE

        def probe() -> dict[str, Any] | None:
            execution = self.execution(execution_id)
            return execution if execution["status"] in wanted else None

        return wait_for(probe, f"execution {execution_id} to be {sorted(wanted)}", timeout)

    def search(self, application: str, tag: str | None = None, **params: Any) -> list[dict[str, Any]]:
        if tag is not None:
            params["trigger"] = base64.b64encode(json.dumps({"tag": f"\\Q{tag}\\E"}).encode()).decode()
        answer = self.http.get(f"/applications/{application}/executions/search", params={"size": 50, **params})
        return list(answer.raise_for_status().json())

    def fired(self, application: str, tag: str, timeout: float = 30) -> dict[str, Any]:
        """The finished execution that a pushed tag started."""
        found = wait_for(lambda: self.search(application, tag), f"{tag} of {application} to start something", timeout)
        return self.wait(found[0]["id"], timeout=timeout)

    def production(self, application: str) -> dict[str, Any] | None:
        found = self.http.get("/sandbox/production").raise_for_status().json().get(application)
        return dict(found) if found else None

    def predict(self, application: str, *items: float) -> list[float]:
        answer = self.serving.post(f"/{application}/predict", json={"items": items})
        return list(answer.raise_for_status().json()["predictions"])

    def seen(self, tag: str) -> None:
        """Waits until igor has looked at everything that was pushed before: a tag that fires nothing can't be seen."""
        assert self.service is not None
        wait_for(lambda: tag in self.known_tags(), f"igor to see {tag}")

    def known_tags(self) -> list[str]:
        with contextlib.closing(sqlite3.connect(self.folder / "state" / "spinnaker.db")) as db:
            row = db.execute("SELECT body FROM vals WHERE name = 'igor.seen'").fetchone()
        return [key.rpartition(":")[2] for key in json.loads(row[0])] if row else []


def stage(kind: str, ref: str = "1", *after: str, **context: Any) -> dict[str, Any]:
    """A stage of a pipeline; its name is its type."""
    return {"refId": ref, "type": kind, "name": kind, "requisiteStageRefIds": list(after), **context}


def statuses(execution: dict[str, Any]) -> dict[str, str]:
    """Status of every stage by its name."""
    return {each["name"]: each["status"] for each in execution["stages"]}


def image_artifact(registry: str, repository: str, version: str) -> dict[str, Any]:
    """An artifact as a manual start gives it; `version` is a tag or a digest."""
    name = f"{registry}/{repository}"
    joined = f"{name}@{version}" if version.startswith("sha256:") else f"{name}:{version}"
    return {"type": "docker/image", "name": name, "version": version, "reference": joined}
