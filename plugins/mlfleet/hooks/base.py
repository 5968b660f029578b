"""What the hooks share: from an Airflow connection to an address, credentials and a client.

Operators name their hook, and every process that builds a DAG imports them: clients are imported when one is made.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowNotFoundException

from mlfleet.errors import ConfigError, MlfleetError

if TYPE_CHECKING:
    import httpx
    from airflow.sdk import Connection

    from mlfleet.clients.auth import Credentials
    from mlfleet.clients.http import HttpClient, SystemClient
    from mlfleet.clients.retry import RetryPolicy

C = TypeVar("C", bound="SystemClient")


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
        from mlfleet.clients.connections import http_client

        return http_client(
            connection,
            extra,
            credentials,
            conn_id=self.conn_id,
            system=self.conn_type,
            retry=retry,
            transport=self._transport,
            todo=self._hint(),
        )

    def base_url(self, connection: Connection) -> str:
        """See `mlfleet.clients.connections.base_url`."""
        from mlfleet.clients.connections import base_url

        return base_url(connection, self.conn_id, self._hint())

    def _missing(self) -> ConfigError:
        return ConfigError(
            f"the Airflow connection {self.conn_id!r} ({self.hook_name}) does not exist",
            "environment variables, the secrets backends and Airflow's connections",
            self._hint(),
        )

    def _hint(self) -> str:
        from mlfleet.clients.connections import example, variable_of

        variable = variable_of(self.conn_id)
        return (
            f"Add it under Admin > Connections (type {self.conn_type}), or set {variable}='{example(self.conn_type)}'"
        )
