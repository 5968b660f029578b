"""Spinnaker applications and pipelines, made from a template."""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from typing import Any

from mlfleet.clients.spinnaker_configs import SpinnakerConfigs
from mlfleet.fleet.resources import Found, Kind, Resource, mark_of, read_mark

_MARK = "managedBy"
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_URL, "https://mlfleet/spinnaker")


class ManagedSpinnaker:
    """The applications and pipelines of one Gate. Settings: the keys that the template sets, and no others.

    What else a pipeline has stays as it is: who has switched one off for a while does not find it on again. A pipeline
    that nobody wants is disabled; applications are left alone, others may have pipelines in them.
    """

    name = "spinnaker"
    kinds: tuple[Kind, ...] = (Kind.APPLICATION, Kind.PIPELINE)

    def __init__(self, client: SpinnakerConfigs, fleet: str) -> None:
        self._client, self._fleet = client, fleet
        self._configs: dict[str, Mapping[str, Any]] = {}

    async def read(self, wanted: Sequence[Resource]) -> list[Found]:
        """All applications that may be read, and all pipelines; two requests."""
        settings = {(resource.kind, resource.name): resource.settings for resource in wanted}
        found = []
        for row in await self._client.list_applications():
            # Gate and front50 take names of applications without regard to case.
            name = str(row.get("name") or "").lower()
            keys = settings.get((Kind.APPLICATION, name), {})
            found.append(Found(Kind.APPLICATION, name, {key: row.get(key) for key in keys}))
        for config in await self._client.list_pipeline_configs():
            name = f"{config.get('application')}/{config.get('name')}"
            self._configs[name] = config
            ours, applied = read_mark(str(config.get(_MARK) or ""), self._fleet)
            keys = settings.get((Kind.PIPELINE, name), {})
            retired = not keys and config.get("disabled") is True
            chosen = {key: config.get(key) for key in keys}
            found.append(Found(Kind.PIPELINE, name, chosen, ours and not retired, applied, str(config.get("id") or "")))
        return found

    async def create(self, resource: Resource) -> None:
        """Save it; a pipeline gets an id that is made from its name, so that a second save replaces the first."""
        await self._save(resource, {"id": str(uuid.uuid5(_NAMESPACE, resource.name))})

    async def change(self, resource: Resource, found: Found) -> None:
        """Save it over what is there."""
        await self._save(resource, self._configs.get(resource.name, {"id": found.id}))

    async def retire(self, found: Found) -> str:
        """Disable it."""
        await self._client.save_pipeline({**self._configs[found.name], "disabled": True})
        return "disabled"

    async def _save(self, resource: Resource, below: Mapping[str, Any]) -> None:
        if resource.kind is Kind.APPLICATION:
            await self._client.save_application(resource.name, resource.settings)
            return
        mark = mark_of(self._fleet, resource.settings)
        await self._client.save_pipeline({**below, **resource.settings, _MARK: mark})

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()
