"""What tests/contract/test_sandbox_spinnaker_gate.py leaves of mlfleet's Spinnaker client: many, configured, ended."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest

from mlfleet.clients.http import HttpClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.clients.spinnaker import ManualStart, SpinnakerClient
from mlfleet.clients.spinnaker_images import Image
from mlfleet.clients.spinnaker_trigger import trigger_problems
from mlfleet.errors import NotFound, TransientError
from tests.support.images import layer, push
from tests.support.processes import wait_for
from tests.support.spinnaker import ACCOUNT, Spinnaker, image_artifact, stage, start_registry

T = TypeVar("T")
APP, REPOSITORY = "shop", "ml/shop"
TAG = "release-k-1"


@pytest.fixture(scope="module")
def spinnaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spinnaker]:
    folder = tmp_path_factory.mktemp("gate")
    with start_registry(folder) as registry:
        sandbox = Spinnaker(folder, registry)
        quick, slow = [stage("wait", waitTime=0)], [stage("wait", waitTime=60)]
        try:
            sandbox.pipeline(APP, "quick", quick, limitConcurrent=False)
            sandbox.pipeline(APP, "slow", slow, limitConcurrent=False)
            sandbox.pipeline(APP, "judged", [stage("manualJudgment", failPipeline=True)], limitConcurrent=False)
            sandbox.pipeline(APP, "deploy", quick, tag="^release-.*$")
            sandbox.start()
            yield sandbox
        finally:
            sandbox.close()


def ask(spinnaker: Spinnaker, use: Callable[[SpinnakerClient], Awaitable[T]], retry: RetryPolicy | None = None) -> T:
    async def run() -> T:
        url = str(spinnaker.http.base_url)
        async with HttpClient(url, system="spinnaker", retry=retry or RetryPolicy.once()) as http:
            return await use(SpinnakerClient(http))

    return asyncio.run(run())


def test_all_executions_of_a_tag_are_found_behind_the_first_page(spinnaker: Spinnaker) -> None:
    since = int(time.time() * 1000) - 1000
    ours, other = (image_artifact(spinnaker.registry, REPOSITORY, tag) for tag in (TAG, "release-k-2"))
    started = [spinnaker.begin(APP, "quick", artifacts=[ours]) for _ in range(203)]
    spinnaker.begin(APP, "quick", artifacts=[other])
    image = Image(REPOSITORY, TAG)
    found = ask(spinnaker, lambda client: client.search(APP, [image], since_ms=since))
    assert {row["id"] for row in found} == set(started)
    assert len(found) == len(started)
    times = [row["buildTime"] for row in found]
    assert times == sorted(times, reverse=True)
    many = ask(spinnaker, lambda client: client.executions([*started, "no-such"], expand=False))
    assert set(many) == set(started)
    middle = times[100]
    older = ask(spinnaker, lambda c: c.search(APP, [image], since_ms=since, until_ms=middle, pipeline="quick"))
    assert {row["buildTime"] for row in older} == {at for at in times if at <= middle}
    assert ask(spinnaker, lambda client: client.search(APP, [image], since_ms=since, pipeline="no-such")) == []


def test_a_pushed_tag_is_found_by_its_trigger(spinnaker: Spinnaker) -> None:
    since = int(time.time() * 1000) - 1000
    image = push(spinnaker.registry, REPOSITORY, [layer({"a": "b"})], {}, "build-1")
    spinnaker.seen("build-1")
    image.tag("release-pushed")

    def found() -> list[dict[str, Any]]:
        return ask(spinnaker, lambda c: c.search(APP, [Image(REPOSITORY, "release-pushed")], since_ms=since))

    (row,) = wait_for(found, "the execution of the pushed tag")
    assert row["trigger"]["type"] == "docker"


def test_configurations(spinnaker: Spinnaker) -> None:
    config = ask(spinnaker, lambda client: client.pipeline_config(APP, "deploy"))
    assert trigger_problems(config, REPOSITORY, TAG, ACCOUNT) == []
    assert trigger_problems(config, REPOSITORY, "build-k", ACCOUNT)
    every = ask(spinnaker, lambda client: client.pipeline_configs(APP))
    assert {each["name"] for each in every} == {"quick", "slow", "judged", "deploy"}
    assert ask(spinnaker, lambda client: client.pipeline_configs("no-such")) == []
    with pytest.raises(NotFound):
        ask(spinnaker, lambda client: client.pipeline_config(APP, "no-such"))


def test_cancel_is_asked_for_and_keeps_its_reason(spinnaker: Spinnaker) -> None:
    execution = spinnaker.begin(APP, "slow")
    spinnaker.wait(execution, "RUNNING")
    ask(spinnaker, lambda client: client.cancel(execution, "airflow task killed"))
    ended = spinnaker.wait(execution)
    assert (ended["status"], ended["cancellationReason"]) == ("CANCELED", "airflow task killed")
    assert ask(spinnaker, lambda client: client.failed_stages(execution)) == []
    with pytest.raises(NotFound):
        ask(spinnaker, lambda client: client.cancel("no-such", "x"))


def test_a_manual_start_carries_its_image_and_starts_once(spinnaker: Spinnaker) -> None:
    artifact = image_artifact(spinnaker.registry, REPOSITORY, TAG)

    async def start(client: SpinnakerClient) -> ManualStart:
        return await client.start_manual(
            APP, "slow", artifacts=[artifact], parameters={"a": "b"}, correlation_id="airflow:once"
        )

    started = ask(spinnaker, start)
    wait_for(lambda: spinnaker.http.get(f"/pipelines/{started.execution_id}").status_code == 200, "it to appear")
    trigger = spinnaker.execution(started.execution_id)["trigger"]
    assert trigger["artifacts"][0]["reference"] == artifact["reference"]
    assert trigger["parameters"]["a"] == "b"
    before = len(spinnaker.search(APP, pipelineName="slow"))
    ask(spinnaker, start)
    # The second id leads nowhere; that nothing was started is what counts, so something else is waited for.
    other = ask(spinnaker, lambda client: client.start_manual(APP, "quick"))
    wait_for(lambda: spinnaker.http.get(f"/pipelines/{other.execution_id}").status_code == 200, "the other one")
    assert len(spinnaker.search(APP, pipelineName="slow")) == before
    ask(spinnaker, lambda client: client.cancel(started.execution_id, "end of the test"))


def test_a_judgment_lets_it_go_on(spinnaker: Spinnaker) -> None:
    execution = spinnaker.begin(APP, "judged")
    waiting = spinnaker.wait(execution, "RUNNING")["stages"][0]["id"]
    answered = ask(spinnaker, lambda client: client.judge(execution, waiting, "continue"))
    assert answered["id"] == execution
    assert spinnaker.wait(execution)["status"] == "SUCCEEDED"
    with pytest.raises(NotFound):
        ask(spinnaker, lambda client: client.judge("no-such", waiting, "continue"))


def test_an_empty_200_is_asked_again(spinnaker: Spinnaker) -> None:
    execution = spinnaker.begin(APP, "quick")
    spinnaker.switch(empty_200=1)
    read = ask(spinnaker, lambda client: client.get_execution(execution), RetryPolicy())
    assert read["id"] == execution
    spinnaker.switch(empty_200=1)
    with pytest.raises(TransientError, match="empty"):
        ask(spinnaker, lambda client: client.get_execution(execution))
