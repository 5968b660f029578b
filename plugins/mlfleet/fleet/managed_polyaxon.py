"""Polyaxon projects: one for each project that trains there."""

from __future__ import annotations

from collections.abc import Sequence

from mlfleet.clients.polyaxon_projects import PolyaxonProject, PolyaxonProjects
from mlfleet.fleet.resources import Found, Kind, Resource, mark_of, read_mark

ACTIVE, ARCHIVED = "active", "archived"


class ManagedPolyaxon:
    """The projects of one owner. Settings: ``description``, ``tags`` (without the mark), ``state``.

    The mark is a tag. A project that nobody wants is archived: its runs and artifacts stay.
    """

    name = "polyaxon"
    kinds: tuple[Kind, ...] = (Kind.PROJECT,)

    def __init__(self, client: PolyaxonProjects, fleet: str) -> None:
        self._client, self._fleet = client, fleet

    async def read(self, wanted: Sequence[Resource]) -> list[Found]:
        """All projects that live; archived ones only when one is wanted that does not live."""
        projects = await self._client.list_projects()
        missing = {resource.name for resource in wanted} - {project.name for project in projects}
        if missing:
            projects += [each for each in await self._client.list_projects(archived=True) if each.name in missing]
        return [self._found(project) for project in projects]

    def _found(self, project: PolyaxonProject) -> Found:
        marks = [tag for tag in project.tags if read_mark(tag, self._fleet)[0]]
        tags = sorted(set(project.tags) - set(marks))
        state = ARCHIVED if project.archived else ACTIVE
        settings = {"description": project.description, "tags": tags, "state": state}
        applied = read_mark(marks[0], self._fleet)[1] if marks else ""
        return Found(Kind.PROJECT, project.name, settings, bool(marks), applied)

    async def create(self, resource: Resource) -> None:
        """Create it; one that is there meanwhile, alive or archived, is set."""
        description, tags = self._written(resource)
        if not await self._client.create_project(resource.name, description, tags):
            await self._set(resource, restore=True)

    async def change(self, resource: Resource, found: Found) -> None:
        """Set description and tags, after it was restored if it is archived."""
        await self._set(resource, restore=found.settings["state"] == ARCHIVED)

    async def retire(self, found: Found) -> str:
        """Archive it."""
        await self._client.archive_project(found.name)
        return "archived"

    async def _set(self, resource: Resource, *, restore: bool) -> None:
        if restore:
            await self._client.restore_project(resource.name)
        await self._client.update_project(resource.name, *self._written(resource))

    def _written(self, resource: Resource) -> tuple[str, list[str]]:
        tags = [*resource.settings["tags"], mark_of(self._fleet, resource.settings)]
        return resource.settings["description"], tags

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()
