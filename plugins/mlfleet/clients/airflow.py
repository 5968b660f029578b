"""Airflow's pools over its REST API v2 (airflow.md 1; routes/public/pools.py of 3.3.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from mlfleet.clients.answers import number
from mlfleet.clients.auth import Credentials
from mlfleet.clients.calls import Expect, Params, segment
from mlfleet.clients.http import HttpClient, SystemClient
from mlfleet.errors import Conflict, NotFound

_PAGE = 100  # api.maximum_page_limit


@dataclass(frozen=True)
class AirflowPool:
    """A pool; ``slots`` -1 is without bound, ``include_deferred`` counts tasks that wait in the triggerer."""

    name: str
    slots: int
    description: str = ""
    include_deferred: bool = False


class AirflowClient(SystemClient):
    """One Airflow API server.

    With ``login`` and ``password`` a token is asked for, once; with ``password`` alone that is the token. Without both
    a token is asked for as well: the simple auth manager gives one to everybody when all are admins (airflow.md 1).
    """

    def __init__(self, http: HttpClient, login: str = "", password: str = "") -> None:
        super().__init__(http)
        self._login, self._password = login, password
        self._known = False
        http.redact.add(password)
        if password and not login:
            self._use(password)

    async def list_pools(self) -> list[AirflowPool]:
        """All pools; one request per hundred."""
        await self._log_in()
        found: dict[str, AirflowPool] = {}
        offset = 0
        while True:
            params: Params = {"limit": _PAGE, "offset": offset, "order_by": "name"}
            answer = await self.http.request("GET", "/api/v2/pools", params=params)
            rows = answer.objects("pools")
            found.update({str(row.get("name")): _pool(row) for row in rows})
            offset += len(rows)
            if not rows or offset >= number(answer.object().get("total_entries")):
                return list(found.values())

    async def create_pool(self, pool: AirflowPool) -> None:
        """Create a pool, or set one that has the name already. May be sent again: names are unique."""
        await self._log_in()
        try:
            await self.http.request("POST", "/api/v2/pools", json=_body(pool, "name"), repeatable=True)
        except Conflict:
            await self.update_pool(pool)

    async def update_pool(self, pool: AirflowPool) -> None:
        """Set a pool's slots, description and whether deferred tasks count. Raises NotFound."""
        await self._log_in()
        await self.http.request("PATCH", f"/api/v2/pools/{segment(pool.name)}", json=_body(pool, "pool"),
                                repeatable=True)  # fmt: skip

    async def delete_pool(self, name: str) -> None:
        """Delete a pool; one that is gone already is fine."""
        await self._log_in()
        try:
            await self.http.request("DELETE", f"/api/v2/pools/{segment(name)}", expect=Expect.NOTHING)
        except NotFound:
            return

    async def _log_in(self) -> None:
        if self._known:
            return
        if self._password:
            body = {"username": self._login, "password": self._password}
            answer = await self.http.request("POST", "/auth/token", json=body, repeatable=True)
        else:
            answer = await self.http.request("GET", "/auth/token")
        self._use(answer.text("access_token"))

    def _use(self, token: str) -> None:
        self.http.redact.add(token)
        self.http.credentials, self._known = Credentials.token(token), True


def _pool(row: dict[str, Any]) -> AirflowPool:
    return AirflowPool(
        str(row.get("name") or ""),
        number(row.get("slots")),
        str(row.get("description") or ""),
        row.get("include_deferred") is True,
    )


def _body(pool: AirflowPool, key: str) -> dict[str, Any]:
    """A new pool is called by ``name``, a changed one by ``pool`` (datamodels/pools.py)."""
    return {
        key: pool.name,
        "slots": pool.slots,
        "description": pool.description,
        "include_deferred": pool.include_deferred,
    }
