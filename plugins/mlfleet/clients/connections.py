"""From an Airflow connection to an address, credentials and a client; the hooks and the fleet commands share it.

The fleet commands import no Airflow, so `read_connection` takes ``AIRFLOW_CONN_<ID>`` apart as Airflow 3.3 does
(airflow/sdk/definitions/connection.py): JSON when the value begins with a brace, a URI else.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import httpx

from mlfleet.clients.auth import Credentials, Tls
from mlfleet.clients.http import HttpClient
from mlfleet.clients.retry import RetryPolicy
from mlfleet.errors import ConfigError

SPINNAKER_AUTH = ("none", "basic", "token", "bearer")
_EXTRA = "__extra__"
_FIELDS = frozenset({"conn_type", "description", "host", "login", "password", "schema", "port", "extra"})


class Fields(Protocol):
    """What is read of a connection, Airflow's or ours."""

    @property
    def host(self) -> str | None:
        """Name or address, with a scheme and a path if somebody wrote them there."""

    @property
    def schema(self) -> str | None:
        """``http`` or ``https``."""

    @property
    def port(self) -> int | None:
        """TCP port."""

    @property
    def login(self) -> str | None:
        """User name."""

    @property
    def password(self) -> str | None:
        """Password or token."""


@dataclass(frozen=True)
class Connection:
    """A connection out of an environment variable; ``repr`` shows no password and no extra."""

    conn_id: str
    conn_type: str = ""
    host: str | None = None
    schema: str | None = None
    port: int | None = None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)


def variable_of(conn_id: str) -> str:
    """The environment variable that Airflow reads a connection from."""
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def read_connection(conn_id: str, conn_type: str, environ: Mapping[str, str]) -> Connection:
    """The connection in ``AIRFLOW_CONN_<ID>``; ConfigError names the variable and never repeats its value."""
    variable = variable_of(conn_id)
    text = environ.get(variable, "").strip()
    if not text:
        raise ConfigError(f"the connection {conn_id!r} is not set", f"the environment variable {variable}",
                          f"Set {variable}='{example(conn_type)}'")  # fmt: skip
    try:
        found = _from_json(conn_id, text) if text.startswith("{") else _from_uri(conn_id, text)
    except ValueError as error:
        raise ConfigError(f"the connection {conn_id!r} cannot be read: {error}", f"the environment variable {variable}",
                          f"Write it like {example(conn_type)}") from None  # fmt: skip
    if conn_type and found.conn_type and found.conn_type != conn_type:
        raise ConfigError(f"the connection {conn_id!r} is of the type {found.conn_type!r}, not {conn_type!r}",
                          f"the environment variable {variable}",
                          "Correct it, or name another connection in include/environments")  # fmt: skip
    return found


def example(conn_type: str) -> str:
    """A connection of this type as JSON, for messages."""
    return f'{{"conn_type": "{conn_type}", "schema": "https", "host": "…"}}'


def base_url(connection: Fields, conn_id: str, todo: str = "") -> str:
    """``<schema>://<host>:<port>``; the host may bring its own scheme, and a path behind it stays.

    Without a schema: http for this very machine, https for all others. Raises ConfigError.
    """
    host = (connection.host or "").strip().rstrip("/")
    if not host:
        raise ConfigError(f"connection {conn_id!r} has no host", "its host field", todo)
    scheme, found, rest = host.partition("://")
    if not found:
        scheme, rest = (connection.schema or "").strip(), host
    address, slash, path = rest.partition("/")
    scheme = scheme or ("http" if _is_loopback(address) else "https")
    if scheme not in {"http", "https"}:
        raise ConfigError(f"connection {conn_id!r} has the schema {scheme!r}", "", "Use http or https")
    port = f":{connection.port}" if connection.port else ""
    return f"{scheme}://{address}{port}{slash}{path}"


def http_client(
    connection: Fields,
    extra: Mapping[str, Any],
    credentials: Credentials,
    *,
    conn_id: str,
    system: str,
    retry: RetryPolicy | None = None,
    transport: httpx.AsyncBaseTransport | None = None,
    todo: str = "",
) -> HttpClient:
    """The HTTP core for a connection; extra: ``verify_ssl``, ``ca_file``. Raises ConfigError without a host."""
    return HttpClient(
        base_url(connection, conn_id, todo),
        system=system,
        credentials=credentials,
        tls=Tls(verify=flag(extra.get("verify_ssl"), default=True), ca_file=extra.get("ca_file") or None),
        retry=retry,
        transport=transport,
    )


