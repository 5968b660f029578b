"""mlfleet's KFP client, call by call, against the sandbox's server."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from mlfleet.clients.http import HttpClient
from mlfleet.clients.kfp import KFPClient, Predicate
from mlfleet.clients.retry import RetryPolicy
from mlfleet.errors import Conflict, NotFound, OutcomeUnknown, RequestRefused
from tests.support import kfp_pipelines as pipelines
from tests.support.kfp import KFPSandbox

T = TypeVar("T")


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KFPSandbox]:
    sandbox = KFPSandbox(tmp_path_factory.mktemp("kfp"))
    sandbox.start()
    yield sandbox
    sandbox.stop()


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("packages")
    wanted = (pipelines.outer, pipelines.sleeping, pipelines.resumable, pipelines.counted)
    return {each.name: Path(pipelines.compiled(each, folder)).read_bytes() for each in wanted}


@pytest.fixture
def name() -> str:
    return f"n-{uuid.uuid4().hex[:12]}"


def ask(sandbox: KFPSandbox, use: Callable[[KFPClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with HttpClient(sandbox.url, system="kfp", retry=RetryPolicy.once()) as http:
            return await use(KFPClient(http))

    return asyncio.run(run())


def start(sandbox: KFPSandbox, package: bytes, name: str, run_id: str = "", **parameters: Any) -> str:
    async def create(client: KFPClient) -> str:
        made = await client.create_run(
            run_id=run_id or str(uuid.uuid4()), display_name=name, experiment_id=await client.ensure_experiment(name),
            pipeline_spec=yaml.safe_load(package), parameters=parameters,
        )  # fmt: skip
        return made.run_id

    return ask(sandbox, create)


def test_an_experiment_is_made_once_even_by_two_at_once(sandbox: KFPSandbox, name: str) -> None:
    async def ensure(client: KFPClient) -> None:
        assert (await client.healthz())["multi_user"] is False
        assert await client.find_experiment(name) is None
        first, second = await asyncio.gather(client.ensure_experiment(name, "why"), client.ensure_experiment(name))
        assert first == second == await client.ensure_experiment(name) == await client.find_experiment(name)

    ask(sandbox, ensure)


def test_pipelines_and_versions(sandbox: KFPSandbox, packages: dict[str, bytes], name: str) -> None:
    async def use(client: KFPClient) -> None:
        assert await client.get_pipeline_by_name(name) is None
        made = await client.ensure_pipeline(name, "why")
        assert (await client.ensure_pipeline(name)).pipeline_id == made.pipeline_id
        assert await client.list_versions(made.pipeline_id) == []
        version, uploaded = await client.ensure_version(made.pipeline_id, "v1", packages["outer"])
        assert uploaded
        assert version.spec["pipelineInfo"]["name"] == "outer"
        assert await client.ensure_version(made.pipeline_id, "v1", packages["outer"]) == (version, False)
        with pytest.raises(Conflict):
            await client.upload_pipeline_version(made.pipeline_id, "v1", packages["outer"])
        await client.upload_pipeline_version(made.pipeline_id, "v2", packages["outer"], "newer")
        assert {each.name for each in await client.list_versions(made.pipeline_id)} == {"v1", "v2"}
        assert await client.find_version(made.pipeline_id, "V1") is None
        with pytest.raises(RequestRefused) as refused:
            await client.upload_pipeline_version(made.pipeline_id, "v3", b"no pipeline: [")
        assert refused.value.status == 400
        reference = {"pipeline_id": made.pipeline_id, "pipeline_version_id": version.version_id}
        run = await client.create_run(
            run_id=str(uuid.uuid4()), display_name=name, experiment_id=await client.ensure_experiment(name),
            pipeline_version_reference=reference,
        )  # fmt: skip
        sandbox_run = await asyncio.to_thread(sandbox.wait, run.run_id)
        assert sandbox_run["state"] == "SUCCEEDED"

    ask(sandbox, use)


def test_a_run_id_of_ours_is_kept_and_a_second_time_is_an_unknown_outcome(
    sandbox: KFPSandbox, packages: dict[str, bytes], name: str
) -> None:
    run_id = str(uuid.uuid4())
    with pytest.raises(NotFound):
        ask(sandbox, lambda client: client.get_run(run_id))
    assert start(sandbox, packages["outer"], name, run_id) == run_id
    with pytest.raises(OutcomeUnknown):
        start(sandbox, packages["outer"], name, run_id)
    sandbox.wait(run_id)
    assert [run.run_id for run in ask(sandbox, lambda client: client.find_runs(name))] == [run_id]
    ended = ask(sandbox, lambda client: client.get_run(run_id))
    assert ended.is_final
    assert ended.finished_at is not None


def test_runs_are_filtered_and_paged(sandbox: KFPSandbox, packages: dict[str, bytes], name: str) -> None:
    ids = [start(sandbox, packages["outer"], name) for _ in range(3)]
    for run_id in ids:
        sandbox.wait(run_id)

    async def use(client: KFPClient) -> None:
        experiment = await client.ensure_experiment(name)
        equal = [Predicate("display_name", name)]
        first = await client.list_runs(equal, experiment_id=experiment, sort_by="created_at asc", page_size=2)
        second = await client.list_runs(
            equal, experiment_id=experiment, sort_by="created_at asc", page_size=2, page_token=first.next_page_token
        )
        # Not in order: created_at counts seconds, and the three were started within one.
        assert sorted(run.run_id for run in (*first.runs, *second.runs)) == sorted(ids)
        assert len(first.runs) == 2
        assert second.next_page_token == ""
        assert sorted(run.run_id for run in await client.find_runs(name, experiment)) == sorted(ids)
        assert set(await client.runs_by_id([*ids, str(uuid.uuid4())])) == set(ids)
        newest = [Predicate("created_at", datetime.now(UTC), "GREATER_THAN")]
        assert (await client.list_runs(newest, experiment_id=experiment)).runs == ()
        with pytest.raises(RequestRefused):
            await client.list_runs([Predicate("labels", "x")])

    ask(sandbox, use)


def test_terminate_takes_a_live_run_and_says_false_for_a_finished_one(
    sandbox: KFPSandbox, packages: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    run_id = start(sandbox, packages["sleeping"], name, folder=str(tmp_path))
    assert ask(sandbox, lambda client: client.terminate(run_id)) is True
    sandbox.wait(run_id)
    assert ask(sandbox, lambda client: client.terminate(run_id)) is False
    with pytest.raises(NotFound):
        ask(sandbox, lambda client: client.terminate(str(uuid.uuid4())))


def test_retry_runs_the_failed_task_only_and_refuses_what_did_not_fail(
    sandbox: KFPSandbox, packages: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    run_id = start(sandbox, packages["resumable"], name, folder=str(tmp_path))
    assert sandbox.wait(run_id)["state"] == "FAILED"
    ask(sandbox, lambda client: client.retry(run_id))
    assert sandbox.wait(run_id)["state"] == "SUCCEEDED"
    counts = {step: (tmp_path / step).read_text() for step in ("first", "second", "third")}
    assert counts == {"first": "x", "second": "xx", "third": "x"}
    with pytest.raises(Conflict):
        ask(sandbox, lambda client: client.retry(run_id))
    with pytest.raises(NotFound):
        ask(sandbox, lambda client: client.retry(str(uuid.uuid4())))


def test_a_name_may_hold_what_addresses_are_made_of(sandbox: KFPSandbox, packages: dict[str, bytes], name: str) -> None:
    """The server unescapes a filter twice."""
    odd = f'{name} 2026-11-24T00:00:00+00:00 100% a&b=c#"ü'
    run_id = start(sandbox, packages["outer"], odd)
    assert [run.run_id for run in ask(sandbox, lambda client: client.find_runs(odd))] == [run_id]
    assert ask(sandbox, lambda client: client.find_experiment(odd)) is not None
    sandbox.wait(run_id)


def test_the_log_of_a_task_is_found_by_the_name_that_the_run_tells(
    sandbox: KFPSandbox, packages: dict[str, bytes], name: str, tmp_path: Path
) -> None:
    run_id = start(sandbox, packages["counted"], name, folder=str(tmp_path))
    sandbox.wait(run_id)
    nodes = {task.display_name: task.node_id for task in ask(sandbox, lambda client: client.get_run(run_id)).tasks}
    text = ask(sandbox, lambda client: client.node_log(run_id, nodes["tally"]))
    assert "execution 1 of cached" in text
    for run, node in ((run_id, "no-such-node"), (str(uuid.uuid4()), nodes["tally"])):
        with pytest.raises(NotFound):
            ask(sandbox, lambda client, run=run, node=node: client.node_log(run, node))
