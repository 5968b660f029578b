"""How a system takes part in plan and apply: one class a system, in a module of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from mlfleet.fleet.resources import Found, Kind, Resource


class ManagedSystem(Protocol):
    """A system of one environment.

    Every write must be safe to send again, and to send after a crash that lost its answer: `create` of a thing that
    exists sets it, `change` sets it whole, `retire` of one that is retired changes nothing.
    All calls raise `RemoteError`.
    """

    name: str
    kinds: tuple[Kind, ...]

    async def read(self, wanted: Sequence[Resource]) -> list[Found]:
        """What exists of its kinds, with list requests only; ``wanted`` are the resources of its kinds."""

    async def create(self, resource: Resource) -> None:
        """Make a thing."""

    async def change(self, resource: Resource, found: Found) -> None:
        """Make a thing as it is wanted."""

    async def retire(self, found: Found) -> str:
        """Take away what nobody wants, without losing what people have made; returns what was done, as a verb."""

    async def aclose(self) -> None:
        """Close all connections."""
