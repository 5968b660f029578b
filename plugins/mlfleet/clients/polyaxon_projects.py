"""Polyaxon's projects over REST, all of an owner at a time (polyaxon.md 3; the rest tried with haupt 2.18.0).

Traps this client knows:

* A list gives at most 100 projects, whatever ``limit`` says, and leaves archived ones out; their names are taken.
* CE has no owners of projects (``user`` is always null): who owns one can only be told in its tags.
* Searching by tags finds nothing on sqlite, silently (polyaxon.md 3): lists are read whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlfleet.clients.answers import number, optional_text, texts
from mlfleet.clients.calls import Expect, Params, segment
from mlfleet.clients.http import HttpClient, SystemClient
from mlfleet.clients.polyaxon import is_hidden_server_error
from mlfleet.errors import RequestRefused

_PAGE = 100
# Of the answer to a name that is taken; 2.18 words it in two ways, as a project lives or is archived.
_TAKEN = "already exists"


@dataclass(frozen=True)
class PolyaxonProject:
    """A project; ``description`` is "" and ``tags`` are () where the server says null."""

    name: str
    description: str = ""
    tags: tuple[str, ...] = ()
    archived: bool = False


class PolyaxonProjects(SystemClient):
    """The projects of one owner; CE knows one, ``default``."""

    def __init__(self, http: HttpClient, owner: str = "default") -> None:
        super().__init__(http)
        http.also_transient = is_hidden_server_error
        self.owner = owner

    async def list_projects(self, *, archived: bool = False) -> list[PolyaxonProject]:
        """All projects that live, or all that are archived; one request per hundred."""
        found: dict[str, PolyaxonProject] = {}
        path, offset = f"/api/v1/{segment(self.owner)}/projects/list", 0
        while True:
            params: Params = {
                "limit": _PAGE, "offset": offset or None, "sort": "name", "query": "live_state:0" if archived else None
            }  # fmt: skip
            answer = await self.http.request("GET", path, params=params)
            rows = answer.objects("results")
            for row in rows:
                name = optional_text(row.get("name"))
                if name is None:
                    raise answer.wrong("a project without a name")
                description = str(row.get("description") or "")
                found[name] = PolyaxonProject(name, description, texts(row.get("tags")), archived)
            offset += len(rows)
            if not rows or offset >= number(answer.object().get("count")):
                return list(found.values())

    async def create_project(self, name: str, description: str, tags: Sequence[str]) -> bool:
        """Create a project; False when its name is taken, by one that lives or by one that is archived.

        May be sent again: names are unique, so a second POST cannot make a second project. Raises RequestRefused for
        a name that Polyaxon keeps for itself.
        """
        path = f"/api/v1/{segment(self.owner)}/projects/create"
        body = {"name": name, "description": description, "tags": list(tags)}
        try:
            await self.http.request("POST", path, json=body, repeatable=True)
        except RequestRefused as exc:
            if _TAKEN in exc.body:
                return False
            raise
        return True

    async def update_project(self, name: str, description: str, tags: Sequence[str]) -> None:
        """Set description and tags; the same call again changes nothing. Raises NotFound."""
        body = {"description": description, "tags": list(tags)}
        await self.http.request("PATCH", self._api(name), json=body, repeatable=True)

    async def archive_project(self, name: str) -> None:
        """Take a project out of lists; its runs and artifacts stay, and `restore_project` brings it back."""
        await self.http.request("POST", self._api(name, "archive"), expect=Expect.JSON_OR_NOTHING, repeatable=True)

    async def restore_project(self, name: str) -> None:
        """Bring an archived project back; one that lives is left alone."""
        await self.http.request("POST", self._api(name, "restore"), expect=Expect.JSON_OR_NOTHING, repeatable=True)

    def _api(self, *parts: str) -> str:
        return "/".join(["/api/v1", segment(self.owner), *map(segment, parts)])
