"""What exists in the systems of an environment, all of them asked at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mlfleet.errors import MlfleetError
from mlfleet.fleet.managed import ManagedSystem
from mlfleet.fleet.resources import Found, Kind
from mlfleet.fleet.together import together
from mlfleet.fleet.wanted import Wanted


@dataclass(frozen=True)
class Unread:
    """A system that could not be read, and why."""

    system: str
    kinds: tuple[Kind, ...]
    error: MlfleetError


@dataclass(frozen=True)
class Reading:
    """``found`` of all systems that answered; ``unread`` are the others."""

    found: tuple[Found, ...]
    unread: tuple[Unread, ...] = ()


async def read_all(systems: Sequence[ManagedSystem], wanted: Wanted) -> Reading:
    """Asks all systems; one that cannot be read keeps no other from it. Closes their connections."""
    results = await together(_read(system, wanted) for system in systems)
    found = [thing for result in results if not isinstance(result, Unread) for thing in result]
    return Reading(tuple(found), tuple(result for result in results if isinstance(result, Unread)))


async def _read(system: ManagedSystem, wanted: Wanted) -> list[Found] | Unread:
    try:
        return await system.read(wanted.of(system.kinds))
    except MlfleetError as error:
        return Unread(system.name, system.kinds, error)
    finally:
        # The next calls come from another event loop.
        await system.aclose()
