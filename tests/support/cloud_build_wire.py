"""A Cloud Build server in memory, behind the real client, with the windows in which one can't see what it has done.

Time is the injected clock; nothing happens by itself. The windows of the real system:

* a create commits and its answer is lost (`lose_answers`), or it is lost itself and the caller can't tell
  (`swallow_creates`); or the server refuses (`refuse`), a 503 among it;
* the list shows every build, and every change of one, `list_lag` seconds late, while GET knows it at once;
* two creates make two builds, also when somebody on the way sends one twice (`double_creates`);
* the list comes in pages, newest first.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import httpx

from mlfleet.clients.cloud_build import BASE, CloudBuildClient
from mlfleet.clients.http import HttpClient
from mlfleet.remote.job import JobKey
from mlfleet.systems.cloud_build import CloudBuildSystem, key_tag

PROJECT, LOCATION = "ml-prod", "europe-west1"
BUILD = {"steps": [{"name": "gcr.io/kaniko-project/executor", "id": "kaniko"}], "images": ["eu.test/churn:build-1"]}

_PATH = re.compile(r"/v1/(projects/[^/]+/locations/[^/]+)/builds(?:/([^/:]+)(:cancel)?)?")
_FINAL = {"SUCCESS", "FAILURE", "INTERNAL_ERROR", "TIMEOUT", "CANCELLED", "EXPIRED"}
_FIELDS = {"build_id": "id", "status": "status", "create_time": "createTime"}
_ALLOWED_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_WORDS = {400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 429: "RESOURCE_EXHAUSTED"}


@dataclass
class Stored:
    """A build of `parent`; `states` are its JSON after every change with the second of it, the newest last."""

    parent: str
    states: list[tuple[float, dict[str, Any]]]

    @property
    def now(self) -> dict[str, Any]:
        return self.states[-1][1]

    @property
    def live(self) -> bool:
        return self.now["status"] not in _FINAL

    def at(self, second: float) -> dict[str, Any] | None:
        return next((build for when, build in reversed(self.states) if when <= second), None)


@dataclass
class CloudBuildWire(httpx.AsyncBaseTransport):
    """`clock` gives epoch seconds.

    `lose_answers`, `swallow_creates` and `double_creates` are for so many of the next creates; `refuse` are the
    statuses of the next requests of any kind, which have no effect then.
    `creates` counts the builds that were committed, `requests` is what came.
    """

    clock: Callable[[], float]
    list_lag: float = 0.0
    lose_answers: int = 0
    swallow_creates: int = 0
    double_creates: int = 0
    refuse: list[int] = field(default_factory=list)
    largest_page: int = 1000
    builds: dict[str, Stored] = field(default_factory=dict)
    requests: list[httpx.Request] = field(default_factory=list)

    # What a test asks and does

    @property
    def creates(self) -> int:
        return len(self.builds)

    @property
    def lists(self) -> list[httpx.Request]:
        return [request for request in self.requests if _is_list(request)]

    def live(self, key: JobKey) -> list[str]:
        """The unfinished builds of `key`, oldest first, as they really are."""
        tag = key_tag(key)
        found = [build.now for build in self.builds.values() if build.live and tag in build.now.get("tags", [])]
        return [build["id"] for build in sorted(found, key=lambda build: (build["createTime"], build["id"]))]

    def finish(self, build_id: str, status: str = "SUCCESS", **more: Any) -> None:
        """Give a build its next status, a final one or not; a finished build stays as it is."""
        build = self.builds[build_id]
        if not build.live:
            return
        if status in _FINAL:
            more = {"finishTime": self._time(), **more}
        if status == "SUCCESS":
            more.setdefault("results", {"images": [_pushed(name) for name in build.now.get("images", [])]})
        build.states.append((self.clock(), {**build.now, "status": status, **more}))

    def system(
        self, sleep: Callable[[float], Awaitable[None]], project_id: str = PROJECT, location: str = LOCATION
    ) -> CloudBuildSystem:
        """The real system with the real client; for one event loop."""
        http = HttpClient(BASE, system="cloud_build", transport=self, sleep=sleep, clock=self.clock, draw=lambda: 1.0)
        return CloudBuildSystem(CloudBuildClient(http), project_id, location)

    # The server

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        self.requests.append(request)
        if self.refuse:
            return _error(self.refuse.pop(0), "not now")
        return self._answer(request)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        found = _PATH.fullmatch(request.url.path)
        if not found:
            return httpx.Response(404, html="<html>nothing here</html>")
        parent, build_id, verb = found.groups()
        if build_id is None:
            return self._list(parent, _query(request)) if _is_list(request) else self._create(parent, request)
        build = self.builds.get(build_id)
        if build is None or build.parent != parent:
            return _error(404, "Requested entity was not found.")
        if verb:
            if not build.live:
                return _error(400, "build is finished", "FAILED_PRECONDITION")
            self.finish(build_id, "CANCELLED")
        return httpx.Response(200, json=build.now)

    def _create(self, parent: str, request: httpx.Request) -> httpx.Response:
        if self.swallow_creates:
            self.swallow_creates -= 1
            raise httpx.ReadTimeout("the request was lost", request=request)
        try:
            body = json.loads(request.content)
        except ValueError:
            return _error(400, "Invalid JSON payload received.")
        if not body.get("steps"):
            return _error(400, "invalid build: a build must have steps")
        for tag in body.get("tags", []):
            if not _ALLOWED_TAG.fullmatch(tag):
                return _error(400, f'invalid build: invalid build tag "{tag}"')
        build = self._commit(parent, body)
        if self.double_creates:
            self.double_creates -= 1
            build = self._commit(parent, body)
        if self.lose_answers:
            self.lose_answers -= 1
            raise httpx.ReadTimeout("the answer was lost", request=request)
        return httpx.Response(200, json={"name": f"operations/build/{build['id']}", "metadata": {"build": build}})

    def _commit(self, parent: str, body: dict[str, Any]) -> dict[str, Any]:
        # Not in the order in which they are made: real ids are random.
        digest = hashlib.sha256(str(len(self.builds)).encode()).hexdigest()
        build_id = f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"
        own = {"id": build_id, "name": f"{parent}/builds/{build_id}", "status": "QUEUED", "createTime": self._time()}
        self.builds[build_id] = Stored(parent, [(self.clock(), {**body, **own})])
        return self.builds[build_id].now

    def _list(self, parent: str, query: dict[str, str]) -> httpx.Response:
        try:
            fits = _filter(query.get("filter", ""))
            start = int(query.get("pageToken") or 0)
            size = min(int(query.get("pageSize") or 50), self.largest_page)
        except (KeyError, ValueError) as exc:
            return _error(400, f"Request contains an invalid argument: {exc}")
        until = self.clock() - self.list_lag
        shown = [build.at(until) for build in self.builds.values() if build.parent == parent]
        rows = [row for row in reversed(shown) if row is not None and fits(row)]
        rows.sort(key=lambda row: row["createTime"], reverse=True)
        answer: dict[str, Any] = {"builds": rows[start : start + size]} if rows[start:] else {}
        if rows[start + size :]:
            answer["nextPageToken"] = str(start + size)
        return httpx.Response(200, json=answer)

    def _time(self) -> str:
        return datetime.fromtimestamp(self.clock(), UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _is_list(request: httpx.Request) -> bool:
    method = request.headers.get("x-http-method-override", request.method)
    return bool(method == "GET" and request.url.path.endswith("/builds"))


def _query(request: httpx.Request) -> dict[str, str]:
    text = request.content if request.method == "POST" else request.url.query
    return dict(parse_qsl(text.decode(), strict_parsing=True)) if text else {}


def _filter(text: str) -> Callable[[dict[str, Any]], bool]:
    """`A AND (B OR C)`, without parentheses inside parentheses; OR binds closer than AND (AIP-160)."""
    groups = [_any(part.strip().removeprefix("(").removesuffix(")")) for part in text.split(" AND ") if part.strip()]
    return lambda build: all(group(build) for group in groups)


def _any(text: str) -> Callable[[dict[str, Any]], bool]:
    terms = [_term(part.strip()) for part in text.split(" OR ")]
    return lambda build: any(term(build) for term in terms)


def _term(text: str) -> Callable[[dict[str, Any]], bool]:
    found = re.fullmatch(r'(\w+)=(".*")', text)
    if not found:
        raise ValueError(text)
    wanted = json.loads(found[2])
    if found[1] == "tags":
        return lambda build: wanted in build.get("tags", [])
    name = _FIELDS[found[1]]
    return lambda build: build[name] == wanted


def _pushed(name: str) -> dict[str, str]:
    return {"name": name, "digest": f"sha256:{hashlib.sha256(name.encode()).hexdigest()}"}


def _error(status: int, message: str, word: str = "") -> httpx.Response:
    error = {"code": status, "message": message, "status": word or _WORDS.get(status, "UNAVAILABLE")}
    return httpx.Response(status, json={"error": error})
