"""How much all waits of one process may say together.

A triggerer passes about 4 KB of log per round of its supervisor, for all its triggers; what does not fit blocks its
event loop (airflow.md 2.1). And a log is read with requests of its own, so reading 3,000 of them each round would undo
what polling together saves.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable

# Airflow writes two or three records of its own for each trigger, within the same 50 a second.
RECORDS_PER_SECOND = 40.0
TAILS_PER_SECOND = 10.0


class LogBudget:
    """Shared by all waits of a process: records are counted in a bucket, tails are spread over the waits."""

    def __init__(
        self,
        records: float = RECORDS_PER_SECOND,
        tails: float = TAILS_PER_SECOND,
        *,
        now: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._rate, self._tails = records, tails
        self._now, self._sleep, self._draw = now, sleep, draw
        self._room, self._counted_at = records, now()
        self.waits = 0

    def tail_pause(self, interval: float) -> float:
        """Seconds until the same log is read again: ``interval``, or more when many wait."""
        return max(interval, self.waits / self._tails) * (0.8 + 0.4 * self._draw())

    def first_pause(self) -> float:
        """Seconds until a log is first read: none, unless many waits begin together."""
        return max(0.0, self.waits / self._tails - 1.0) * self._draw()

    def take(self) -> bool:
        """Whether a record may be written now; if so, it counts."""
        self._refill()
        if self._room < 1.0:
            return False
        self._room -= 1.0
        return True

    async def wait(self) -> None:
        """Until a record may be written that must be."""
        self._refill()
        self._room -= 1.0
        if self._room < 0.0:
            await self._sleep(-self._room / self._rate)

    def _refill(self) -> None:
        now = self._now()
        self._room = min(self._rate, self._room + (now - self._counted_at) * self._rate)
        self._counted_at = now
