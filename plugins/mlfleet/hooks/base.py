"""What the hooks share: from an Airflow connection to an address, credentials and a client."""

from __future__ import annotations

import asyncio
import ipaddress
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

import httpx
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from mlfleet.clients.auth import Credentials, Tls
from mlfleet.clients.http import HttpClient, SystemClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.errors import ConfigError, MlfleetError

if TYPE_CHECKING:
    from airflow.sdk import Connection

C = TypeVar("C", bound=SystemClient)


class SystemHook(BaseHook, Generic[C]):
    """A connection of one system; ``client()`` in a worker, ``await aclient()`` in the triggerer.

    ``transport`` replaces the network (tests). Raises ConfigError when the connection does not exist or has no host.
    """

    conn_name_attr: ClassVar[str] = "conn_id"
    default_conn_name: ClassVar[str]
    conn_type: ClassVar[str]
    hook_name: ClassVar[str]

    def __init__(self, conn_id: str | None = None, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        super().__init__()
        self.conn_id = conn_id or self.default_conn_name
        self._transport = transport

    @abstractmethod
    def make_client(self, connection: Connection, extra: Mapping[str, Any]) -> C:
        """The client for a connection; ``extra`` is the connection's extra, parsed."""

    @abstractmethod
    async def probe(self, client: C) -> str:
        """Ask the system who it is; the answer is shown to the person who pressed "Test"."""

    def client(self) -> C:
        """A client, from synchronous code. It is bound to the event loop that first uses it."""
        return self.client_factory()()

    def client_factory(self) -> Callable[[], C]:
        """Makes clients without asking Airflow again: the connection is read here, once.

        For code that runs in a signal handler or in another thread, where asking would wait for ever.
        """
        try:
            connection = self.get_connection(self.conn_id)
        except AirflowNotFoundException:
            raise self._missing() from None
        extra = connection.extra_dejson
        return lambda: self.make_client(connection, extra)

    async def aclient(self) -> C:
        """A client, from the event loop of the triggerer."""
        try:
            connection = await self.aget_connection(self.conn_id)
        except AirflowNotFoundException:
            raise self._missing() from None
        # A backend may hand back a connection of Airflow's core, which has no asynchronous form (sdk context.py).
        parse = getattr(connection, "aextra_dejson", None)
        extra = await parse() if parse is not None else connection.extra_dejson
        return self.make_client(connection, extra)

    def get_conn(self) -> C:
        """The same as :meth:`client`, by the name that Airflow users know."""
        return self.client()

    def test_connection(self) -> tuple[bool, str]:
        """For the button in Airflow's connection form."""

        async def ask() -> str:
            client = self.client()
            async with client:
                return await self.probe(client)

        try:
            return True, asyncio.run(ask())
        except MlfleetError as exc:
            return False, str(exc)

    def http(
        self,
        connection: Connection,
        extra: Mapping[str, Any],
        credentials: Credentials,
        *,
        retry: RetryPolicy | None = None,
    ) -> HttpClient:
        """The HTTP core for this connection."""
        return HttpClient(
            self.base_url(connection),
            system=self.conn_type,
            credentials=credentials,
            tls=Tls(verify=flag(extra.get("verify_ssl"), default=True), ca_file=extra.get("ca_file") or None),
            retry=retry,
            transport=self._transport,
        )

    def base_url(self, connection: Connection) -> str:
        """``<schema>://<host>:<port>``; the host may bring its own scheme, and a path behind it stays.

        Without a schema: http for this very machine, https for all others.
        """
        host = (connection.host or "").strip().rstrip("/")
        if not host:
            raise ConfigError(f"connection {self.conn_id!r} has no host", "its host field", self._hint())
        scheme, found, rest = host.partition("://")
        if not found:
            scheme, rest = (connection.schema or "").strip(), host
        address, slash, path = rest.partition("/")
        scheme = scheme or ("http" if _is_loopback(address) else "https")
        if scheme not in {"http", "https"}:
            raise ConfigError(f"connection {self.conn_id!r} has the schema {scheme!r}", "", "Use http or https")
        port = f":{connection.port}" if connection.port else ""
        return f"{scheme}://{address}{port}{slash}{path}"

    def _missing(self) -> ConfigError:
        return ConfigError(
            f"the Airflow connection {self.conn_id!r} ({self.hook_name}) does not exist",
            "environment variables, the secrets backends and Airflow's connections",
            self._hint(),
        )

    def _hint(self) -> str:
        variable = f"AIRFLOW_CONN_{self.conn_id.upper()}"
        example = f'{{"conn_type": "{self.conn_type}", "schema": "https", "host": "…"}}'
        return f"Add it under Admin > Connections (type {self.conn_type}), or set {variable}='{example}'"


def flag(value: object, *, default: bool) -> bool:
    """A boolean of a connection's extra, where people also write "false" as text."""
    if value is None or value == "":
        return default
    if isinstance(value, str):
        return value.strip().lower() not in {"false", "0", "no", "off"}
    return bool(value)


def _is_loopback(address: str) -> bool:
    host = address.rsplit(":", 1)[0] if address.count(":") == 1 else address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