def token_credentials(connection: Fields, scheme: str = "Bearer") -> Credentials:
    """The password as a token; none without one. Polyaxon's scheme is ``Token`` (polyaxon.md 1)."""
    return Credentials.token(connection.password, scheme) if connection.password else Credentials.none()


def spinnaker_credentials(connection: Fields, extra: Mapping[str, Any], conn_id: str) -> Credentials:
    """One of `SPINNAKER_AUTH`: as ``extra.auth`` says, or else by what is filled in (spinnaker.md 4).

    Raises ConfigError for an unknown kind, and for one without the password that it needs.
    """
    login, password = connection.login or "", connection.password or ""
    fallback = "none" if not password else "basic" if login else "token"
    auth = str(extra.get("auth") or fallback).lower()
    if auth not in SPINNAKER_AUTH:
        raise ConfigError(f"auth {auth!r} is not known", f"connection {conn_id!r}", f"Use {', '.join(SPINNAKER_AUTH)}")
    if auth == "none":
        return Credentials.none()
    if not password:
        raise ConfigError(f"auth {auth!r} needs a password", f"connection {conn_id!r}")
    if auth == "basic":
        return Credentials.basic(login, password)
    if auth == "bearer":
        return Credentials.token(password)
    return Credentials.header("X-Spinnaker-Token", password)


def flag(value: object, *, default: bool) -> bool:
    """A boolean of a connection's extra, where people also write "false" as text."""
    if value is None or value == "":
        return default
    if isinstance(value, str):
        return value.strip().lower() not in {"false", "0", "no", "off"}
    return bool(value)


def _from_json(conn_id: str, text: str) -> Connection:
    try:
        values = json.loads(text)
    except ValueError:
        raise ValueError("it is no JSON") from None
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    unknown = sorted(set(values) - _FIELDS)
    if unknown:
        raise ValueError(f"it has no field {unknown[0]!r}")
    extra = values.get("extra") or {}
    if isinstance(extra, str):
        extra = _parsed_extra(extra)
    if not isinstance(extra, dict):
        raise ValueError("its extra is no JSON object")
    port = values.get("port")
    try:
        number = int(port) if port else None
    except (TypeError, ValueError):
        raise ValueError("its port is no number") from None
    kept = {name: _text(name, values.get(name)) for name in ("host", "schema", "login", "password")}
    return Connection(conn_id, _normal(str(values.get("conn_type") or "")), port=number, extra=extra, **kept)


def _text(name: str, value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"its {name} is no text")
    return value


def _from_uri(conn_id: str, text: str) -> Connection:
    """``type://login:password@host:port/schema?extra``, or ``type://protocol://host...`` (the SDK's `from_uri`)."""
    marks = text.count("://")
    conn_type = urlsplit(text).scheme
    if not 1 <= marks <= 2 or not conn_type:
        raise ValueError("it is neither JSON nor a URI")
    with_protocol = marks == 2
    rest = text.replace(f"{conn_type}://", "" if with_protocol else "//", 1)
    if with_protocol and set(rest.split("://", 1)[0]) & set("@:"):
        raise ValueError("its protocol is not the first thing behind the type")
    parts = urlsplit(rest)
    host: str | None = _host(parts)
    if with_protocol and parts.scheme:
        host = f"{parts.scheme}://{host}" if host else parts.scheme
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    extra = _parsed_extra(query[_EXTRA]) if _EXTRA in query else query
    return Connection(
        conn_id,
        _normal(conn_type),
        host=host,
        schema=unquote(parts.path[1:]) or None,
        port=parts.port,
        login=unquote(parts.username) if parts.username else None,
        password=unquote(parts.password) if parts.password else None,
        extra=extra,
    )


def _host(parts: SplitResult) -> str:
    """The host as it is written: a quoted slash in it makes `urlsplit` change its case (the SDK does the same)."""
    host = unquote(parts.hostname or "")
    if "/" in host:
        host = unquote(parts.netloc.rpartition("@")[2].partition(":")[0])
    return host


def _parsed_extra(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        raise ValueError("its extra is no JSON") from None
    if not isinstance(found, dict):
        raise ValueError("its extra is no JSON object")
    return found


def _normal(conn_type: str) -> str:
    return conn_type.replace("-", "_")


def _is_loopback(address: str) -> bool:
    host = address.rsplit(":", 1)[0] if address.count(":") == 1 else address
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
