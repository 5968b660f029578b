"""The connection type ``container_registry``: host, and login and password where the registry wants them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlfleet.hooks.base import SystemHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from mlfleet.clients.container_registry import ContainerRegistryClient


class ContainerRegistryHook(SystemHook["ContainerRegistryClient"]):
    """A registry; :attr:`address` is the ``host:port`` that stands before the repository in an image's name."""

    default_conn_name = "container_registry_default"
    conn_type = "container_registry"
    hook_name = "Container registry"

    def make_client(self, connection: Connection, extra: Mapping[str, Any]) -> ContainerRegistryClient:
        """A password without a login is a ready access token."""
        from mlfleet.clients.auth import Credentials
        from mlfleet.clients.container_registry import ContainerRegistryClient

        login, password = connection.login or "", connection.password or ""
        http = self.http(connection, extra, Credentials.none())
        if login:
            return ContainerRegistryClient(http, login=login, password=password)
        return ContainerRegistryClient(http, bearer=password)

    async def probe(self, client: ContainerRegistryClient) -> str:
        """``GET /v2/`` with the credentials."""
        await client.ping()
        return f"{client.http.base_url} is a container registry"
