"""Igor's docker monitor: polls the registry's tags and tells echo about the new ones, once ever.

Semantics of DockerMonitor with ``trackDigests=false`` (reference spinnaker.md, 3.3): a tag is seen for ever; the first
tags of an account that nothing is known of are indexed without firing; above the threshold the whole cycle is rejected;
a tag counts as seen before the event is posted, so a lost event is lost for good.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import httpx

from sandbox.spinnaker.model import Store
from sandbox.spinnaker.switches import Switches

ACCOUNT = "sandbox-registry"
log = logging.getLogger("igor")
Event = dict[str, Any]


class DockerMonitor:
    """Polls every ``interval`` seconds; ``post`` is echo."""

    def __init__(self, registry: str, store: Store, switches: Switches, interval: float,
                 post: Callable[[Event], Awaitable[None]]) -> None:  # fmt: skip
        self._registry = registry
        self._http = httpx.AsyncClient(base_url=f"http://{registry}", timeout=10, trust_env=False)
        self._store = store
        self._switches = switches
        self._interval = interval
        self._post = post
        self._seen: set[str] = set(store.get("igor.seen", []))

    async def run(self) -> None:
        """Polls until cancelled; a registry that is down is tried again at the next cycle."""
        while True:
            try:
                await self.cycle()
            except (httpx.HTTPError, ValueError, AttributeError) as error:  # down, or no registry at all
                log.warning("the registry can't be listed: %s", error)
            await asyncio.sleep(self._interval)

    async def cycle(self) -> None:
        """One look at all tags of the registry."""
        if self._switches.empty_cache:
            self._switches.empty_cache = False
            self._seen = set()
        tags = await self._tags()
        new = [(repository, tag) for repository, tag in tags if f"{ACCOUNT}:{repository}:{tag}" not in self._seen]
        if not new:
            return
        if len(new) > self._switches.threshold:
            log.error("%d new tags of %s exceed the threshold of %d: nothing is processed", len(new), ACCOUNT,
                      self._switches.threshold)  # fmt: skip
            return
        fire = bool(self._seen)
        self._seen |= {f"{ACCOUNT}:{repository}:{tag}" for repository, tag in new}
        self._store.put("igor.seen", sorted(self._seen))
        if not fire or self._switches.tag_seen_before:
            log.info("%d tags of %s indexed, none fired", len(new), ACCOUNT)
            return
        for repository, tag in new:
            await self._fire(repository, tag)

    async def _fire(self, repository: str, tag: str) -> None:
        if self._switches.latency_s:
            await asyncio.sleep(self._switches.latency_s)
        if self._switches.echo_drop:
            log.error("posting %s:%s to echo failed", repository, tag)
            return
        await self._post({
            "content": {"account": ACCOUNT, "registry": self._registry, "repository": repository, "tag": tag,
                        "digest": None},
            "details": {"type": "docker", "source": "igor"},
        })  # fmt: skip

    async def _tags(self) -> list[tuple[str, str]]:
        catalog = (await self._http.get("/v2/_catalog", params={"n": 1000})).raise_for_status().json()
        found = []
        for repository in catalog.get("repositories") or []:
            answer = await self._http.get(f"/v2/{repository}/tags/list")
            if answer.status_code == httpx.codes.NOT_FOUND:  # every tag of it was deleted
                continue
            found += [(repository, tag) for tag in answer.raise_for_status().json().get("tags") or []]
        return found

    async def aclose(self) -> None:
        """Closes connections."""
        await self._http.aclose()
