"""The connections of a triggerer: all its triggers that wait on the same one share client, requests and log budget."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from mlfleet.errors import MlfleetError, TransientError
from mlfleet.hooks.base import SystemHook
from mlfleet.remote.budget import LogBudget
from mlfleet.remote.polling import SharedPoll

_Key = tuple[type[SystemHook[Any]], str, asyncio.AbstractEventLoop]


@dataclass
class _Shared:
    poll: SharedPoll
    users: int = 0


_SHARED: dict[_Key, _Shared] = {}
_BUDGETS: dict[asyncio.AbstractEventLoop, LogBudget] = {}


class Connection:
    """A use of the connection ``conn_id``; :meth:`close` gives it back, and the last one closes the client.

    Connections are told apart by id, not by host: two of them may have different credentials for one server.
    """

    def __init__(self, hook_class: type[SystemHook[Any]], conn_id: str) -> None:
        # Clients and futures belong to an event loop; a triggerer has one, tests have many.
        self._key: _Key | None = (hook_class, conn_id, asyncio.get_running_loop())

        async def connect() -> Any:
            try:
                return await hook_class(conn_id).aclient()
            except MlfleetError:
                raise
            except Exception as exc:
                # Airflow could not be asked just now; that must not end the wait for hours of training.
                raise TransientError(hook_class.conn_type, f"connection {conn_id!r} could not be read: {exc}") from exc

        shared = _SHARED.setdefault(self._key, _Shared(SharedPoll(connect)))
        shared.users += 1
        self.poll = shared.poll

    async def close(self) -> None:
        """Give the connection back; closing twice is fine."""
        key, self._key = self._key, None
        if key is None:
            return
        shared = _SHARED[key]
        shared.users -= 1
        if shared.users == 0:
            del _SHARED[key]
            await shared.poll.aclose()


def log_budget() -> LogBudget:
    """The one of this event loop."""
    return _BUDGETS.setdefault(asyncio.get_running_loop(), LogBudget())
