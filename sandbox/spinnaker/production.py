"""What is deployed: one server per application behind a reverse proxy, and its former version for a rollback.

Like a Deployment in Kubernetes: traffic moves when the new server is healthy, and then the old one ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sandbox.spinnaker.container import Container, ContainerError
from sandbox.spinnaker.images import ImageError, Images
from sandbox.spinnaker.model import Store, now_ms, ulid

log = logging.getLogger("production")
DRAIN_SECONDS = 10.0
# What concerns one connection only; and the proxy's client has undone the encoding of what it hands on.
_HOP = {"connection", "keep-alive", "transfer-encoding", "host", "content-length", "content-encoding"}
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]


class Production:
    """Applications and their servers. Only one deployment of an application happens at a time."""

    def __init__(self, images: Images, store: Store, state: Path) -> None:
        self._images = images
        self._store = store
        self._logs = state / "servers"
        self._serving: dict[str, Container] = {}
        self._locks: dict[str, asyncio.Lock] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self.deployed: dict[str, dict[str, Any]] = store.get("production", {})

    async def restore(self) -> None:
        """Starts again what was deployed when the stand-in ended."""
        await asyncio.gather(*(self._bring_back(*each) for each in self.deployed.items()))

    async def _bring_back(self, application: str, version: dict[str, Any]) -> None:
        try:
            self._serving[application] = await self._run(application, version)
        except (ContainerError, ImageError) as error:
            log.error("%s %s did not come back: %s", application, version["tag"], error)

    async def run_beside(self, application: str, repository: str, tag: str, digest: str) -> Container:
        """Starts an image without sending it any traffic; the caller stops it. Raises ContainerError, ImageError."""
        return await self._run(application, {"repository": repository, "tag": tag, "digest": digest})

    async def deploy(self, application: str, repository: str, tag: str, digest: str, execution_id: str) -> None:
        """Starts the image, sends the traffic to it once it is healthy, and ends the former server.

        When it does not become healthy the former one goes on serving. Raises ContainerError, ImageError.
        """
        version = {"repository": repository, "tag": tag, "digest": digest, "execution_id": execution_id}
        async with self._one_at_a_time(application):
            current, server = self._current(application), self.server(application)
            if current and server and server.alive() and current.items() >= version.items():
                return  # the stand-in ended between the switch and the end of the stage, which runs again
            # The same image once more is no new version: a rollback must still lead to another one.
            again = current is not None and current["digest"] == digest
            await self._switch(application, version, self.deployed[application]["former"] if again else current)

    async def rollback(self, application: str) -> dict[str, Any]:
        """Brings the former version back and returns it; raises ContainerError when there is none."""
        async with self._one_at_a_time(application):
            former = self.deployed.get(application, {}).get("former")
            if former is None:
                raise ContainerError(f"{application} has no former version to go back to")
            await self._switch(application, dict(former), former=self._current(application))
            return dict(former)

    def server(self, application: str) -> Container | None:
        """The server that gets the traffic now."""
        return self._serving.get(application)

    def state(self) -> dict[str, dict[str, Any]]:
        """What is deployed for each application, and whether its server runs."""
        servers = {name: self.server(name) for name in self.deployed}
        return {
            name: {**version, "running": bool((server := servers[name]) and server.alive())}
            for name, version in self.deployed.items()
        }

    async def aclose(self) -> None:
        """Ends every server."""
        await asyncio.gather(*(container.stop() for container in self._serving.values()), *self._ending)

    def _one_at_a_time(self, application: str) -> asyncio.Lock:
        return self._locks.setdefault(application, asyncio.Lock())

    def _current(self, application: str) -> dict[str, Any] | None:
        current = self.deployed.get(application)
        return {key: value for key, value in current.items() if key != "former"} if current else None

    async def _switch(self, application: str, version: dict[str, Any], former: dict[str, Any] | None) -> None:
        container = await self._run(application, version)
        before, self._serving[application] = self._serving.get(application), container
        self.deployed[application] = {**version, "since": now_ms(), "former": former}
        self._store.put("production", self.deployed)
        if before is not None:
            ending = asyncio.create_task(_end(before))
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)
            await asyncio.shield(ending)  # an execution that is cancelled now must not leave it running

    async def _run(self, application: str, version: dict[str, Any]) -> Container:
        image = await asyncio.to_thread(self._images.pull, version["repository"], version["digest"])
        # A log of its own for each start: a canary and what it is deployed as run the same tag at nearly the same time.
        log_file = self._logs / f"{application}-{version['tag']}-{ulid()}.log"
        container = Container(image, log_file)
        await container.start()
        return container


async def _end(container: Container) -> None:
    """Ends a server that gets no traffic any more, once it has answered what it was asked."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(container.idle.wait(), DRAIN_SECONDS)
    await container.stop()


def proxy(production: Production) -> Starlette:
    """``/<application>/<path>`` goes to ``/<path>`` of the application's server; 404 and 502 say what is the matter."""
    client = httpx.AsyncClient(timeout=60, trust_env=False)

    @contextlib.asynccontextmanager
    async def closing(app: Starlette) -> AsyncIterator[None]:
        async with client:
            yield

    async def forward(request: Request) -> Response:
        application, path = request.path_params["application"], request.path_params["path"]
        container = production.server(application)
        if container is None:
            return JSONResponse({"error": f"nothing is deployed for {application}"}, 404)
        headers = {key: value for key, value in request.headers.items() if key.lower() not in _HOP}
        try:
            with container.asked():
                answer = await client.request(
                    request.method, f"http://127.0.0.1:{container.port}/{path}", params=request.query_params,
                    content=await request.body(), headers=headers, follow_redirects=False,
                )  # fmt: skip
        except httpx.TransportError as error:
            return JSONResponse({"error": f"the server of {application} does not answer: {error}"}, 502)
        kept = {key: value for key, value in answer.headers.items() if key.lower() not in _HOP}
        return Response(answer.content, answer.status_code, kept)

    return Starlette(routes=[Route("/{application}/{path:path}", forward, methods=_METHODS)], lifespan=closing)
