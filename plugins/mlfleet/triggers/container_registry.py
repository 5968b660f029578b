"""Waits for an image tag in a registry."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from mlfleet.errors import MlfleetError
from mlfleet.hooks.container_registry import ContainerRegistryHook
from mlfleet.remote.watching import PATIENCE


class ImageTrigger(BaseTrigger):
    """Fires ``{"outcome": "finished", "repository", "tag", "digest"}`` once the tag is there.

    With ``digest`` it waits until the tag points to exactly that one. Other outcomes, each with ``error``: "timeout"
    after ``deadline`` (epoch seconds), "gave_up" when the registry could not be asked for 15 minutes, "refused".
    No event is fired before the epoch second ``not_before`` (triggers.events.earliest_event).
    """

    def __init__(
        self,
        *,
        conn_id: str,
        repository: str,
        tag: str,
        digest: str | None = None,
        deadline: float | None = None,
        poll_interval: float = 10.0,
        not_before: float = 0.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.conn_id, self.repository, self.tag, self.digest = conn_id, repository, tag, digest
        self.deadline, self.poll_interval, self.not_before = deadline, poll_interval, not_before

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The import path of the class and the arguments of its constructor."""
        return f"{type(self).__module__}.{type(self).__qualname__}", {
            "conn_id": self.conn_id,
            "repository": self.repository,
            "tag": self.tag,
            "digest": self.digest,
            "deadline": self.deadline,
            "poll_interval": self.poll_interval,
            "not_before": self.not_before,
        }

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire one event."""
        try:
            event = await self._wait()
        except MlfleetError as exc:
            event = {"outcome": "refused", "error": str(exc)}
        await asyncio.sleep(max(0.0, self.not_before - time.time()))
        yield TriggerEvent(event)  # type: ignore[no-untyped-call]

    async def _wait(self) -> dict[str, Any]:
        last_good = time.time()
        async with await ContainerRegistryHook(self.conn_id).aclient() as client:
            while True:
                try:
                    found = await client.head_manifest(self.repository, self.tag)
                    last_good = time.time()
                except MlfleetError as exc:
                    if not exc.retryable:
                        raise
                    if time.time() - last_good > PATIENCE:
                        return {"outcome": "gave_up", "error": str(exc)}
                    self.log.info("%s; asking again", exc)
                    found = None
                if found is not None and self.digest in {None, found.digest}:
                    image = {"repository": self.repository, "tag": self.tag, "digest": found.digest}
                    return {"outcome": "finished", **image}
                if self.deadline is not None and time.time() >= self.deadline:
                    seen = f"it points to {found.digest}" if found else "there is no such tag"
                    error = f"{self.repository}:{self.tag} did not appear before the deadline; {seen}"
                    return {"outcome": "timeout", "error": error}
                await asyncio.sleep(self.poll_interval)
