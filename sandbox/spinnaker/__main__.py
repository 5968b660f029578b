"""``python -m sandbox.spinnaker``: Gate on one port, the deployed models behind a reverse proxy on another."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from fastapi import Body, FastAPI
from fastapi.responses import HTMLResponse, JSONResponse

from sandbox.processes import port_is_free
from sandbox.spinnaker import echo, gate_actions, gate_configs, gate_reads, gate_search
from sandbox.spinnaker.front50 import Applications, Pipelines
from sandbox.spinnaker.gate import Gate, install
from sandbox.spinnaker.igor import DockerMonitor
from sandbox.spinnaker.images import ImageError, Images
from sandbox.spinnaker.model import Store
from sandbox.spinnaker.orca import Orca
from sandbox.spinnaker.page import render
from sandbox.spinnaker.production import Production, proxy
from sandbox.spinnaker.stages import StageRunner
from sandbox.spinnaker.switches import Switches

log = logging.getLogger("spinnaker")
DRAIN_SECONDS = 3


class Spinnaker:
    """All parts of the stand-in over one state folder."""

    def __init__(self, state: Path, registry: str, pipelines: Path, interval: float) -> None:
        self.store = Store(state / "spinnaker.db")
        self.switches = Switches()
        self.images = Images(registry, state / "images")
        self.production = Production(self.images, self.store, state)
        self.pipelines = Pipelines(pipelines, state / "pipelines")
        stages = StageRunner(self.production, self.images, self.store, self.switches)
        self.orca = Orca(self.store, stages, self.switches)
        self.gate = Gate(self.store, self.pipelines, Applications(self.store), self.orca, self.switches)
        self.igor = DockerMonitor(registry, self.store, self.switches, interval, self._echo)

    async def _echo(self, event: dict[str, Any]) -> None:
        """Echo answers igor before it has done anything: what fails here is lost, and only the log knows."""
        content = event["content"]
        try:
            for pipeline, trigger in echo.started_by(event, self.pipelines.all(), self.switches):
                self.orca.start(pipeline, await asyncio.to_thread(self._with_digest, trigger, content))
        except (ImageError, LookupError, TypeError) as error:
            log.error("%s:%s starts nothing: %r", content["repository"], content["tag"], error)

    def _with_digest(self, trigger: dict[str, Any], content: dict[str, Any]) -> dict[str, Any]:
        """``trigger.digest`` as clouddriver's settings would fill it (absent by default), or the trigger of Pub/Sub."""
        kind, repository = self.switches.digest, content["repository"]
        if kind == "absent" and not self.switches.pubsub_mode:
            return trigger
        manifest = self.images.digest(repository, content["tag"])
        if self.switches.pubsub_mode:
            return echo.announced(trigger, manifest)
        if kind == "config":
            return {**trigger, "digest": self.images.pull(repository, manifest).config_digest}
        return {**trigger, "digest": manifest if kind == "manifest" else f"sha256:{'0' * 64}"}

    @contextlib.asynccontextmanager
    async def running(self, ended: asyncio.Event) -> AsyncIterator[None]:
        """Brings back what was deployed unless it is ``ended`` meanwhile, polls the registry, and ends everything."""
        restoring, stopping = asyncio.create_task(self.production.restore()), asyncio.create_task(ended.wait())
        await asyncio.wait([restoring, stopping], return_when=asyncio.FIRST_COMPLETED)
        for task in (restoring, stopping):
            task.cancel()
        await asyncio.gather(restoring, stopping, return_exceptions=True)
        self.orca.resume_after_restart()
        polling = asyncio.create_task(self.igor.run())
        try:
            yield
        finally:
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
            await self.gate.aclose()
            await self.orca.aclose()
            await self.production.aclose()
            await self.igor.aclose()
            self.images.close()
            self.store.close()


def application(spinnaker: Spinnaker) -> FastAPI:
    """Gate's API, the page for people, and the sandbox's own routes."""
    app = FastAPI(title="Gate (sandbox)", docs_url=None, redoc_url=None)
    install(app, spinnaker.gate)
    for part in (gate_reads, gate_search, gate_actions, gate_configs):
        app.include_router(part.routes)

    @app.get("/", response_class=HTMLResponse)
    async def page() -> str:
        return render(spinnaker.production, spinnaker.store.newest_first()[:100])

    @app.get("/sandbox/production")
    async def deployed() -> JSONResponse:
        return JSONResponse(spinnaker.production.state())

    @app.post("/sandbox/switches")
    async def switch(values: Annotated[dict[str, Any], Body()]) -> JSONResponse:
        try:
            return JSONResponse(spinnaker.switches.set(values))
        except KeyError as error:
            return JSONResponse({"error": f"no switch {error}"}, 400)
        except TypeError as error:
            return JSONResponse({"error": str(error)}, 400)

    return app


async def serve(options: argparse.Namespace) -> None:
    """Runs both servers until SIGTERM or SIGINT."""
    spinnaker = Spinnaker(options.state, options.registry, options.pipelines, options.poll_interval)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    async with spinnaker.running(ended):
        servers = [
            _Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning", access_log=False,
                                   timeout_graceful_shutdown=DRAIN_SECONDS))
            for app, port in (
                (application(spinnaker), options.port),
                (proxy(spinnaker.production), options.serving_port),
            )
        ]  # fmt: skip
        running = [asyncio.create_task(server.serve()) for server in servers]
        stopping = asyncio.create_task(ended.wait())
        await asyncio.wait([*running, stopping], return_when=asyncio.FIRST_COMPLETED)
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*running, return_exceptions=True)
        stopping.cancel()


class _Server(uvicorn.Server):
    """A server beside another one: the signals are handled once, by `serve`."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leaves the signals alone."""
        yield


def main() -> int:
    """0 after an orderly end, 1 with one sentence when a port is taken."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.spinnaker", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--serving-port", type=int, required=True)
    parser.add_argument("--state", type=Path, required=True)
    parser.add_argument("--registry", required=True, help="host:port of the container registry")
    parser.add_argument("--pipelines", type=Path, required=True, help="folder of pipeline JSON files")
    parser.add_argument("--poll-interval", type=float, default=2.0, help="seconds between igor's looks")
    options = parser.parse_args()
    for port, variable in ((options.port, "SPINNAKER"), (options.serving_port, "SERVING")):
        if not port_is_free(port):
            print(f"spinnaker: port {port} is in use; set MLFLEET_{variable}_PORT to another one", file=sys.stderr)
            return 1
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s %(levelname)s %(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    asyncio.run(serve(options))
    return 0


if __name__ == "__main__":
    sys.exit(main())
