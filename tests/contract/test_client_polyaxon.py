"""mlfleet's Polyaxon client, call by call, against the real CE server and the sandbox's agent."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from mlfleet.clients.http import HttpClient
from mlfleet.clients.polyaxon import PolyaxonClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.errors import NotFound, RequestRefused
from tests.support.polyaxon import PolyaxonSandbox, job
from tests.support.processes import REPOSITORY

T = TypeVar("T")
TRACKING = (REPOSITORY / "include" / "components" / "polyaxon_tracking.py").read_text()
SCORE = "import sys, tracking; tracking.log_outputs(loss=abs(float(sys.argv[1]) - 2))"


def ask(sandbox: PolyaxonSandbox, use: Callable[[PolyaxonClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with HttpClient(sandbox.url, system="polyaxon", retry=RetryPolicy.once()) as http:
            return await use(PolyaxonClient(http))

    return asyncio.run(run())


def create(sandbox: PolyaxonSandbox, component: dict[str, Any], **more: Any) -> str:
    async def send(client: PolyaxonClient) -> str:
        made = await client.create_run(sandbox.project, content=json.dumps(component), name="test", **more)
        return made.uuid

    return ask(sandbox, send)


def test_a_project_is_made_once(polyaxon_sandbox: PolyaxonSandbox) -> None:
    project = f"p-{uuid.uuid4().hex[:8]}"

    async def ensure(client: PolyaxonClient) -> None:
        assert (await client.installation())["version"].startswith("2.18")
        with pytest.raises(NotFound):
            await client.list_runs(project)
        await asyncio.gather(client.ensure_project(project), client.ensure_project(project))
        await client.ensure_project(project)
        assert (await client.list_runs(project)).runs == ()

    ask(polyaxon_sandbox, ensure)


def test_a_pending_run_waits_is_found_by_meta_info_and_goes_when_approved(polyaxon_sandbox: PolyaxonSandbox) -> None:
    project, key = polyaxon_sandbox.project, uuid.uuid4().hex
    run_id = create(polyaxon_sandbox, job("true"), pending="approval", meta_info={"mlfleet_key": key}, tags=["a"])

    async def look(client: PolyaxonClient) -> None:
        waiting = await client.get_run(project, run_id)
        assert (waiting.pending, waiting.meta_info["mlfleet_key"], waiting.tags) == ("approval", key, ("a",))
        assert [run.uuid for run in await client.find_by_meta(project, "mlfleet_key", [key, "other"])] == [run_id]
        assert await client.find_by_meta(project, "mlfleet_key", [uuid.uuid4().hex]) == []
        for _ in range(2):
            await client.approve(project, run_id)

    ask(polyaxon_sandbox, look)
    polyaxon_sandbox.wait(run_id)
    told = ask(polyaxon_sandbox, lambda client: client.statuses(project, run_id))
    assert told.status == "succeeded"
    assert [each.type for each in told.conditions][-1] == "succeeded"
    other = create(polyaxon_sandbox, job("true"))
    found = ask(polyaxon_sandbox, lambda client: client.runs_by_uuid(project, [run_id, other, uuid.uuid4().hex]))
    assert set(found) == {run_id, other}
    page = ask(polyaxon_sandbox, lambda client: client.list_runs(project, query="status:succeeded", limit=1))
    assert (len(page.runs), page.count >= 1) == (1, True)


def test_refusals(polyaxon_sandbox: PolyaxonSandbox) -> None:
    project, nobody = polyaxon_sandbox.project, uuid.uuid4().hex
    with pytest.raises(RequestRefused):
        create(polyaxon_sandbox, {"version": 1.1, "kind": "operation", "no_such_field": 1})
    with pytest.raises(RequestRefused):
        ask(polyaxon_sandbox, lambda client: client.list_runs(project, query="no_such_field:1"))
    for call in ("get_run", "statuses", "stop", "approve"):
        with pytest.raises(NotFound):
            ask(polyaxon_sandbox, lambda client, call=call: getattr(client, call)(project, nobody))


def test_stop_and_delete(polyaxon_sandbox: PolyaxonSandbox) -> None:
    project = polyaxon_sandbox.project
    run_id = create(polyaxon_sandbox, job("sleep", "600"))
    polyaxon_sandbox.wait(run_id, "running")
    ask(polyaxon_sandbox, lambda client: client.stop(project, run_id))
    assert polyaxon_sandbox.wait(run_id)["status"] == "stopped"
    for _ in range(2):  # twice is fine, and so it is for what is gone
        ask(polyaxon_sandbox, lambda client: client.stop(project, run_id))
    for _ in range(2):
        ask(polyaxon_sandbox, lambda client: client.delete_run(project, run_id))
    assert ask(polyaxon_sandbox, lambda client: client.runs_by_uuid(project, [run_id])) == {}
    # CE still shows what it deleted to those who know its uuid.
    assert ask(polyaxon_sandbox, lambda client: client.get_run(project, run_id)).uuid == run_id


def test_a_log_is_read_whole(polyaxon_sandbox: PolyaxonSandbox) -> None:
    project = polyaxon_sandbox.project
    run_id = create(polyaxon_sandbox, job("sh", "-c", "echo one; echo two"))
    polyaxon_sandbox.wait(run_id)
    page = ask(polyaxon_sandbox, lambda client: client.logs(project, run_id))
    assert [line.text for line in page.lines if line.container != "polyaxon-agent"] == ["one", "two"]
    assert all(line.at is not None for line in page.lines)
    assert (page.last_file, page.files) == (None, ())
    assert ask(polyaxon_sandbox, lambda client: client.logs(project, run_id)) == page


def test_children_are_sorted_by_their_metric(polyaxon_sandbox: PolyaxonSandbox) -> None:
    component = job(
        "python", "score.py", "{{ x }}", inputs=[{"name": "x", "type": "float"}],
        files={"score.py": SCORE, "tracking.py": TRACKING},
    )  # fmt: skip
    operation = {
        "version": 1.1, "kind": "operation", "component": component,
        "matrix": {"kind": "grid", "concurrency": 2, "params": {"x": {"kind": "choice", "value": [4.0, 2.0, 3.0]}}},
    }  # fmt: skip
    parent = create(polyaxon_sandbox, operation)
    polyaxon_sandbox.wait(parent)
    project = polyaxon_sandbox.project
    best_first = ask(polyaxon_sandbox, lambda client: client.children(project, parent, sort="metrics.loss"))
    assert [child.outputs["loss"] for child in best_first] == [0, 1, 2]
    assert {child.pipeline for child in best_first} == {parent}
    worst_first = ask(polyaxon_sandbox, lambda client: client.children(project, parent, sort="-metrics.loss"))
    assert [child.uuid for child in worst_first] == [child.uuid for child in reversed(best_first)]
    assert len(ask(polyaxon_sandbox, lambda client: client.children(project, parent))) == 3
