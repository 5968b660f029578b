"""Deployment repositories of many projects, and a wire that fails where a test wants it to."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from mlfleet.clients.retry import RetryPolicy
from mlfleet.fleet.apply import Applied, Outcome, apply_steps, steps_of
from mlfleet.fleet.connecting import Wire
from mlfleet.fleet.preparing import Prepared, prepare_environment
from mlfleet.manifest.loading import Repository

PIPELINE = """\
from kfp import dsl


@dsl.pipeline(name="{name}-training")
def train(n: int = 1):
    pass
"""
POLYAXONFILE = 'version: 1.1\nkind: component\nrun: {kind: job, container: {command: ["true"]}}\n'
MANIFEST = """\
kind: Project
name: {name}
description: {description}
owners: [{{github: "@acme/{team}", email: "p@example.com"}}]
experiments: [{experiments}]
training:
  polyaxon: {{polyaxonfile: polyaxonfile.yaml}}
  kfp: {{pipeline: "pipeline.py:train"}}
"""


@dataclass
class FleetRepository:
    """A deployment repository; ``mark`` is the environment's ``fleet``, so that tests share servers."""

    root: Path
    mark: str
    environment: str = ""

    def __post_init__(self) -> None:
        for folder in ("projects", "environments", "pipelines"):
            (self.root / "include" / folder).mkdir(parents=True, exist_ok=True)
        self.say_environment(self.environment)

    def say_environment(self, more: str) -> None:
        """Writes include/environments/dev.yaml."""
        text = f"name: dev\nfleet: {self.mark}\n{more}"
        (self.root / "include" / "environments" / "dev.yaml").write_text(text)

    def manifest(self, name: str) -> Path:
        return self.root / "include" / "projects" / f"{name}.yaml"

    def add(
        self, name: str, experiments: Sequence[str] = ("default", "other"), description: str = "", more: str = ""
    ) -> None:
        """A project that trains with both systems."""
        folder = self.root / "include" / "pipelines" / name
        folder.mkdir(exist_ok=True)
        (folder / "pipeline.py").write_text(PIPELINE.format(name=name))
        (folder / "polyaxonfile.yaml").write_text(POLYAXONFILE)
        told = ", ".join(f"{{name: {json.dumps(experiment, ensure_ascii=False)}}}" for experiment in experiments)
        text = MANIFEST.format(
            name=name, team="pricing", experiments=told, description=description or f"What {name} is"
        )
        self.manifest(name).write_text(text + more)

    def prepared(self, wire: Wire) -> Prepared:
        return prepare_environment(Repository(self.root), "dev", wire)


def connections(**urls: str) -> dict[str, str]:
    """Environment variables for systems at these addresses, called ``<system>_default``."""
    return {
        f"AIRFLOW_CONN_{system.upper()}_DEFAULT": json.dumps({"conn_type": system, "host": url})
        for system, url in urls.items()
    }


def apply_repository(root: Path, wire: Wire, prune: bool = False) -> Applied:
    """What `mlfleet apply` does in development; every step must succeed."""
    prepared = prepare_environment(Repository(root), "dev", wire)
    applied = steps_of(prepared.plan(), prune=prune)
    asyncio.run(apply_steps(applied, prepared.systems))
    assert len(applied.of(Outcome.DONE)) == len(applied.steps), applied.steps
    return applied


class Crash(BaseException):
    """The process is killed: nothing may catch this."""


Hook = Callable[[int, httpx.Request, Callable[[], Awaitable[httpx.Response]]], Awaitable[httpx.Response]]


@dataclass
class Between(httpx.AsyncBaseTransport):
    """The network with a hook in between, which may answer itself; ``requests`` are all that were sent by clients."""

    hook: Hook | None = None
    requests: list[httpx.Request] = field(default_factory=list)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        number = len(self.requests)
        self.requests.append(request)

        async def send() -> httpx.Response:
            # A connection for each: clients close their transport, and these share one.
            async with httpx.AsyncHTTPTransport() as network:
                answer = await network.handle_async_request(request)
                await answer.aread()
            kept = [(k, v) for k, v in answer.headers.raw if k.lower() not in {b"content-length", b"content-encoding"}]
            return httpx.Response(answer.status_code, headers=kept, content=answer.content)

        return await (self.hook(number, request, send) if self.hook else send())

    @property
    def writes(self) -> list[str]:
        return [f"{each.method} {each.url.path}" for each in self.requests if each.method != "GET"]


def wire_to(urls: dict[str, str], transport: httpx.AsyncBaseTransport | None = None) -> Wire:
    """A wire to these systems on which nothing is tried twice."""
    return Wire(connections(**urls), transport, RetryPolicy.once())
