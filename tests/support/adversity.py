"""Bad luck on order: a clock that only sleeping moves, a network and a record store that fail where a test says.

A kill -9 is :class:`Kill`, raised out of the call at which the process dies: nothing of mlfleet catches it, so whatever
the process had in its memory is gone, and what servers and the record store hold stays.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import httpx

from mlfleet.remote.record import Record

# What one call takes, and how long a client waits for an answer that does not come (clients.retry.Timeouts.read).
LATENCY = 0.05
READ_TIMEOUT = 30.0
# The epoch (tests.support.truth) of what nobody can have foreseen: it is reaped when an entry sees it.
NOBODY = -1


class Kill(BaseException):
    """The process dies here."""


class Endless(AssertionError):
    """Something went on for longer than it may."""


class Clock:
    """Epoch seconds; `at` plans something for later, `limit` is when an entry must have come to its end."""

    def __init__(self, now: float = 1_800_000_000.0) -> None:
        self.now = now
        self.limit = float("inf")
        self._planned: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def __call__(self) -> float:
        return self.now

    def at(self, when: float, what: Callable[[], object]) -> None:
        heapq.heappush(self._planned, (when, next(self._order), what))

    def after(self, seconds: float, what: Callable[[], object]) -> None:
        self.at(self.now + seconds, what)

    def advance(self, seconds: float) -> None:
        until = self.now + seconds
        while self._planned and self._planned[0][0] <= until:
            when, _, what = heapq.heappop(self._planned)
            self.now = max(self.now, when)
            what()
        self.now = max(self.now, until)

    async def sleep(self, seconds: float) -> None:
        self.advance(max(seconds, 0.001))
        if self.now > self.limit:
            raise Endless(f"still not at its end {self.now - self.limit:.0f} s after the limit")


class What(StrEnum):
    """What happens to one call."""

    KILL_BEFORE = "the process dies before the call is sent"
    KILL_AFTER = "the process dies after the server has done its part"
    LOST_ANSWER = "the server does its part, the answer is lost"
    LOST_REQUEST = "the call does not arrive, the client waits for an answer"
    SLOW_LIST = "the call is answered, and lists show some seconds later what it made"
    LATE = "the connection breaks, the server does its part some seconds later"
    KILL_LATE = "the process dies, the server does its part some seconds later"
    REFUSED = "the connection is refused"
    TWICE = "a proxy delivers the call twice"
    TWICE_LATE = "a proxy delivers the call, and once more some seconds later"
    BROKEN = "a gateway answers 502 after the server has done its part"
    HTML = "a page of HTML comes in place of the answer"
    BUSY = "429 with Retry-After"
    BURST = "503 for some seconds"
    HALF = "the server dies in the middle of its part, and comes back some seconds later"


class Of(StrEnum):
    """Which calls of a process are counted."""

    ALL = "all calls"
    WRITES = "calls that change something"
    CREATES = "calls that make a job"


@dataclass(frozen=True)
class Fault:
    """`what` happens to the `call`-th call (`of` that kind) of a process; `delay` are the "some seconds"."""

    call: int
    what: What
    delay: float = 5.0
    of: Of = Of.ALL


class Server(Protocol):
    """An in-memory model of a system at the wire."""

    patience: float
    """The longest delay after which the system may still do its part (the adapter's ``lookup_grace``)."""

    twins_work: bool
    """Whether a create that comes twice makes two jobs that work."""

    epoch: int
    """Whose work a call is."""

    def handle(self, request: httpx.Request, late: float = 0.0, unlisted: float = 0.0) -> httpx.Response:
        """Answers; what the call changes is committed `late` seconds from now, and lists show it `unlisted` later."""
        ...

    def halve(self, request: httpx.Request) -> None:
        """Begins with the call and dies in the middle."""
        ...

    def restart(self) -> None:
        """What is not committed is lost."""
        ...


class Wire(httpx.AsyncBaseTransport):
    """The network between a process and a server: `faults` by the number of the call, `hooks` run before a call."""

    def __init__(self, server: Server, clock: Clock) -> None:
        self.server, self.clock = server, clock
        self.faults: Mapping[tuple[int, Of], Fault] = {}
        self.hooks: dict[int, Callable[[], object]] = {}
        self.calls: list[str] = []
        self.counts: Counter[Of] = Counter()
        self.down_until = 0.0
        self.busy_until = 0.0
        self.doubled: list[str] = []

    def begin(self, faults: tuple[Fault, ...] = ()) -> None:
        """A process begins."""
        self.faults = {(fault.call, fault.of): fault for fault in faults}
        self.calls, self.counts = [], Counter()

    def quiet(self) -> None:
        """Good weather from here on."""
        self.begin()
        self.hooks.clear()
        self.down_until = self.busy_until = 0.0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        number = len(self.calls)
        self.calls.append(f"{request.method} {request.url.raw_path.decode()}")
        if number > 5000:
            raise Endless("five thousand calls")
        self.clock.advance(LATENCY)
        if number in self.hooks:
            self.hooks.pop(number)()
        fault = self._fault(request)
        if fault is not None:
            return self._fail(fault, request)
        if self.clock.now < self.down_until:
            raise httpx.ConnectError("refused", request=request)
        if self.clock.now < self.busy_until:
            return httpx.Response(503, text="not now")
        return self.server.handle(request)

    def _fault(self, request: httpx.Request) -> Fault | None:
        kinds = [Of.ALL]
        if request.method != "GET":
            kinds.append(Of.WRITES)
        if is_create(request):
            kinds.append(Of.CREATES)
        found = [self.faults[self.counts[of], of] for of in kinds if (self.counts[of], of) in self.faults]
        self.counts.update(kinds)
        return found[-1] if found else None

    def _fail(self, fault: Fault, request: httpx.Request) -> httpx.Response:
        what, delay = fault.what, min(fault.delay, self.server.patience)
        if what is What.KILL_BEFORE:
            raise Kill
        if what is What.REFUSED:
            raise httpx.ConnectError("refused", request=request)
        if what is What.LOST_REQUEST:
            self._no_answer(request)
        if what is What.BUSY:
            return httpx.Response(429, headers={"Retry-After": f"{delay:.0f}"}, text="slow down")
        if what is What.BURST:
            self.busy_until = self.clock.now + fault.delay
            return httpx.Response(503, text="not now")
        if what is What.HALF:
            self.server.halve(request)
            self.server.restart()
            self.down_until = self.clock.now + fault.delay
            raise httpx.RemoteProtocolError("the server went away", request=request)
        if what is What.SLOW_LIST:
            return self.server.handle(request, unlisted=delay)
        if what in {What.LATE, What.KILL_LATE}:
            self.server.handle(request, late=delay)
            if what is What.KILL_LATE:
                raise Kill
            raise httpx.RemoteProtocolError("the connection broke", request=request)
        return self._done(what, delay, request)

    def _done(self, what: What, delay: float, request: httpx.Request) -> httpx.Response:
        """The server did its part; something else is wrong."""
        answer = self.server.handle(request)
        if what is What.KILL_AFTER:
            raise Kill
        if what is What.LOST_ANSWER:
            self._no_answer(request)
        if what is What.BROKEN:
            return httpx.Response(502, text="bad gateway")
        if what is What.HTML:
            return httpx.Response(200, html="<html><body>Sign in</body></html>")
        self.doubled.append(f"{request.method} {request.url.path}")
        self._once_more(request, 0.0 if what is What.TWICE else delay)
        return answer

    def _once_more(self, request: httpx.Request, late: float) -> None:
        """A copy that nobody can have foreseen: a job of its own, or what revives one long after it was asked for."""
        now = self.server.epoch
        if self.server.twins_work or (late and not is_create(request)):
            self.server.epoch = NOBODY
        self.server.handle(request, late=late)
        self.server.epoch = now

    def _no_answer(self, request: httpx.Request) -> None:
        self.clock.advance(READ_TIMEOUT)
        raise httpx.ReadTimeout("no answer", request=request)


def is_create(request: httpx.Request) -> bool:
    """Whether a call makes a job."""
    path = request.url.path
    return request.method == "POST" and (path.endswith(("/runs", "/builds")) or path.startswith("/pipelines/"))


@dataclass
class Records:
    """The record of one task. The process dies at the `kill_at`-th save, `before` or after its effect."""

    record: Record | None = None
    kill_at: int | None = None
    before: bool = True
    saves: int = field(default=0)

    def begin(self, kill_at: int | None = None, before: bool = True) -> None:
        """A process begins."""
        self.kill_at, self.before, self.saves = kill_at, before, 0

    def load(self) -> Record | None:
        # Through JSON, as the real store does it.
        return Record.from_json(self.record.as_json()) if self.record else None

    def save(self, record: Record) -> None:
        dies = self.saves == self.kill_at
        self.saves += 1
        if dies and self.before:
            raise Kill
        self.record = record
        if dies:
            raise Kill
