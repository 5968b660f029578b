"""Polyaxon 2.18 CE over REST (polyaxon.md 3): projects, runs, statuses, logs.

Traps this client knows:

* A server error arrives as 405 with an empty body (polyaxon.md 1): treated like a 5xx.
* Names of runs are not unique, and ``POST /runs`` ignores a client uuid: look runs up by ``meta_info``.
* Searching by ``tags`` finds nothing on sqlite, silently; this client never does.
* A ``:`` or ``|`` inside a searched value has a meaning of its own: refused before the call.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from mlfleet.clients.answers import Answer, mapping, moment, number, optional_text, texts
from mlfleet.clients.calls import Expect, segment
from mlfleet.clients.http import HttpClient, SystemClient
from mlfleet.errors import ConfigError, NotFound, RequestRefused

# polyaxon.md 4: `done` is in the enumeration but not among the final values; `stopping` is not final either.
TERMINAL = frozenset({"succeeded", "failed", "upstream_failed", "stopped", "skipped"})

# 32 hex digits each: fifty of them stay far below the shortest limit on the length of an address.
_CHUNK = 100
_PAGE = 100
_SEARCHABLE = re.compile(r"[A-Za-z0-9_.\-]+")


@dataclass(frozen=True)
class Condition:
    """One entry of a run's history; ``type`` is the status, ``reason`` who set it, ``message`` why."""

    type: str
    status: str
    reason: str
    message: str
    at: datetime | None


@dataclass(frozen=True)
class PolyaxonRun:
    """A run. Times are aware or None; ``duration`` and ``wait_time`` are seconds.

    ``pipeline`` is the uuid of the parent of a matrix child; ``pending`` is "approval" for a run that waits for one.
    ``conditions`` is filled by :meth:`PolyaxonClient.statuses` only.
    """

    uuid: str
    name: str
    project: str
    status: str
    kind: str = ""
    runtime: str = ""
    pending: str | None = None
    pipeline: str | None = None
    inputs: Mapping[str, Any] = field(default_factory=dict)
    outputs: Mapping[str, Any] = field(default_factory=dict)
    meta_info: Mapping[str, Any] = field(default_factory=dict)
    tags: tuple[str, ...] = ()
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    duration: int = 0
    wait_time: int = 0
    conditions: tuple[Condition, ...] = ()

    @property
    def is_final(self) -> bool:
        """Whether the status is final."""
        return self.status in TERMINAL


@dataclass(frozen=True)
class RunPage:
    """``runs`` of one page; ``count`` is the number of runs of the whole list."""

    count: int
    runs: tuple[PolyaxonRun, ...]


@dataclass(frozen=True)
class LogLine:
    """One line of a run's log."""

    at: datetime | None
    text: str
    container: str = ""
    pod: str = ""


@dataclass(frozen=True)
class LogPage:
    """What is stored of a run's log.

    2.18 gives the whole log at once, sorted by time, with ``last_file`` None and no ``files``. Older servers, and this
    one for logs in the old place, give one file: ``last_file`` names it (None without lines: there was no further
    file), ``files`` are the names of all, sorted. Either grows while the job lives: to read a file again, ask with the
    name of the file *before* it.
    """

    lines: tuple[LogLine, ...]
    last_file: str | None
    files: tuple[str, ...]


def is_hidden_server_error(status: int, body: bytes) -> bool:
    """405 without a body: the form in which this server's 500 arrives (polyaxon.md 1)."""
    return status == 405 and not body.strip()


def meta_query(key: str, values: Iterable[str]) -> str:
    """``meta_info.<key>:<value>|<value>``; raises ConfigError for a text that the query language would take apart."""
    wanted = list(values)
    for text in (key, *wanted):
        if not _SEARCHABLE.fullmatch(text):
            raise ConfigError(f"polyaxon: {text!r} cannot be searched for", "", "Use letters, digits, '_', '.' and '-'")
    return f"meta_info.{key}:{'|'.join(wanted)}"


