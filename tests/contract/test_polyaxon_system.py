"""Polyaxon as a remote job, against the real server and the sandbox's agent."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest

from mlfleet.clients.http import HttpClient
from mlfleet.clients.polyaxon import PolyaxonClient
from mlfleet.errors import JobFailed, SpecError
from mlfleet.remote.conclusion import conclude
from mlfleet.remote.job import JobState, TaskIdentity
from mlfleet.remote.policies import OnFailed
from mlfleet.remote.watching import End
from mlfleet.systems.polyaxon import PolyaxonSystem
from mlfleet.systems.polyaxon_operation import as_content, build_operation
from tests.support.polyaxon import PolyaxonSandbox, job
from tests.support.processes import REPOSITORY
from tests.support.remote import LosesAnswers, MemoryStore, submission, watch

T = TypeVar("T")
TRACKING = (REPOSITORY / "include" / "components" / "polyaxon_tracking.py").read_text()
BEST_BY = {"metric": "loss", "direction": "min"}
TRACK = """
import sys
import tracking
tracking.log_outputs(loss=(float(sys.argv[1]) - 2) ** 2)
print("x =", sys.argv[1], {"nested": {"braces": 1}}, "{{ not a template }}")
"""

FILES = {"track.py": TRACK, "tracking.py": TRACKING}


@pytest.fixture
def task() -> TaskIdentity:
    return TaskIdentity("test", "price-suggestion", f"manual__{uuid.uuid4()}", "default.polyaxon")


def on_system(
    sandbox: PolyaxonSandbox,
    use: Callable[[PolyaxonSystem], Awaitable[T]],
    *,
    project: str | None = None,
    best_by: dict[str, str] | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
) -> T:
    async def run() -> T:
        http = HttpClient(sandbox.url, system="polyaxon", transport=transport)
        system = PolyaxonSystem(PolyaxonClient(http), project or sandbox.project, best_by)
        try:
            return await use(system)
        finally:
            await system.aclose()

    return asyncio.run(run())


def spec(component: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"content": as_content(build_operation(json.dumps(component), source="polyaxonfile.yaml", **more))}


def runs_of(sandbox: PolyaxonSandbox, task: TaskIdentity, project: str | None = None) -> list[dict[str, Any]]:
    path = f"/api/v1/default/{project or sandbox.project}/runs"
    answer = sandbox.http.get(path, params={"query": f"meta_info.mlfleet_task:{task.hash}", "limit": "100"})
    return list(answer.raise_for_status().json()["results"])


def test_a_run_from_submit_to_result_with_its_log(polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity) -> None:
    component = job("python", "track.py", "{{ x }}", inputs=[{"name": "x", "type": "float"}])
    project = f"new-{uuid.uuid4().hex[:8]}"  # is created

    async def use(system: PolyaxonSystem) -> tuple[Any, str, dict[str, Any]]:
        entering, kinds = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(component, params={"x": 5}, files=FILES))
        assert kinds == ["submitted"]
        outcome, said = await watch(system, status.id)
        return outcome, said, await system.result(status.id)

    outcome, said, result = on_system(polyaxon_sandbox, use, project=project)
    assert outcome.end is End.FINISHED
    assert outcome.status.state is JobState.SUCCEEDED, outcome.status.reason
    assert "x = 5.0 {'nested': {'braces': 1}} {{ not a template }}" in said
    assert result["outputs"] == {"loss": 9.0}
    assert result["inputs"] == {"x": 5}
    assert result["url"] == f"{polyaxon_sandbox.url}/ui/default/{project}/runs/{result['uuid']}"
    assert result["best"] is None


def test_a_lost_answer_does_not_make_a_second_run(polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity) -> None:
    loses = LosesAnswers(lambda request: request.method == "POST" and request.url.path.endswith("/runs"))

    async def use(system: PolyaxonSystem) -> list[str]:
        entering, kinds = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(job("true")))
        outcome, _ = await watch(system, status.id)
        assert outcome.status is not None
        assert outcome.status.state is JobState.SUCCEEDED, outcome.status.reason
        return kinds

    assert on_system(polyaxon_sandbox, use, transport=loses) == ["answer_lost", "submitted"]
    assert loses.left == 0
    assert len(runs_of(polyaxon_sandbox, task)) == 1


def test_a_process_that_dies_between_create_and_approve_leaves_an_inert_run_that_is_found(
    polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity
) -> None:
    store = MemoryStore()

    async def die(system: PolyaxonSystem) -> None:
        async def dead(job_id: str) -> None:
            raise KeyboardInterrupt

        system.confirm = dead  # type: ignore[method-assign]
        entering, _ = submission(system, store, task=task)
        await entering.enter(spec(job("true")))

    with pytest.raises(KeyboardInterrupt):
        on_system(polyaxon_sandbox, die)
    (inert,) = runs_of(polyaxon_sandbox, task)
    assert inert["pending"] == "approval"
    assert store.record is not None
    assert store.record.job_id is None

    async def again(system: PolyaxonSystem) -> tuple[str, list[str]]:
        entering, kinds = submission(system, store, task=task)
        status = await entering.enter(spec(job("true")))
        await watch(system, status.id)
        return status.id, kinds

    job_id, kinds = on_system(polyaxon_sandbox, again)
    assert job_id == inert["uuid"]
    assert kinds == ["adopted"]
    assert [run["status"] for run in runs_of(polyaxon_sandbox, task)] == ["succeeded"]


def test_two_runs_of_one_key_leave_the_older_one(polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity) -> None:
    async def use(system: PolyaxonSystem) -> tuple[str, str, list[str]]:
        entering, kinds = submission(system, store := MemoryStore(), task=task)
        submit = system.submit

        async def twice(key: Any, what: Any) -> Any:
            first.append(await submit(key, what))
            await asyncio.sleep(1.1)
            return await submit(key, what)

        first: list[Any] = []
        system.submit = twice  # type: ignore[method-assign]
        status = await entering.enter(spec(job("true")))
        assert store.record is not None
        assert store.record.job_id == status.id
        return first[0].id, status.id, kinds

    first, winner, kinds = on_system(polyaxon_sandbox, use)
    assert winner == first
    assert kinds == ["submitted", "duplicate"]
    assert [run["uuid"] for run in runs_of(polyaxon_sandbox, task)] == [winner]


def test_retry_adopts_clear_stops_and_submits_the_next(polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity) -> None:
    store = MemoryStore()
    long = spec(job("sleep", "600"))

    async def use(system: PolyaxonSystem) -> list[str]:
        first, _ = submission(system, store, task=task, generation=1)
        one = await first.enter(long)
        retry, retried = submission(system, store, task=task, generation=1)
        assert (await retry.enter(long)).id == one.id
        assert retried == ["adopted"]
        clear, cleared = submission(system, store, task=task, generation=2)
        two = await clear.enter(long)
        assert two.id != one.id
        assert cleared == ["cleared", "stopped", "submitted"]
        forgotten, kinds = submission(system, MemoryStore(), task=task, generation=2)
        three = await forgotten.enter(long)
        assert kinds == ["reaped", "stopped", "submitted"]
        await system.stop(three.id)
        outcome, _ = await watch(system, three.id)
        assert outcome.status is not None
        return [outcome.status.state]

    assert on_system(polyaxon_sandbox, use) == [JobState.STOPPED]
    assert [run["status"] for run in runs_of(polyaxon_sandbox, task)] == ["stopped"] * 3


def test_a_failed_run_says_why_and_shows_its_last_lines(polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity) -> None:
    async def use(system: PolyaxonSystem) -> Any:
        entering, _ = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(job("sh", "-c", "echo the disk is gone; exit 3")))
        outcome, _ = await watch(system, status.id)
        return await conclude(lambda: system, outcome)

    with pytest.raises(JobFailed) as caught:
        on_system(polyaxon_sandbox, use)
    assert "the disk is gone" in caught.value.log_tail
    assert caught.value.reason
    assert caught.value.url in str(caught.value)


SHAKY = "if [ -e {mark} ]; then echo second; else touch {mark}; echo first; exit 3; fi"


def test_a_failed_run_is_resumed_under_its_own_uuid(
    polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity, tmp_path: Path
) -> None:
    store, shaky = MemoryStore(), spec(job("sh", "-c", SHAKY.format(mark=tmp_path / "mark")))

    async def use(system: PolyaxonSystem) -> tuple[Any, Any, list[str]]:
        entering, _ = submission(system, store, task=task)
        first, _ = await watch(system, (await entering.enter(shaky)).id)
        again, kinds = submission(system, store, task=task, on_failed=OnFailed.RESUME)
        second, _ = await watch(system, (await again.enter(shaky)).id)
        return first, second, kinds

    first, second, kinds = on_system(polyaxon_sandbox, use)
    assert (first.status.state, second.status.state) == (JobState.FAILED, JobState.SUCCEEDED)
    assert (second.status.id, kinds) == (first.status.id, ["resumed"])
    assert len(runs_of(polyaxon_sandbox, task)) == 1


def test_a_preempted_run_is_resumed_while_it_is_waited_for(
    polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity, tmp_path: Path
) -> None:
    """What the cluster's operator reports of a preempted pod, reported here by hand."""
    gate = tmp_path / "gate"
    waits = job("sh", "-c", f"while [ ! -e {gate} ]; do sleep 0.2; done")

    async def use(system: PolyaxonSystem) -> tuple[Any, str]:
        entering, _ = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(waits))
        await asyncio.to_thread(polyaxon_sandbox.wait, status.id, "running")
        condition = {"type": "failed", "status": "True", "reason": "Preempted", "message": "Preempted by scheduler"}
        path = f"/api/v1/default/{polyaxon_sandbox.project}/runs/{status.id}/statuses"
        polyaxon_sandbox.http.post(path, json={"condition": condition}).raise_for_status()
        watching = asyncio.create_task(watch(system, status.id, seconds=60))
        await asyncio.sleep(3)
        gate.touch()
        return await watching

    outcome, said = on_system(polyaxon_sandbox, use)
    assert outcome.status.state is JobState.SUCCEEDED, said
    assert outcome.resumes == 1
    assert "Preempted by scheduler: no fault of the job, so it was resumed (1 of 3)" in said
    assert len(runs_of(polyaxon_sandbox, task)) == 1


