"""The triggers that ours are compared with."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
from airflow.triggers.base import BaseTrigger, TriggerEvent

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
    """One request per trigger and interval, as the triggers of Databricks and of KFP do it.

    It is as frugal as that design can be: one session for all triggers, no look-up of a connection, no log.
    """

    def __init__(self, job_id: str, url: str, interval: float) -> None:
        super().__init__()
        self.job_id, self.url, self.interval = job_id, url, interval

    def serialize(self) -> tuple[str, dict[str, Any]]:
        arguments = {"job_id": self.job_id, "url": self.url, "interval": self.interval}
        return "waits.triggers.OneRequestTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        if Shared.session is None:
            Shared.session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=100))
        await asyncio.sleep(random.random() * self.interval)
        while True:
            async with Shared.session.get(self.url) as response:
                response.raise_for_status()
                run = await response.json()
            if run["state"] in FINAL:
                break
            await asyncio.sleep(self.interval)
        yield TriggerEvent({"outcome": "finished", "status": {"id": self.job_id, "native": run["state"]}})
