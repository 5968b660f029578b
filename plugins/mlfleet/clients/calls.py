"""One HTTP call before it is sent, and the small rules about addresses and bodies."""

from __future__ import annotations

import enum
import json as jsonlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from mlfleet.errors import ConfigError

# Nothing that these clients read as a whole is larger; a server that sends without end must not fill the memory.
MAX_BYTES = 64 * 2**20

Params = Mapping[str, str | int | bool | None]


class Expect(enum.Enum):
    """What the body of a successful answer must be."""

    JSON = "json"  # Content-Type application/json or +json, and parseable
    JSON_OR_NOTHING = "json or nothing"  # calls that Gate and Polyaxon answer with an empty 200
    TEXT = "text"  # anything but HTML
    BYTES = "bytes"  # anything; the caller verifies a digest
    NOTHING = "nothing"  # the body is not looked at


@dataclass(frozen=True)
class Call:
    """One call, ready to be sent as often as needed; ``repr`` shows neither parameters nor body.

    ``decode`` reads the JSON of the answer; it raises ValueError for what it can't read, which is then read as a whole.
    """

    method: str
    url: httpx.URL
    repeatable: bool
    expect: Expect = Expect.JSON
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    files: Mapping[str, tuple[str, bytes, str]] | None = field(default=None, repr=False)
    max_bytes: int = MAX_BYTES
    decode: Callable[[bytes], Any] = msgspec.json.decode


def segment(value: str) -> str:
    """``value`` as one path segment; raises ConfigError for texts that would change the path."""
    if value in {"", ".", ".."} or not value.isprintable():
        raise ConfigError(f"{value!r} cannot be part of an address")
    return quote(value, safe="")


def checked_base(base_url: str, system: str) -> str:
    """The base address without a slash at its end; raises ConfigError, without repeating a password in it."""
    try:
        url = httpx.URL(base_url)
    except httpx.InvalidURL as exc:
        raise ConfigError(f"{system}: the address cannot be read: {exc}", "the connection") from None
    if url.scheme not in {"http", "https"} or not url.host:
        raise ConfigError(f"{system}: an address like https://host:port is needed", "the connection's host and schema")
    if url.userinfo:
        raise ConfigError(
            f"{system}: the address of {url.host} holds a login", "the connection's host", "Use login and password"
        )
    return base_url.rstrip("/")


def origin(url: httpx.URL) -> tuple[str, str, int]:
    """Scheme, host and port: where credentials may go."""
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def param(value: str | int | bool | None) -> str:
    """A query value as text; booleans in lower case, as JSON and Java write them."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def is_json(response: httpx.Response) -> bool:
    """Whether the Content-Type says JSON."""
    kind: str = response.headers.get("content-type", "").split(";")[0].strip().lower()
    return kind == "application/json" or kind.endswith("+json")


def parse_json(call: Call, response: httpx.Response, content: bytes) -> tuple[Any, str]:
    """(value, "") or (None, what is wrong)."""
    if not content.strip():
        return (None, "") if call.expect is Expect.JSON_OR_NOTHING else (None, "an empty body where JSON is expected")
    if not is_json(response):
        kind = response.headers.get("content-type") or "no Content-Type"
        return None, f"{kind} where JSON is expected; is there a login page or a proxy in between?"
    try:
        return call.decode(content), ""
    except (ValueError, RecursionError):
        return _lenient(content)


def _lenient(content: bytes) -> tuple[Any, str]:
    """What Python's own reader makes of it: servers written in Python say NaN, which is no JSON, for a lost metric."""
    try:
        return jsonlib.loads(content), ""
    except (ValueError, RecursionError):
        return None, "JSON that cannot be read"
