"""A process that is told to end has a last word: SIGTERM cancels its work and runs what must be done before."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, TypeVar

from mlfleet.errors import MlfleetError

T = TypeVar("T")
# What a shell says of a process that SIGTERM ended.
EXIT_CODE = 128 + signal.SIGTERM


class Terminated(MlfleetError):
    """SIGTERM came before the work was done; another try may carry on."""

    retryable = True

    def __str__(self) -> str:
        return "ended by SIGTERM before the job was at its end"


async def interruptible(work: Coroutine[Any, Any, T], last_word: Callable[[], Awaitable[None]]) -> T:
    """The result of ``work``. SIGTERM cancels it, then ``last_word`` is awaited; raises Terminated.

    Only in a process's main thread, which is where Python lets signals be handled.
    """
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    working, waiting = loop.create_task(work), loop.create_task(told.wait())
    try:
        await asyncio.wait({working, waiting}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        working.cancel()
        # It may end with an error of its own while it is being cancelled; there is no one left who wants to know.
        with contextlib.suppress(asyncio.CancelledError, MlfleetError):
            await working
        await last_word()
        raise Terminated
    finally:
        waiting.cancel()
        loop.remove_signal_handler(signal.SIGTERM)
