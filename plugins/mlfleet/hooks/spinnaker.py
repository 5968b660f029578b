"""The connection type ``spinnaker``: Gate's address, credentials of one of its many kinds, Deck's address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlfleet.hooks.base import SystemHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from mlfleet.clients.spinnaker import SpinnakerClient


class SpinnakerHook(SystemHook["SpinnakerClient"]):
    """A Gate; extra: ``deck_url``, ``auth`` (none, basic, token, bearer; chosen by what is filled in), ``verify_ssl``.

    ``token`` is an API token of Gate (``X-Spinnaker-Token``, since 2026.2), ``bearer`` one of the identity provider
    (spinnaker.md 4).
    """

    default_conn_name = "spinnaker_default"
    conn_type = "spinnaker"
    hook_name = "Spinnaker"

    def make_client(self, connection: Connection, extra: Mapping[str, Any]) -> SpinnakerClient:
        """Raises ConfigError for an unknown ``auth``."""
        from mlfleet.clients.connections import spinnaker_credentials
        from mlfleet.clients.spinnaker import SpinnakerClient

        http = self.http(connection, extra, spinnaker_credentials(connection, extra, self.conn_id))
        return SpinnakerClient(http, deck_url=extra.get("deck_url") or "")

    async def probe(self, client: SpinnakerClient) -> str:
        """Gate's version and who it takes us for; ``/health`` alone would also answer a stranger."""
        version, user = await client.version(), await client.user()
        return f"Gate {version} at {client.http.base_url}, as {user or 'an anonymous user'}"
