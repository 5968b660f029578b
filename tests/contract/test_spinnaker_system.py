"""The Spinnaker adapter against the stand-in over a real registry: many at once, and pushes that start nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import httpx
import pytest

from mlfleet.clients.container_registry import ContainerRegistryClient
from mlfleet.clients.http import HttpClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.clients.spinnaker import SpinnakerClient
from mlfleet.errors import RequestRefused
from mlfleet.remote.job import JobState, JobStatus
from mlfleet.remote.protocol import look
from mlfleet.systems.live_image import LiveImage, live_image
from mlfleet.systems.spinnaker import Deployment, SpinnakerSystem
from tests.support.images import Pushed, layer, push, push_model
from tests.support.remote import LosesAnswers
from tests.support.spinnaker import Spinnaker, stage, start_registry

T = TypeVar("T")
APP, REPOSITORY = "shop", "ml/shop"
MANY = 30
SECONDS = 60
DOCKER_ARTIFACT = [{"id": "image", "matchArtifact": {"type": "docker/image", "name": f".*/{REPOSITORY}"}}]


@dataclass
class Counting(httpx.AsyncBaseTransport):
    """The real network; `seen` are the requests that went out."""

    seen: list[httpx.Request] = field(default_factory=list)
    inner: httpx.AsyncBaseTransport = field(default_factory=httpx.AsyncHTTPTransport)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        return await self.inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self.inner.aclose()


@pytest.fixture(scope="module")
def spinnaker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spinnaker]:
    folder = tmp_path_factory.mktemp("spinnaker")
    with start_registry(folder) as registry:
        sandbox = Spinnaker(folder, registry)
        try:
            long, trigger = [stage("wait", waitTime=120)], {"registry": registry, "expectedArtifactIds": ["image"]}
            more: dict[str, Any] = {"trigger": trigger, "expectedArtifacts": DOCKER_ARTIFACT, "limitConcurrent": False}
            sandbox.pipeline(APP, "many", long, tag="^many-.*$", **more)
            sandbox.pipeline(APP, "deploy", [stage("deployManifest")], tag="^release-.*$", **more)
            sandbox.start()
            push(registry, REPOSITORY, [layer({"a": "b"})], {}, "build-1")
            sandbox.seen("build-1")  # the first image of an account starts nothing
            yield sandbox
        finally:
            sandbox.switch(echo_drop=False)
            sandbox.close()


@pytest.fixture
def deaf(spinnaker: Spinnaker) -> Iterator[Spinnaker]:
    """Pushes start nothing."""
    spinnaker.switch(echo_drop=True)
    yield spinnaker
    spinnaker.switch(echo_drop=False)


def wanted(tag: str, pipeline: str = "deploy", digest: str | None = None, **more: Any) -> Deployment:
    since = int(time.time() * 1000)
    return Deployment(APP, pipeline, REPOSITORY, tag, digest, since, **{"start_timeout": 2.0, **more})


def pushed(spinnaker: Spinnaker, tag: str, **model: Any) -> tuple[Pushed, Deployment]:
    """A model under a tag, after igor has seen it."""
    deployment = wanted(tag, registry=spinnaker.registry)
    image = push_model(spinnaker.registry, REPOSITORY, tag, **model)
    spinnaker.seen(tag)
    return image, deployment


def ask(
    spinnaker: Spinnaker, use: Callable[[SpinnakerClient], Awaitable[T]], wire: httpx.AsyncBaseTransport | None = None
) -> T:
    async def run() -> T:
        url = str(spinnaker.http.base_url)
        async with HttpClient(url, system="spinnaker", retry=RetryPolicy.once(), transport=wire) as http:
            return await use(SpinnakerClient(http))

    return asyncio.run(run())


async def until(
    views: dict[str, SpinnakerSystem], done: Callable[[dict[str, JobStatus]], bool], each: Callable[[], None] = list
) -> dict[str, JobStatus]:
    """Polls the views together until `done`; `each` is called after every round."""
    ends = time.monotonic() + SECONDS
    while time.monotonic() < ends:
        found = await next(iter(views.values())).poll_many(views)
        each()
        if done(found):
            return found
        await asyncio.sleep(0.2)
    raise AssertionError(f"not done within {SECONDS} s: {found}")


async def ended(view: SpinnakerSystem, job_id: str) -> JobStatus:
    found = await until({job_id: view}, lambda found: found[job_id].state.is_final)
    return found[job_id]


def test_many_deployments_cost_one_request_a_round(spinnaker: Spinnaker) -> None:
    image = push(spinnaker.registry, REPOSITORY, [layer({"a": "many"})], {}, "build-many")
    deployments = [wanted(f"many-{n}", "many", image.digest, start_timeout=SECONDS) for n in range(MANY)]
    for each in deployments:
        image.tag(each.tag)
    wire, rounds = Counting(), [0]

    def note() -> None:
        rounds.append(len(wire.seen))
        of_round = wire.seen[rounds[-2] : rounds[-1]]
        assert sum("/search" in request.url.path for request in of_round) <= 1
        assert sum(request.url.path == "/executions" for request in of_round) <= 1

    async def follow(client: SpinnakerClient) -> None:
        views = {each.id: SpinnakerSystem(client, each) for each in deployments}
        await until(views, lambda found: all(status.native == "running" for status in found.values()), note)
        searching = sum("/search" in request.url.path for request in wire.seen)
        assert searching <= len(rounds) - 1
        for _ in range(3):
            before = len(wire.seen)
            found = await views[deployments[0].id].poll_many(views)
            assert [request.url.path for request in wire.seen[before:]] == ["/executions"]
        ids = {str(status.detail["execution_id"]) for status in found.values()}
        assert len(ids) == MANY
        for execution_id in ids:
            await client.cancel(execution_id, "end of the test")
        gone = await until(views, lambda found: all(status.state.is_final for status in found.values()))
        assert {status.native for status in gone.values()} == {"canceled"}

    ask(spinnaker, follow, wire)


def test_a_push_that_started_nothing_is_deployed_by_hand(deaf: Spinnaker) -> None:
    image, deployment = pushed(deaf, "release-by-hand", factor=3.0)
    deployment = Deployment(**{**deployment.as_json(), "digest": image.digest, "on_not_started": "start"})

    async def deploy(client: SpinnakerClient) -> dict[str, Any]:
        view = SpinnakerSystem(client, deployment)
        lost = await ended(view, deployment.id)
        assert (lost.native, lost.detail) == ("never_started", {"infrastructure": True})
        await view.resume(deployment.id)
        assert (await ended(view, deployment.id)).state is JobState.SUCCEEDED
        # Another process, which knows nothing of the start, finds the same.
        other = SpinnakerSystem(client, deployment)
        assert (await ended(other, deployment.id)).state is JobState.SUCCEEDED
        with pytest.raises(RequestRefused, match="has an execution, SUCCEEDED"):
            await other.resume(deployment.id)
        return await other.result(deployment.id)

    result = ask(deaf, deploy)
    assert result["bound_reference"] == f"{deaf.registry}/{REPOSITORY}:release-by-hand"
    assert deaf.predict(APP, 2) == [6.0]
    (execution,) = deaf.search(APP, "release-by-hand")
    assert (execution["id"], execution["trigger"]["type"]) == (result["execution_id"], "manual")
    (bound,) = execution["trigger"]["resolvedExpectedArtifacts"]
    assert bound["boundArtifact"]["version"] == "release-by-hand"


def test_two_who_ask_at_once_start_it_once(deaf: Spinnaker) -> None:
    _, deployment = pushed(deaf, "release-twice", factor=5.0)
    wire = Counting()

    async def both(client: SpinnakerClient) -> JobStatus:
        views = [SpinnakerSystem(client, deployment) for _ in range(2)]
        await asyncio.gather(*(view.resume(deployment.id) for view in views))
        return await ended(views[1], deployment.id)

    assert ask(deaf, both, wire).state is JobState.SUCCEEDED
    starts = [request for request in wire.seen if request.method == "POST"]
    assert len(starts) == 2
    assert len(deaf.search(APP, "release-twice")) == 1
    assert deaf.predict(APP, 1) == [5.0]


def test_the_answer_of_the_start_gets_lost(deaf: Spinnaker) -> None:
    _, deployment = pushed(deaf, "release-lost", factor=7.0)
    wire = LosesAnswers(lambda request: request.method == "POST")

    async def deploy(client: SpinnakerClient) -> JobStatus:
        view = SpinnakerSystem(client, deployment)
        await view.resume(deployment.id)
        with pytest.raises(RequestRefused):
            await SpinnakerSystem(client, deployment).resume(deployment.id)
        return await ended(view, deployment.id)

    assert ask(deaf, deploy, wire).state is JobState.SUCCEEDED
    assert wire.left == 0
    assert len(deaf.search(APP, "release-lost")) == 1


def test_an_image_that_pubsub_announced_is_found(spinnaker: Spinnaker) -> None:
    spinnaker.switch(pubsub_mode=True)
    try:
        image, deployment = pushed(spinnaker, "release-announced", factor=2.0)
        deployment = Deployment(**{**deployment.as_json(), "digest": image.digest, "start_timeout": SECONDS})

        async def follow(client: SpinnakerClient) -> JobStatus:
            return await ended(SpinnakerSystem(client, deployment), deployment.id)

        assert ask(spinnaker, follow).state is JobState.SUCCEEDED
        other = wanted("release-other", digest=image.digest, start_timeout=SECONDS)
        found = ask(spinnaker, lambda client: look(SpinnakerSystem(client, other), other.id))
        assert found is not None
        assert found.native == "not_started"
    finally:
        spinnaker.switch(pubsub_mode=False)


def test_what_is_live_is_the_image_that_was_deployed_last(spinnaker: Spinnaker) -> None:
    async def live(client: SpinnakerClient) -> LiveImage | None:
        async with HttpClient(f"http://{spinnaker.registry}", system="container_registry") as http:
            return await live_image(client, ContainerRegistryClient(http), APP, "deploy", REPOSITORY)

    for number in (1, 2):
        labels = {"mlfleet.metric.default.mae": f"{number}.5", "org.opencontainers.image.title": "shop"}
        image, deployment = pushed(spinnaker, f"release-live-{number}", factor=float(number), labels=labels)
        deployment = Deployment(**{**deployment.as_json(), "digest": image.digest, "start_timeout": SECONDS})

        async def follow(client: SpinnakerClient, to: Deployment = deployment) -> JobStatus:
            return await ended(SpinnakerSystem(client, to), to.id)

        assert ask(spinnaker, follow).state is JobState.SUCCEEDED
        assert ask(spinnaker, live) == LiveImage(
            f"{REPOSITORY}:release-live-{number}", {"default": {"mae": number + 0.5}}
        )