def test_a_spec_that_the_compiler_refuses_is_not_worth_a_retry(
    polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity
) -> None:
    component = job("true", run={"connections": ["my-s3"]})

    async def use(system: PolyaxonSystem) -> Any:
        entering, _ = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(component))
        outcome, _ = await watch(system, status.id)
        return await conclude(lambda: system, outcome)

    with pytest.raises(SpecError, match="my-s3"):
        on_system(polyaxon_sandbox, use)


def test_content_that_is_refused_at_once_is_a_spec_error(polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity) -> None:
    async def use(system: PolyaxonSystem) -> Any:
        entering, _ = submission(system, MemoryStore(), task=task)
        return await entering.enter({"content": "version: 1.1\nkind: operation\nno_such_field: 1"})

    with pytest.raises(SpecError):
        on_system(polyaxon_sandbox, use)


def test_a_grid_names_its_best_run_and_tells_each_child(polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity) -> None:
    component = job("python", "track.py", "{{ x }}", inputs=[{"name": "x", "type": "float"}])
    matrix = {"kind": "grid", "concurrency": 2, "params": {"x": [1.0, 2.5, 4.0]}}

    async def use(system: PolyaxonSystem) -> tuple[str, dict[str, Any]]:
        entering, _ = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(component, matrix=matrix, files=FILES))
        outcome, said = await watch(system, status.id, seconds=60)
        return said, await conclude(lambda: system, outcome)

    said, result = on_system(polyaxon_sandbox, use, best_by=BEST_BY)
    assert result["best"]["inputs"] == {"x": 2.5}
    assert result["best"]["outputs"] == {"loss": 0.25}
    assert said.count("succeeded: x=") == 3
    assert "best so far" in said


