"""The connection type ``spinnaker``: Gate's address, credentials of one of its many kinds, Deck's address."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mlfleet.clients.auth import Credentials
from mlfleet.clients.spinnaker import SpinnakerClient
from mlfleet.errors import ConfigError
from mlfleet.hooks.base import SystemHook

if TYPE_CHECKING:
    from airflow.sdk import Connection

AUTH = ("none", "basic", "token", "bearer")


class SpinnakerHook(SystemHook[SpinnakerClient]):
    """A Gate; extra: ``deck_url``, ``auth`` (none, basic, token, bearer; chosen by what is filled in), ``verify_ssl``.

    ``token`` is an API token of Gate (``X-Spinnaker-Token``, since 2026.2), ``bearer`` one of the identity provider
    (spinnaker.md 4).
    """

    default_conn_name = "spinnaker_default"
    conn_type = "spinnaker"
    hook_name = "Spinnaker"

    def make_client(self, connection: Connection, extra: Mapping[str, Any]) -> SpinnakerClient:
        """Raises ConfigError for an unknown ``auth``."""
        http = self.http(connection, extra, self._credentials(connection, extra))
        return SpinnakerClient(http, deck_url=extra.get("deck_url") or "")

    def _credentials(self, connection: Connection, extra: Mapping[str, Any]) -> Credentials:
        login, password = connection.login or "", connection.password or ""
        fallback = "none" if not password else "basic" if login else "token"
        auth = str(extra.get("auth") or fallback).lower()
        if auth not in AUTH:
            raise ConfigError(f"auth {auth!r} is not known", f"connection {self.conn_id!r}", f"Use {', '.join(AUTH)}")
        if auth == "none":
            return Credentials.none()
        if not password:
            raise ConfigError(f"auth {auth!r} needs a password", f"connection {self.conn_id!r}")
        if auth == "basic":
            return Credentials.basic(login, password)
        if auth == "bearer":
            return Credentials.token(password)
        return Credentials.header("X-Spinnaker-Token", password)

    async def probe(self, client: SpinnakerClient) -> str:
        """Gate's version and who it takes us for; ``/health`` alone would also answer a stranger."""
        version, user = await client.version(), await client.user()
        return f"Gate {version} at {client.http.base_url}, as {user or 'an anonymous user'}"
