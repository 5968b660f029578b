"""What tests of images and releases share: a run's context, a registry and a Gate that answer over HTTP in memory."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import httpx
import respx

from mlfleet.clients.container_registry import DOCKER_MANIFEST, sha256_digest

REGISTRY, GATE = "registry.test:5000", "gate.test:8084"
REPO, APP, PIPELINE = "ml/churn", "churn", "deploy-model"
TRIGGER = {"type": "docker", "enabled": True, "account": "reg", "repository": REPO, "tag": "^release-.*$"}


class Store(dict[str, Any]):
    """Airflow's task state store, JSON included; survives tries and clears."""

    def set(self, key: str, value: Any, *, retention: Any = None) -> None:
        self[key] = json.loads(json.dumps(value))

    def delete(self, key: str) -> None:
        self.pop(key, None)


@dataclass
class Run:
    """One task instance of one DAG run; `results` is what earlier tasks handed on, `pushed` what this one pushed."""

    results: dict[str, Any] = field(default_factory=dict)
    run_type: str = "scheduled"
    max_tries: int = 1
    store: Store = field(default_factory=Store)
    pushed: dict[str, Any] = field(default_factory=dict)
    upstream: Mapping[str, set[str]] = field(default_factory=dict)
    task_id: str = "release"
    end: datetime = datetime(2026, 11, 10, 3, tzinfo=UTC)
    run_id: str = "scheduled__1"
    # Of assets, by the asset; runs of one project share it.
    asset_state: dict[Any, Store] = field(default_factory=dict)

    def context(self) -> Any:
        end = self.end
        ti = SimpleNamespace(
            dag_id="churn",
            run_id=self.run_id,
            task_id=self.task_id,
            map_index=-1,
            max_tries=self.max_tries,
            try_number=1,
            xcom_push=lambda key, value: self.pushed.update({key: json.loads(json.dumps(value))}),
            xcom_pull=lambda task_ids, key="return_value": self.results.get(task_ids),
        )
        run = SimpleNamespace(
            dag_id="churn",
            run_id=self.run_id,
            run_type=self.run_type,
            run_after=end,
            data_interval_start=end - timedelta(days=1),
            data_interval_end=end,
        )
        tasks = {name: SimpleNamespace(task_id=name, upstream_task_ids=set(up)) for name, up in self.upstream.items()}
        dag = SimpleNamespace(task_dict=tasks, fileloc="", timezone=UTC)
        return {"ti": ti, "task_instance": ti, "dag_run": run, "dag": dag, "task_state_store": self.store,
                "asset_state_store": self.asset_state}  # fmt: skip

    def cleared(self) -> Run:
        """The same task after a person cleared it."""
        self.max_tries += 1
        return self


@dataclass
class FakeRegistry:
    """Manifests and blobs of a registry; `puts` lists what was put, `broken` answers instead when it is set."""

    manifests: dict[tuple[str, str], bytes] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)
    puts: list[str] = field(default_factory=list)
    broken: httpx.Response | Exception | None = None

    def add_image(self, repository: str, tag: str, labels: Mapping[str, str]) -> str:
        config = json.dumps({"config": {"Labels": dict(labels)}}).encode()
        self.blobs[sha256_digest(config)] = config
        body = json.dumps({"schemaVersion": 2, "config": {"digest": sha256_digest(config)}, "layers": []}).encode()
        self._keep(repository, tag, body)
        return sha256_digest(body)

    def tags(self, repository: str) -> list[str]:
        return [name for place, name in self.manifests if place == repository and ":" not in name]

    def answer(self, request: httpx.Request) -> httpx.Response:
        if isinstance(self.broken, Exception):
            raise self.broken
        if self.broken is not None:
            return self.broken
        blob = re.fullmatch(r"/v2/(.+)/blobs/(sha256:\w+)", request.url.path)
        if blob:
            content = self.blobs.get(blob[2])
            return httpx.Response(200, content=content) if content else httpx.Response(404)
        found = re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", request.url.path)
        if not found:
            return httpx.Response(404)
        repository, reference = found.groups()
        if request.method == "PUT":
            self.puts.append(f"{repository}:{reference}")
            digest = self._keep(repository, reference, request.content)
            return httpx.Response(201, headers={"Docker-Content-Digest": digest})
        body = self.manifests.get((repository, reference))
        if body is None:
            return httpx.Response(404, json={"errors": [{"code": "MANIFEST_UNKNOWN", "message": "manifest unknown"}]})
        headers = {"Docker-Content-Digest": sha256_digest(body), "Content-Type": DOCKER_MANIFEST}
        return httpx.Response(200, headers=headers, content=b"" if request.method == "HEAD" else body)

    def _keep(self, repository: str, reference: str, body: bytes) -> str:
        digest = sha256_digest(body)
        self.manifests[repository, reference] = self.manifests[repository, digest] = body
        return digest


@dataclass
class FakeGate:
    """Pipeline configurations by (application, name), the executions of all; `broken` answers instead when set."""

    pipelines: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    executions: list[dict[str, Any]] = field(default_factory=list)
    broken: httpx.Response | None = None

    def answer(self, request: httpx.Request) -> httpx.Response:
        if self.broken is not None:
            return self.broken
        if request.url.path == "/executions":
            wanted = request.url.params["pipelineConfigIds"].split(",")
            found = [each for each in self.executions if each["pipelineConfigId"] in wanted]
            return httpx.Response(200, json=found[: int(request.url.params.get("limit", 1))])
        found = re.fullmatch(r"/applications/([^/]+)/pipelineConfigs/([^/]+)", request.url.path)
        config = self.pipelines.get((found[1], found[2])) if found else None
        return httpx.Response(200, json=config) if config else httpx.Response(404, json={"message": "not found"})


@contextmanager
def network(registry: FakeRegistry, gate: FakeGate | None = None) -> Iterator[None]:
    """Every request to the two hosts is answered in memory; any other is an error."""
    with respx.mock(assert_all_called=False) as router:
        router.route(host="registry.test").mock(side_effect=registry.answer)
        router.route(host="gate.test").mock(side_effect=(gate or FakeGate()).answer)
        yield


def connections() -> dict[str, str]:
    """Environment variables that hold the Airflow connections."""
    return {
        "AIRFLOW_CONN_CONTAINER_REGISTRY_DEFAULT": _connection("container_registry", REGISTRY),
        "AIRFLOW_CONN_SPINNAKER_DEFAULT": _connection("spinnaker", GATE),
    }


def _connection(conn_type: str, address: str) -> str:
    host, _, port = address.partition(":")
    return json.dumps({"conn_type": conn_type, "schema": "http", "host": host, "port": int(port)})