class PolyaxonClient(SystemClient):
    """The runs of one owner on one Polyaxon server.

    CE knows one owner, ``default``, and needs no token. ``namespace`` is part of the address of logs.
    ``ui_url`` is where people reach the server, when that differs from the base address.
    """

    def __init__(
        self, http: HttpClient, owner: str = "default", namespace: str = "polyaxon", ui_url: str | None = None
    ) -> None:
        super().__init__(http)
        http.also_transient = is_hidden_server_error
        self.owner, self.namespace = owner, namespace
        self._ui_url = (ui_url or http.base_url).rstrip("/")

    @classmethod
    def from_extra(cls, http: HttpClient, extra: Mapping[str, Any]) -> PolyaxonClient:
        """As a connection's extra says: ``owner``, ``namespace``, ``ui_url``."""
        return cls(
            http,
            owner=extra.get("owner") or "default",
            namespace=extra.get("namespace") or "polyaxon",
            ui_url=extra.get("ui_url") or None,
        )

    async def installation(self) -> dict[str, Any]:
        """``{"key", "version", "dist", "mode"}`` of the server."""
        return (await self.http.request("GET", "/api/v1/installation")).object()

    async def user(self) -> str:
        """Whose token it is; the owner on CE, which has no users and takes any token. Raises AuthError."""
        if (await self.installation()).get("dist") == "ce":
            return self.owner
        return (await self.http.request("GET", "/api/v1/users")).text("username")

    async def ensure_project(self, project: str) -> None:
        """Create ``project`` unless it exists."""
        try:
            await self.http.request("GET", self._api(project))
        except NotFound:
            await self._create_project(project)

    async def _create_project(self, project: str) -> None:
        path = f"/api/v1/{segment(self.owner)}/projects/create"
        try:
            # Names are unique, so a second POST can't make a second project.
            await self.http.request("POST", path, json={"name": project}, repeatable=True)
        except RequestRefused as exc:
            if "already exists" not in exc.body:
                raise

    async def create_run(
        self,
        project: str,
        *,
        content: str,
        name: str | None = None,
        tags: Sequence[str] = (),
        meta_info: Mapping[str, Any] | None = None,
        pending: str | None = None,
        is_managed: bool = True,
    ) -> PolyaxonRun:
        """Create a run from ``content``, an operation or component as YAML or JSON text. Never sent twice.

        ``pending="approval"`` keeps it out of every agent's hands until :meth:`approve` (polyaxon.md 3, two-phase).
        Raises RequestRefused for content that is no valid polyaxonfile, OutcomeUnknown when the answer was lost.
        A connection that does not exist is no refusal: such a run is accepted and fails (polyaxon.md 5).
        """
        body = {
            "content": content,
            "name": name,
            "tags": list(tags),
            "meta_info": dict(meta_info or {}),
            "pending": pending,
            "is_managed": is_managed,
        }
        answer = await self.http.request("POST", self._api(project, "runs"), json=body)
        return _run(answer, answer.object(), project)

    async def approve(self, project: str, uuid: str) -> None:
        """Let a pending run go; approving it again changes nothing (4 parallel approvals: one execution)."""
        await self._act(project, uuid, "approve")

    async def stop(self, project: str, uuid: str) -> None:
        """Ask for the end of a run; for a finished one this changes nothing."""
        await self._act(project, uuid, "stop")

    async def resume(self, project: str, uuid: str) -> None:
        """Let a finished run go on under its own uuid. Never sent twice.

        Raises RequestRefused for a run that has not ended (polyaxon.md 3: 400), OutcomeUnknown.
        """
        await self._act(project, uuid, "resume", repeatable=False)

    async def _act(self, project: str, uuid: str, verb: str, *, repeatable: bool = True) -> None:
        path = self._api(project, "runs", uuid, verb)
        await self.http.request("POST", path, expect=Expect.JSON_OR_NOTHING, repeatable=repeatable)

    async def delete_run(self, project: str, uuid: str) -> None:
        """Delete a run; one that is gone already is fine.

        It vanishes from lists and searches; CE goes on to answer :meth:`get_run` for it.
        """
        try:
            await self.http.request("DELETE", self._api(project, "runs", uuid), expect=Expect.NOTHING)
        except NotFound:
            return

    async def get_run(self, project: str, uuid: str) -> PolyaxonRun:
        """The run with its inputs and outputs. Raises NotFound."""
        answer = await self.http.request("GET", self._api(project, "runs", uuid))
        return _run(answer, answer.object(), project)

    async def statuses(self, project: str, uuid: str) -> PolyaxonRun:
        """The run's status and its whole history, oldest first; other fields are empty. Raises NotFound."""
        answer = await self.http.request("GET", self._api(project, "runs", uuid, "statuses"))
        return _run(answer, answer.object(), project)

    async def list_runs(
        self, project: str, *, query: str = "", sort: str = "", limit: int = _PAGE, offset: int = 0
    ) -> RunPage:
        """One page of the project's runs.

        ``query`` is Polyaxon's search language (``status:running|queued, pipeline:<uuid>``); a field that it does not
        know is RequestRefused.
        """
        params = {"query": query or None, "sort": sort or None, "limit": limit, "offset": offset or None}
        answer = await self.http.request("GET", self._api(project, "runs"), params=params)
        rows = answer.objects("results")
        return RunPage(number(answer.object().get("count")), tuple(_run(answer, row, project) for row in rows))

    async def find_by_meta(self, project: str, key: str, values: Iterable[str]) -> list[PolyaxonRun]:
        """All runs whose ``meta_info[key]`` is one of ``values``, oldest first."""
        wanted = list(dict.fromkeys(values))
        found: list[PolyaxonRun] = []
        for start in range(0, len(wanted), _CHUNK):
            query = meta_query(key, wanted[start : start + _CHUNK])
            found += await self._all(project, query, sort="created_at")
        return found

    async def runs_by_uuid(self, project: str, uuids: Iterable[str]) -> dict[str, PolyaxonRun]:
        """Many runs in few requests; the ones that do not exist are left out."""
        wanted = list(dict.fromkeys(uuids))
        found: dict[str, PolyaxonRun] = {}
        for start in range(0, len(wanted), _CHUNK):
            query = f"uuid:{'|'.join(wanted[start : start + _CHUNK])}"
            found.update({run.uuid: run for run in await self._all(project, query)})
        return found

    async def children(self, project: str, uuid: str, sort: str = "created_at") -> list[PolyaxonRun]:
        """All children of a matrix run; ``sort="-metrics.loss"`` orders them by a metric, best first."""
        return await self._all(project, f"pipeline:{uuid}", sort=sort)

    async def _all(self, project: str, query: str, sort: str = "") -> list[PolyaxonRun]:
        runs: dict[str, PolyaxonRun] = {}
        offset = 0
        while True:
            page = await self.list_runs(project, query=query, sort=sort, limit=_PAGE, offset=offset)
            # By uuid: a run created meanwhile shifts the pages, and the same run is then seen twice.
            runs.update({run.uuid: run for run in page.runs})
            offset += len(page.runs)
            if not page.runs or offset >= page.count:
                return list(runs.values())

    async def logs(self, project: str, uuid: str, last_file: str | None = None) -> LogPage:
        """The stored log, or its file that follows ``last_file`` (see :class:`LogPage`), read fresh from the store.

        Without ``last_time`` on purpose: with it the server asks Kubernetes (polyaxon.md 3).
        """
        path = "/".join(
            ["/streams/v1", *map(segment, (self.namespace, self.owner, project)), "runs", segment(uuid), "logs"]
        )
        answer = await self.http.request("GET", path, params={"force": True, "last_file": last_file})
        data = answer.object()
        lines = tuple(_line(row) for row in answer.objects("logs"))
        return LogPage(lines, optional_text(data.get("last_file")), texts(data.get("files")))

    def run_url(self, project: str, uuid: str) -> str:
        """The run's page in Polyaxon's UI."""
        return f"{self._ui_url}/ui/{segment(self.owner)}/{segment(project)}/runs/{segment(uuid)}"

    def _api(self, *parts: str) -> str:
        return "/".join(["/api/v1", segment(self.owner), *map(segment, parts)])


