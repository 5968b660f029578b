"""A small HTTP proxy on loopback that stands between mlfleet and a server, and fails on demand.

With it every crash point can be reached without a hook in mlfleet: a request can be held before the server sees it, or
its answer held or lost after the server has committed. The first segment of a path is the *lane* (one per test case),
which the proxy takes off; rules belong to a lane, so that cases that run at the same time do not meet.
"""

from __future__ import annotations

import http.client
import re
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

# Headers that belong to one connection, not to the message.
_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host", "date", "server"})
_PATIENCE = 300.0  # a hold that nobody lets go of ends by itself, so that no thread outlives the tests


class Act(Enum):
    """What happens to the request that a rule picks."""

    HOLD_REQUEST = "held before the server sees it"
    HOLD_ANSWER = "committed by the server, its answer held"
    DROP_ANSWER = "committed by the server, the connection closed without an answer"
    ANSWER_500 = "committed by the server, answered with 500"
    REFUSE = "not passed on, the connection closed without an answer"


@dataclass
class Seen:
    """A request as it came in, and the server's answer (None before, or without one)."""

    method: str
    path: str
    body: bytes
    status: int | None = None


@dataclass
class Rule:
    """Picks the next ``count`` requests (None: all) of a lane whose method and path (with query) fit.

    ``arrived`` is set when the first one came in, ``committed`` when the server has answered it; what is held goes on
    after :meth:`let_go`.
    """

    act: Act
    method: str
    path: re.Pattern[str]
    count: int | None = 1
    arrived: threading.Event = field(default_factory=threading.Event)
    committed: threading.Event = field(default_factory=threading.Event)
    _released: threading.Event = field(default_factory=threading.Event)
    _pass_on: bool = True

    def wait(self, seconds: float = 120.0) -> None:
        """Until the request is where the rule wants it."""
        event = self.arrived if self.act in {Act.HOLD_REQUEST, Act.REFUSE} else self.committed
        assert event.wait(seconds), f"no {self.method} {self.path.pattern} came in {seconds:g} s to be {self.act.value}"

    def let_go(self, *, pass_on: bool = True) -> None:
        """What was held goes on; with ``pass_on`` False it never reaches its receiver."""
        self._pass_on = pass_on
        self._released.set()

    def hold(self) -> bool:
        """Waits for :meth:`let_go`; whether the message is to be passed on."""
        return self._released.wait(_PATIENCE) and self._pass_on


class Interposer:
    """The proxy in front of one server; starts at once, ends with :meth:`close`."""

    def __init__(self, upstream_port: int) -> None:
        self.upstream_port = upstream_port
        self._lock = threading.Lock()
        self._rules: dict[str, list[Rule]] = defaultdict(list)
        self._seen: dict[str, list[Seen]] = defaultdict(list)
        self._server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self.port = int(self._server.server_address[1])
        threading.Thread(target=self._server.serve_forever, args=(0.1,), daemon=True).start()

    def close(self) -> None:
        """No new requests; what is held is let go of and lost."""
        with self._lock:
            rules = [rule for found in self._rules.values() for rule in found]
        for rule in rules:
            rule.let_go(pass_on=False)
        self._server.shutdown()
        self._server.server_close()

    def rule(self, lane: str, act: Act, method: str, path: str, count: int | None = 1) -> Rule:
        """A new rule, behind the older ones of the lane. ``path`` is searched in the path without its lane."""
        rule = Rule(act, method, re.compile(path), count)
        with self._lock:
            self._rules[lane].append(rule)
        return rule

    def drop(self, lane: str, rule: Rule) -> None:
        """The rule picks nothing any more."""
        with self._lock:
            self._rules[lane].remove(rule)

    def requests(self, lane: str, method: str = "", path: str = "") -> list[Seen]:
        """The lane's requests so far."""
        with self._lock:
            found = list(self._seen[lane])
        return [seen for seen in found if method in ("", seen.method) and re.search(path, seen.path)]

    def note(self, lane: str, seen: Seen) -> Rule | None:
        """Writes a request down; the rule that picks it, if one does."""
        with self._lock:
            self._seen[lane].append(seen)
            for rule in self._rules[lane]:
                if rule.count != 0 and rule.method == seen.method and rule.path.search(seen.path):
                    rule.count = None if rule.count is None else rule.count - 1
                    return rule
        return None

    def forward(self, seen: Seen, headers: dict[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        """The server's answer; raises OSError or HTTPException when there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.upstream_port, timeout=120)
        try:
            connection.request(seen.method, seen.path, seen.body or None, headers)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        seen.status = answer.status
        return answer.status, [(k, v) for k, v in answer.getheaders() if k.lower() not in _HOP], body


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # A client that was killed leaves a broken pipe, which is the point of it all.
    handle_error: Any = lambda self, request, client_address: None


class _Handler(BaseHTTPRequestHandler):
    """One connection of a client; a subclass names the proxy."""

    proxy: ClassVar[Interposer]
    protocol_version = "HTTP/1.1"
    log_message: Callable[..., None] = lambda *_: None

    def pass_through(self) -> None:
        lane, _, rest = self.path.lstrip("/").partition("/")
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        seen = Seen(self.command, f"/{rest}", body)
        rule = self.proxy.note(lane, seen)
        act = rule.act if rule is not None else None
        if rule is not None:
            rule.arrived.set()
            if act is Act.REFUSE or (act is Act.HOLD_REQUEST and not rule.hold()):
                self.close_connection = True
                return
        self._ask(seen, rule)

    def _ask(self, seen: Seen, rule: Rule | None) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in _HOP}
        try:
            status, answered, content = self.proxy.forward(seen, headers)
        except (OSError, http.client.HTTPException):
            # The server is down: what the client sees is a connection that breaks.
            self.close_connection = True
            return
        if rule is not None:
            rule.committed.set()
            if rule.act is Act.DROP_ANSWER or (rule.act is Act.HOLD_ANSWER and not rule.hold()):
                self.close_connection = True
                return
            if rule.act is Act.ANSWER_500:
                status, answered, content = 500, [("Content-Type", "application/json")], b'{"message": "oops"}'
        self._answer(status, answered, content)

    def _answer(self, status: int, headers: list[tuple[str, str]], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = pass_through
