"""How often, how long and how patiently a call is tried."""

from __future__ import annotations

import email.utils
import random
from collections.abc import Callable
from dataclasses import dataclass

import httpx
import tenacity

from mlfleet.errors import RemoteError


@dataclass(frozen=True)
class Timeouts:
    """Seconds. ``connect`` to reach the server, ``read`` of silence from it, ``total`` for one whole attempt.

    ``total`` exists because a server that sends one byte every few seconds never runs into ``read``.
    """

    connect: float = 5.0
    read: float = 30.0
    total: float = 120.0

    def as_httpx(self) -> httpx.Timeout:
        """The same as httpx wants it."""
        return httpx.Timeout(connect=self.connect, read=self.read, write=self.read, pool=self.read)


@dataclass(frozen=True)
class RetryPolicy:
    """A budget: at most ``attempts`` calls, and none that would begin later than ``total_seconds`` after the first.

    The wait after attempt ``n`` is drawn evenly from ``[b/2, b]`` with ``b = min(max_wait, first_wait * 2**(n-1))``:
    exponential with jitter, so that many clients of a restarted server do not come back together.
    A ``Retry-After`` of the server replaces it; one that does not fit the budget ends the tries at once.
    """

    attempts: int = 5
    total_seconds: float = 60.0
    first_wait: float = 0.5
    max_wait: float = 15.0

    @classmethod
    def once(cls) -> RetryPolicy:
        """No second try."""
        return cls(attempts=1)

    def wait_for(self, attempt: int, error: BaseException | None, draw: Callable[[], float] = random.random) -> float:
        """Seconds to wait after ``attempt`` (counted from 1) ended with ``error``."""
        if isinstance(error, TryAgain) and error.error.retry_after is not None:
            return error.error.retry_after
        bound: float = min(self.max_wait, self.first_wait * 2 ** (attempt - 1))
        return bound * (0.5 + 0.5 * draw())

    def spent(self, attempt: int, elapsed: float, upcoming_wait: float) -> bool:
        """Whether another attempt would be over the budget."""
        return attempt >= self.attempts or elapsed + upcoming_wait > self.total_seconds


class TryAgain(Exception):
    """This attempt ended with ``error``, and sending the same call again is allowed."""

    def __init__(self, error: RemoteError) -> None:
        super().__init__(str(error))
        self.error = error


def retrying(
    policy: RetryPolicy,
    *,
    sleep: Callable[[float], object],
    clock: Callable[[], float],
    draw: Callable[[], float] = random.random,
) -> tenacity.AsyncRetrying:
    """Tenacity set up for ``policy``; only :class:`TryAgain` is tried again, and the last one is raised."""
    started = clock()

    def wait(state: tenacity.RetryCallState) -> float:
        error = state.outcome.exception() if state.outcome else None
        return policy.wait_for(state.attempt_number, error, draw)

    def stop(state: tenacity.RetryCallState) -> bool:
        return policy.spent(state.attempt_number, clock() - started, state.upcoming_sleep)

    return tenacity.AsyncRetrying(
        sleep=sleep,  # type: ignore[arg-type]  # tenacity's type does not know awaitables made of plain callables
        wait=wait,
        stop=stop,
        retry=tenacity.retry_if_exception_type(TryAgain),
        reraise=True,
    )


def retry_after_seconds(value: str | None, now: float) -> float | None:
    """Seconds of a ``Retry-After`` header, a number or an HTTP date (RFC 9110 10.2.3); None when absent or unreadable.

    ``now`` is the time since the epoch in seconds.
    """
    if not value:
        return None
    text = value.strip()
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return max(0.0, moment.timestamp() - now)
