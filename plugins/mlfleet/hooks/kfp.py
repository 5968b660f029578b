"""The connection type ``kfp``: host, bearer token as password, namespace in extra."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlfleet.hooks.base import SystemHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from mlfleet.clients.kfp import KFPClient


class KFPHook(SystemHook["KFPClient"]):
    """A KFP API server; extra: ``namespace`` (multi-user mode), ``ui_url``, ``verify_ssl``.

    Behind Kubeflow the host is ``<host>/pipeline`` (kfp.md 4).
    """

    default_conn_name = "kfp_default"
    conn_type = "kfp"
    hook_name = "Kubeflow Pipelines"

    def make_client(self, connection: Connection, extra: Mapping[str, Any]) -> KFPClient:
        """Single-user servers take no token."""
        from mlfleet.clients.connections import token_credentials
        from mlfleet.clients.kfp import KFPClient

        return KFPClient(
            self.http(connection, extra, token_credentials(connection)),
            namespace=extra.get("namespace") or None,
            ui_url=extra.get("ui_url") or None,
        )

    async def probe(self, client: KFPClient) -> str:
        """Version of the API server."""
        found = await client.healthz()
        return f"KFP {found.get('tag_name') or 'of unknown version'} at {client.http.base_url}"
