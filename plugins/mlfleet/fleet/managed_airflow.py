"""Airflow pools: those that manifests name, and those that the environment gives slots to."""

from __future__ import annotations

from collections.abc import Sequence

from mlfleet.clients.airflow import AirflowClient, AirflowPool
from mlfleet.fleet.resources import Found, Kind, Resource, mark_of, read_mark, without_mark


class ManagedAirflow:
    """The pools of one Airflow. Settings: ``slots``, ``include_deferred``, ``description`` (which has the mark).

    A pool that nobody wants is deleted: it holds nothing. Airflow's own, ``default_pool``, carries no mark.
    """

    name = "airflow"
    kinds: tuple[Kind, ...] = (Kind.POOL,)

    def __init__(self, client: AirflowClient, fleet: str) -> None:
        self._client, self._fleet = client, fleet

    async def read(self, wanted: Sequence[Resource]) -> list[Found]:
        """All pools."""
        return [self._found(pool) for pool in await self._client.list_pools()]

    def _found(self, pool: AirflowPool) -> Found:
        ours, applied = read_mark(pool.description, self._fleet)
        settings = {
            "slots": pool.slots,
            "include_deferred": pool.include_deferred,
            "description": without_mark(pool.description),
        }
        return Found(Kind.POOL, pool.name, settings, ours, applied)

    async def create(self, resource: Resource) -> None:
        """Create it; one that is there meanwhile is set."""
        await self._client.create_pool(self._pool(resource))

    async def change(self, resource: Resource, found: Found) -> None:
        """Set it."""
        await self._client.update_pool(self._pool(resource))

    async def retire(self, found: Found) -> str:
        """Delete it."""
        await self._client.delete_pool(found.name)
        return "deleted"

    def _pool(self, resource: Resource) -> AirflowPool:
        settings = resource.settings
        text = f"{settings['description']} {mark_of(self._fleet, settings)}".strip()
        return AirflowPool(resource.name, settings["slots"], text, settings["include_deferred"])

    async def aclose(self) -> None:
        """Close the client."""
        await self._client.aclose()