def _run(answer: Answer, row: Mapping[str, Any], project: str) -> PolyaxonRun:
    uuid = optional_text(row.get("uuid"))
    if uuid is None:
        raise answer.wrong("a run without a uuid")
    parent = row.get("pipeline")
    return PolyaxonRun(
        uuid=uuid,
        name=str(row.get("name") or ""),
        project=project,
        status=str(row.get("status") or "unknown").lower(),
        kind=str(row.get("kind") or ""),
        runtime=str(row.get("runtime") or ""),
        pending=optional_text(row.get("pending")),
        pipeline=optional_text(parent) or optional_text(mapping(parent).get("uuid")),
        inputs=mapping(row.get("inputs")),
        outputs=mapping(row.get("outputs")),
        meta_info=mapping(row.get("meta_info")),
        tags=texts(row.get("tags")),
        created_at=moment(row.get("created_at")),
        started_at=moment(row.get("started_at")),
        finished_at=moment(row.get("finished_at")),
        duration=number(row.get("duration")),
        wait_time=number(row.get("wait_time")),
        conditions=tuple(_condition(c) for c in row.get("status_conditions") or () if isinstance(c, Mapping)),
    )


def _condition(row: Mapping[str, Any]) -> Condition:
    return Condition(
        type=str(row.get("type") or ""),
        status=str(row.get("status") or ""),
        reason=str(row.get("reason") or ""),
        message=str(row.get("message") or ""),
        at=moment(row.get("last_transition_time")),
    )


def _line(row: Mapping[str, Any]) -> LogLine:
    return LogLine(
        at=moment(row.get("timestamp")),
        text=str(row.get("value") or ""),
        container=str(row.get("container") or ""),
        pod=str(row.get("pod") or ""),
    )
