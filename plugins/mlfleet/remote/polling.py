"""One poll for all: everybody who waits on one connection shares its client and its requests.

A wait says when it wants its next look, and from when on it goes along if a request has room. When somebody is due, the
request is filled up to a hundred jobs with those who would be next. So 3,000 jobs cost 30 requests a round, and jobs
that were asked apart drift together by themselves.

Nobody is lost or asked twice when waits come and go in the middle of a round: a look is one future, taken out of the
queue exactly once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
import time
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from mlfleet.errors import AuthError, MlfleetError, RemoteError
from mlfleet.remote.job import JobStatus
from mlfleet.remote.protocol import RemoteSystem

BATCH = 100
# Requests of one connection that are under way at once.
PARALLEL = 4
MAX_REST = 60.0

Sleep = Callable[[float], Awaitable[None]]


@dataclass(frozen=True)
class Look:
    """What one look brought: the status (None: there is no such job), or why there is none.

    ``good_at`` is the epoch second of the last good answer while it was waited for (`Calm`), None for none.
    """

    status: JobStatus | None = None
    error: MlfleetError | None = None
    good_at: float | None = None


@dataclass(frozen=True)
class Calm:
    """Who waits for a change need not be told that there is none: the look goes on, every ``pause`` seconds.

    It ends when the status is another one than ``status``, with a failure, and with the first look after ``wake_at``
    (epoch seconds).
    """

    status: JobStatus
    pause: float
    wake_at: float


@dataclass(frozen=True)
class Wish:
    """When a look is wanted, in epoch seconds: at ``latest``; from ``soonest`` on if a request has room.

    After ``until`` waiting longer makes no sense: while the server is left alone after a failure, the look ends then
    with that failure.
    """

    soonest: float
    latest: float
    until: float | None = None
    calm: Calm | None = None


def again(now: float, pause: float, draw: float, until: float | None, calm: Calm | None = None) -> Wish:
    """The wish for a look ``pause`` seconds from now or up to a tenth later, but not after ``until``.

    ``draw`` is in [0, 1): who was asked together need not stay together. From half the pause on a look costs nothing
    where a request has room.
    """
    latest = now + pause * (1.0 + 0.1 * draw)
    if until is not None:
        latest = max(now, min(latest, until))
    return Wish(min(now + pause / 2, latest), latest, until, calm)


@dataclass(eq=False, slots=True)
class _Ask:
    job_id: str
    system: RemoteSystem
    wish: Wish
    answer: asyncio.Future[Look]
    good_at: float | None = None


@dataclass(eq=False, slots=True)
class _Group:
    """Who is due at the same time. Calm waits go on as the group that was asked together, in one step for all."""

    asks: list[_Ask]
    soonest: float
    latest: float


class SharedPoll:
    """One connection: its client, and a queue for each lane of jobs that can be asked together.

    ``connect`` makes a client with credentials read now; it is called for the first look and by :meth:`renew`.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Any]],
        *,
        now: Callable[[], float] = time.time,
        sleep: Sleep = asyncio.sleep,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._connect = connect
        self.now, self.sleep, self.draw = now, sleep, draw
        self.gate = asyncio.Semaphore(PARALLEL)
        self._connecting = asyncio.Lock()
        self._clients: list[Any] = []
        self._lanes: dict[Hashable, _Lane] = {}

    async def client(self) -> Any:
        """The client that all share. Raises ConfigError when the connection is gone."""
        if self._clients:
            return self._clients[-1]
        async with self._connecting:
            if not self._clients:
                self._clients.append(await self._connect())
            return self._clients[-1]

    async def renew(self, refused: Any) -> None:
        """Read the connection again, unless somebody did so since ``refused`` was made.

        The old client is kept until the end: a stop or a log may still be on its way through it.
        """
        async with self._connecting:
            if self._clients and self._clients[-1] is refused:
                self._clients.append(await self._connect())
                # Nobody may go on asking with the old credentials: their refusal would be everybody's in the request.
                for lane in self._lanes.values():
                    lane.disturb()

    async def look(self, job_id: str, system: RemoteSystem, wish: Wish) -> Look:
        """The job's next look, made for everybody in ``system``'s lane together."""
        lane = self._lanes.get(system.lane)
        if lane is None:
            lane = self._lanes[system.lane] = _Lane(self)
        return await lane.ask(job_id, system, wish)

    async def aclose(self) -> None:
        """End all rounds and close the clients."""
        for lane in self._lanes.values():
            await lane.close()
        clients, self._clients = self._clients, []
        for client in clients:
            await client.aclose()