def test_a_search_that_early_stopping_ends_has_succeeded(polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity) -> None:
    component = job("python", "track.py", "{{ x }}", inputs=[{"name": "x", "type": "float"}])
    stop = {"kind": "metric_early_stopping", "metric": "loss", "value": 5.0, "optimization": "minimize"}
    matrix = {"kind": "grid", "concurrency": 1, "params": {"x": [2.0, 3.0, 4.0, 5.0]}, "earlyStopping": [stop]}

    async def use(system: PolyaxonSystem) -> tuple[Any, dict[str, Any]]:
        entering, _ = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(component, matrix=matrix, files=FILES))
        outcome, _ = await watch(system, status.id, seconds=60)
        return outcome, await conclude(lambda: system, outcome)

    outcome, result = on_system(polyaxon_sandbox, use, best_by=BEST_BY)
    assert outcome.status.native == "stopped"
    assert outcome.status.state is JobState.SUCCEEDED, outcome.status.reason
    assert result["best"]["inputs"] == {"x": 2.0}


def test_a_search_that_failed_runs_ended_has_failed(polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity) -> None:
    component = job("sh", "-c", "exit {{ x }}", inputs=[{"name": "x", "type": "int"}])
    stop = {"kind": "failure_early_stopping", "percent": 20}
    matrix = {"kind": "grid", "concurrency": 1, "params": {"x": [3, 4, 5, 6]}, "earlyStopping": [stop]}

    async def use(system: PolyaxonSystem) -> Any:
        entering, _ = submission(system, MemoryStore(), task=task)
        status = await entering.enter(spec(component, matrix=matrix))
        outcome, _ = await watch(system, status.id, seconds=60)
        return outcome

    outcome = on_system(polyaxon_sandbox, use, best_by=BEST_BY)
    assert outcome.status.native == "stopped"
    assert outcome.status.state is JobState.FAILED
    assert "before any of its runs succeeded" in outcome.status.reason


def test_the_servers_cache_does_not_answer_a_rerun(polyaxon_sandbox: PolyaxonSandbox, task: TaskIdentity) -> None:
    what = spec(job("sh", "-c", "echo ran"))

    async def use(system: PolyaxonSystem) -> list[str]:
        said = []
        store = MemoryStore()
        for generation in (1, 2):
            entering, _ = submission(system, store, task=task, generation=generation)
            said.append((await watch(system, (await entering.enter(what)).id))[1])
        return said

    first, second = on_system(polyaxon_sandbox, use)
    assert "\nran\n" in first
    assert "\nran\n" in second
