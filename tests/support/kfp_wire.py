"""A KFP server that answers over HTTP in memory, for tests of what stands above the client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_plus

import httpx
import respx

HOST = "kfp.test"
CONNECTION = json.dumps({"conn_type": "kfp", "schema": "http", "host": HOST, "password": "s3cr3t-token-42"})

IR: dict[str, Any] = {
    "pipelineInfo": {"name": "churn"},
    "root": {
        "dag": {"tasks": {}},
        "inputDefinitions": {"parameters": {"depth": {"parameterType": "NUMBER_INTEGER", "defaultValue": 3}}},
    },
    "schemaVersion": "2.1.0",
}


@dataclass
class KFPWire:
    """Runs by id; `requests` is what came; all runs succeed when they were listed `ends_after` times.

    `answers` are given first, one for each list.
    """

    runs: dict[str, dict[str, Any]] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)
    ends_after: int = -1
    answers: list[httpx.Response] = field(default_factory=list)
    # The versions of the one pipeline that there is, ``churn``: names, newest first.
    versions: list[str] = field(default_factory=list)

    def finish(self, state: str = "SUCCEEDED", run_id: str | None = None) -> None:
        for found in [run_id] if run_id else list(self.runs):
            self.runs[found] |= {"state": state, "finished_at": "2026-11-10T04:00:00Z"}

    def calls(self, method: str, path: str) -> list[httpx.Request]:
        return [r for r in self.requests if r.method == method and r.url.path == f"/apis/v2beta1{path}"]

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        path = request.url.path.removeprefix("/apis/v2beta1")
        if path == "/healthz":
            return httpx.Response(200, json={"tag_name": "2.16.1"})
        if path == "/experiments":
            return httpx.Response(200, json={"experiment_id": "e1"} if request.method == "POST" else {})
        if path == "/runs":
            return self._create(request) if request.method == "POST" else self._list(request)
        if path == "/pipelines/names/churn":
            return httpx.Response(200, json={"pipeline_id": "p1", "name": "churn"})
        if path == "/pipelines/p1/versions":
            return self._versions(request)
        found = re.fullmatch(r"/runs/([^/:]+)(:terminate|:retry)?", path)
        if found and found[1] in self.runs:
            if found[2] == ":retry" and self.runs[found[1]]["state"] != "FAILED":
                return httpx.Response(400, json={"code": 3, "message": "Workflow must be Failed/Error to retry"})
            if found[2]:
                self.runs[found[1]]["state"] = "CANCELED" if found[2] == ":terminate" else "RUNNING"
            return httpx.Response(200, json=self.runs[found[1]])
        return httpx.Response(404, json={"code": 5, "message": "not found"})

    def _create(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        self.runs[body["run_id"]] = {**body, "state": "RUNNING", "created_at": "2026-11-10T03:00:00Z"}
        return httpx.Response(200, json=self.runs[body["run_id"]])

    def _versions(self, request: httpx.Request) -> httpx.Response:
        there = [
            {"pipeline_id": "p1", "pipeline_version_id": f"id-{name}", "name": name, "pipeline_spec": IR}
            for name in self.versions
        ]
        return httpx.Response(200, json={"pipeline_versions": [row for row in there if _fits(row, _asked(request))]})

    def _list(self, request: httpx.Request) -> httpx.Response:
        if self.answers:
            return self.answers.pop(0)
        self.ends_after -= 1
        if self.ends_after == 0:
            self.finish()
        return httpx.Response(200, json={"runs": [run for run in self.runs.values() if _fits(run, _asked(request))]})


def _asked(request: httpx.Request) -> list[dict[str, Any]]:
    # The server unescapes the filter once more than HTTP does (list_request_util.go, parseAPIFilter).
    found: list[dict[str, Any]] = json.loads(unquote_plus(request.url.params.get("filter", '{"predicates": []}')))[
        "predicates"
    ]
    return found


def _fits(run: dict[str, Any], predicates: list[dict[str, Any]]) -> bool:
    for predicate in predicates:
        value = str(run.get(predicate["key"], ""))
        if predicate["operation"] == "IN" and value not in predicate["string_values"]["values"]:
            return False
        if predicate["operation"] == "IS_SUBSTRING" and predicate["string_value"] not in value:
            return False
        if predicate["operation"] == "EQUALS" and predicate["string_value"] != value:
            return False
    return True


@contextmanager
def kfp_wire() -> Iterator[KFPWire]:
    """Every request to kfp.test is answered in memory; any other is an error."""
    wire = KFPWire()
    with respx.mock(assert_all_called=False) as router:
        router.route(host=HOST).mock(side_effect=wire.answer)
        yield wire