class _Lane:
    """The queue of one lane. Its task lives as long as somebody is in the queue."""

    def __init__(self, poll: SharedPoll) -> None:
        self._poll = poll
        # Who leaves early is taken out without a search, and skipped when it is met in the queue.
        self._asks: set[_Ask] = set()
        self._queue: list[tuple[float, int, _Group]] = []
        self._numbers = itertools.count()
        self._wake = asyncio.Event()
        self._awake_at = 0.0
        self._task: asyncio.Task[None] | None = None
        self._failures = 0
        self._resting_until = 0.0
        self._last_error: MlfleetError | None = None

    async def ask(self, job_id: str, system: RemoteSystem, wish: Wish) -> Look:
        """The answer of the round that takes this along."""
        ask = _Ask(job_id, system, wish, asyncio.get_running_loop().create_future())
        self._put([ask], wish)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())
        elif wish.latest < self._awake_at:
            self._wake.set()
        try:
            return await ask.answer
        finally:
            self._asks.discard(ask)

    async def close(self) -> None:
        """End the round that is under way."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def disturb(self) -> None:
        """Answer those who wait calmly with what they know: they come back with the present client."""
        for ask in [ask for ask in self._asks if ask.good_at is not None]:
            self._asks.discard(ask)
            if ask.wish.calm is not None and not ask.answer.done():
                ask.answer.set_result(Look(ask.wish.calm.status))

    async def _run(self) -> None:
        while self._asks:
            now = self._poll.now()
            resting = self._resting_until > now
            if resting:
                self._give_up(now)
            following = self._next()
            due = following.latest if following else now
            if resting:
                ends = [ask.wish.until for ask in self._asks if ask.wish.until is not None]
                due = min([self._resting_until, *ends])
            if due > now:
                await self._pause(due)
            elif self._asks:
                await asyncio.gather(*(self._ask_all(batch) for batch in self._take(now)))

    async def _pause(self, until: float) -> None:
        """Sleep, or wake for somebody who came and wants to be looked at before."""
        self._wake.clear()
        self._awake_at = until
        loop = asyncio.get_running_loop()
        naps = [
            loop.create_task(_as_coroutine(self._poll.sleep(until - self._poll.now()))),
            loop.create_task(_as_coroutine(self._wake.wait())),
        ]
        try:
            await asyncio.wait(naps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for nap in naps:
                nap.cancel()
            self._awake_at = 0.0

    def _take(self, now: float) -> list[list[_Ask]]:
        """Takes out who goes along now, in batches of distinct jobs; who waits longest goes first."""
        chosen: list[_Ask] = []
        while group := self._next():
            room = -len(chosen) % BATCH if group.soonest <= now else 0
            if group.latest > now and not room:
                break
            heapq.heappop(self._queue)
            asks = [ask for ask in group.asks if ask in self._asks]
            if group.latest > now and len(asks) > room:
                self._push(_Group(asks[room:], group.soonest, group.latest))
                asks = asks[:room]
            chosen += asks
            self._asks.difference_update(asks)
        return _batches(chosen)

    def _put(self, asks: list[_Ask], wish: Wish) -> None:
        self._asks.update(asks)
        self._push(_Group(asks, wish.soonest, wish.latest))

    def _push(self, group: _Group) -> None:
        heapq.heappush(self._queue, (group.latest, next(self._numbers), group))

    def _next(self) -> _Group | None:
        """Who is due first."""
        while self._queue:
            group = self._queue[0][2]
            if any(ask in self._asks for ask in group.asks):
                return group
            heapq.heappop(self._queue)
        return None

    async def _ask_all(self, batch: Sequence[_Ask]) -> None:
        """One request; its failure is everybody's, but what one job alone is to blame for is that one's."""
        found: dict[str, JobStatus] = {}
        error: MlfleetError | None = None
        try:
            async with self._poll.gate:
                found = await batch[0].system.poll_many({ask.job_id: ask.system for ask in batch})
        except MlfleetError as exc:
            error = exc
        except Exception as exc:
            # A fault of ours must end in a task's log, not leave a hundred waits without an answer.
            error = RemoteError(batch[0].system.name, f"the answer could not be understood: {exc!r}")
        if error is not None and not error.retryable and not isinstance(error, AuthError) and len(batch) > 1:
            middle = len(batch) // 2
            await self._ask_all(batch[:middle])
            await self._ask_all(batch[middle:])
            return
        self._note(error)
        now = self._poll.now()
        calm: list[_Ask] = []
        for ask in batch:
            if ask.answer.done():
                continue
            status = found.get(ask.job_id)
            if error is not None:
                ask.answer.set_result(Look(error=error, good_at=ask.good_at))
            elif _is_calm(ask, status, now):
                ask.good_at = now
                calm.append(ask)
            else:
                ask.answer.set_result(Look(status))
        self._go_on(calm, now)

    def _go_on(self, asks: Sequence[_Ask], now: float) -> None:
        """The next look of those for whom nothing has changed; who may not wait so long goes alone."""
        draw = self._poll.draw()
        together: dict[float, list[_Ask]] = {}
        for ask in asks:
            until, pause = ask.wish.until, cast(Calm, ask.wish.calm).pause
            if until is not None and until < again(now, pause, draw, None).latest:
                self._put([ask], again(now, pause, draw, until))
            else:
                together.setdefault(pause, []).append(ask)
        for pause, group in together.items():
            self._put(group, again(now, pause, draw, None))

    def _note(self, error: MlfleetError | None) -> None:
        """After a failure the server is left alone for a while, longer each time, or for as long as it asked."""
        if error is None:
            self._failures, self._last_error = 0, None
            return
        if not error.retryable:
            return
        self._failures += 1
        self._last_error = error
        asked = error.retry_after if isinstance(error, RemoteError) else None
        rest = asked if asked is not None else min(MAX_REST, 2.0 ** min(self._failures, 6))
        self._resting_until = self._poll.now() + rest * (1.0 + 0.2 * self._poll.draw())

    def _give_up(self, now: float) -> None:
        for ask in [ask for ask in self._asks if ask.wish.until is not None and ask.wish.until <= now]:
            self._asks.discard(ask)
            if not ask.answer.done():
                ask.answer.set_result(Look(error=self._last_error, good_at=ask.good_at))


def _is_calm(ask: _Ask, status: JobStatus | None, now: float) -> bool:
    """Whether nothing has changed for somebody who wants to know of changes only."""
    calm = ask.wish.calm
    # Systems tell an unchanged job's status with the same object: comparing its fields would cost more than the rest.
    return calm is not None and now < calm.wake_at and (status is calm.status or status == calm.status)


def _batches(asks: list[_Ask]) -> list[list[_Ask]]:
    """At most a hundred distinct jobs each; a second wait for the same job has facts of its own, so it goes apart."""
    batches: list[list[_Ask]] = []
    while asks:
        distinct: dict[str, _Ask] = {}
        again = [ask for ask in asks if distinct.setdefault(ask.job_id, ask) is not ask]
        found = list(distinct.values())
        batches += [found[start : start + BATCH] for start in range(0, len(found), BATCH)]
        asks = again
    return batches


async def _as_coroutine(waiting: Awaitable[Any]) -> None:
    await waiting
