"""The connection type ``polyaxon``: host, token as password, owner in extra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlfleet.hooks.base import SystemHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from mlfleet.clients.polyaxon import PolyaxonClient


class PolyaxonHook(SystemHook["PolyaxonClient"]):
    """A Polyaxon server; extra: ``owner`` ("default"), ``namespace`` of the logs, ``ui_url``, ``verify_ssl``."""

    default_conn_name = "polyaxon_default"
    conn_type = "polyaxon"
    hook_name = "Polyaxon"

    def make_client(self, connection: Connection, extra: Mapping[str, Any]) -> PolyaxonClient:
        """CE takes no token; elsewhere it travels as ``Authorization: Token`` (polyaxon.md 1)."""
        from mlfleet.clients.connections import token_credentials
        from mlfleet.clients.polyaxon import PolyaxonClient

        http = self.http(connection, extra, token_credentials(connection, "Token"))
        return PolyaxonClient.from_extra(http, extra)

    async def probe(self, client: PolyaxonClient) -> str:
        """Version and distribution of the server."""
        found = await client.installation()
        return f"Polyaxon {found.get('version')} ({found.get('dist')}) at {client.http.base_url}"
