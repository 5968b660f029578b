"""The triggers that ours are compared with."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import tenacity
from airflow.triggers.base import BaseTrigger, TriggerEvent

# As long as the one that a provider sends.
AGENT = "databricks-airflow/7.23.0 _/0.0.0 python/3.11.7 os/linux airflow/3.3.2 operator/SubmitRun"
FINAL = frozenset({"SUCCEEDED", "FAILED", "SKIPPED", "CANCELED"})


class Shared:
    """What all triggers of the process have in common."""

    session: aiohttp.ClientSession | None = None
    gate: asyncio.Task[None] | None = None


class SleepingTrigger(BaseTrigger):
    """Does nothing until the file ``gate`` exists: what Airflow itself costs, and how fast it stores events."""

    def __init__(self, job_id: str, gate: str) -> None:
        super().__init__()
        self.job_id, self.gate = job_id, gate

    def serialize(self) -> tuple[str, dict[str, Any]]:
        return "waits.triggers.SleepingTrigger", {"job_id": self.job_id, "gate": self.gate}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if Shared.gate is None:
            Shared.gate = asyncio.create_task(_opened(self.gate))
        await asyncio.shield(Shared.gate)
        yield TriggerEvent({"outcome": "finished", "status": {"id": self.job_id}})


async def _opened(gate: str) -> None:
    while not Path(gate).exists():  # noqa: ASYNC240
        await asyncio.sleep(0.5)


class OneRequestTrigger(BaseTrigger):
    """One request per trigger and interval, each on its own, as the providers' triggers do it.

    After ``DatabricksExecutionTrigger`` of apache-airflow-providers-databricks 7.23.0: a session of its own that stays
    open, a retry object, authorization, headers and time-out for each call, the state as an object. Left out is its
    line in the task's log after each look: with thousands that is more than a triggerer passes on, and they would fall
    behind. (The google provider's trigger for pipelines even makes a new client for each look.)
    """

    def __init__(self, job_id: str, url: str, interval: float) -> None:
        super().__init__()
        self.job_id, self.url, self.interval = job_id, url, interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        kind = type(self)
        arguments = {"job_id": self.job_id, "url": self.url, "interval": self.interval}
        return f"{kind.__module__}.{kind.__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        async with self.session() as session:
            await asyncio.sleep(random.random() * self.interval)
            while (state := await self.state(session)) not in FINAL:
                await asyncio.sleep(self.interval)
        yield TriggerEvent({"outcome": "finished", "status": {"id": self.job_id, "native": state}})

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        async with aiohttp.ClientSession() as session:
            yield session

    async def state(self, session: aiohttp.ClientSession) -> str:
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(3),
            wait=tenacity.wait_exponential(min=10, max=8),
            retry=tenacity.retry_if_exception(lambda error: isinstance(error, (aiohttp.ClientError, TimeoutError))),
        )
        headers = {"user-agent": AGENT, "Authorization": "Bearer a-token-of-forty-characters-0123456789"}
        async for attempt in retrying:
            with attempt:
                async with session.get(
                    self.url, json=None, headers=headers, timeout=aiohttp.ClientTimeout(180)
                ) as response:
                    response.raise_for_status()
                    run = await response.json()
        return str(run["state"])


class FrugalTrigger(OneRequestTrigger):
    """The same as frugal as it can be, which no provider is: one session for all triggers and nothing else."""

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[aiohttp.ClientSession]:
        if Shared.session is None:
            Shared.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100))
        yield Shared.session

    async def state(self, session: aiohttp.ClientSession) -> str:
        async with session.get(self.url) as response:
            response.raise_for_status()
            run = await response.json()
        return str(run["state"])
