"""A message to a chat room when a run of a project fails, succeeds or is late.

The room is a web address that takes ``{"text": ...}`` by POST, as Slack, Google Chat and Mattermost have them. Whoever
knows the address can write there, so it stands in an Airflow connection (its password, or else its host).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook, BaseNotifier, conf
from airflow.sdk.exceptions import AirflowNotFoundException

from mlfleet.errors import ConfigError, RequestRefused, TransientError

if TYPE_CHECKING:
    import httpx
    from airflow.sdk import Connection, Context

SYSTEM = "webhook"
_SECONDS = 10.0


class WebhookNotifier(BaseNotifier):
    """For ``on_failure_callback`` and ``on_success_callback`` of a DAG.

    ``conn_id``    the Airflow connection
    ``event``      what happened, as the message says it: "failed", "succeeded"
    ``owner``      who answers for the project
    ``transport``  replaces the network (tests)

    Airflow logs what the notification raises, and the run's state stays as it is.
    """

    def __init__(
        self, *, conn_id: str, event: str, owner: str = "", transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        super().__init__()
        self.conn_id, self.event, self.owner, self._transport = conn_id, event, owner, transport

    def notify(self, context: Context) -> None:
        """Sends the message from the DAG processor; raises ConfigError, RequestRefused or TransientError."""
        try:
            connection = BaseHook.get_connection(self.conn_id)
        except AirflowNotFoundException:
            raise _missing(self.conn_id) from None
        run = context.get("dag_run")
        dag_id = getattr(context.get("dag"), "dag_id", None) or getattr(run, "dag_id", "")
        run_id = context.get("run_id") or getattr(run, "run_id", "")
        text = message(str(dag_id), str(run_id), self.event, str(context.get("reason") or ""), self.owner)
        asyncio.run(post(self.conn_id, connection, text, self._transport))


async def late(context: Mapping[str, Any], conn_id: str, after: str, owner: str = "") -> None:
    """For a deadline alert, in the triggerer; ``after`` is the time that has passed, ISO 8601.

    ``context`` is what Airflow hands over: ``dag_run`` and ``deadline`` as plain data. Raises like `WebhookNotifier`.
    """
    try:
        connection = await BaseHook.aget_connection(conn_id)
    except AirflowNotFoundException:
        raise _missing(conn_id) from None
    run = context.get("dag_run") or {}
    text = message(str(run.get("dag_id", "")), str(run.get("dag_run_id") or run.get("run_id") or ""),
                   f"is not done {after} after it was queued", "", owner)  # fmt: skip
    await post(conn_id, connection, text)


def message(dag_id: str, run_id: str, event: str, reason: str, owner: str) -> str:
    """One line for people, and the page of the run where Airflow knows its own address."""
    from urllib.parse import quote

    told = f"{dag_id}: run {run_id} {event}" + (f" ({reason})" if reason else "") + (f", {owner}" if owner else "")
    base = conf.get("api", "base_url", fallback="")
    return f"{told}\n{base.rstrip('/')}/dags/{dag_id}/runs/{quote(run_id, safe='')}" if base else told


async def post(
    conn_id: str, connection: Connection, text: str, transport: httpx.AsyncBaseTransport | None = None
) -> None:
    """Sends the text once: a message that may have arrived is not worth a second one.

    Raises ConfigError, RequestRefused (4xx) or TransientError; none names the address, which is a secret.
    """
    # The DAG processor builds the notifier of every project, and sends next to none.
    import httpx

    address = connection.password or connection.host or ""
    if not address.startswith(("https://", "http://")):
        raise ConfigError("it has no web address", f"Airflow connection {conn_id!r}",
                          "Put the address, with https://, into its password")  # fmt: skip
    try:
        async with httpx.AsyncClient(timeout=_SECONDS, transport=transport) as client:
            status = (await client.post(address, json={"text": text})).status_code
    except httpx.HTTPError as error:
        raise TransientError(SYSTEM, f"no answer for connection {conn_id!r}: {type(error).__name__}") from None
    if status >= 400:
        refused = RequestRefused if status < 500 and status != 429 else TransientError
        raise refused(SYSTEM, f"connection {conn_id!r} was answered {status}", status=status)


def _missing(conn_id: str) -> ConfigError:
    return ConfigError(f"there is no connection {conn_id!r}", "Airflow connections", "Create it, or correct `notify`")
