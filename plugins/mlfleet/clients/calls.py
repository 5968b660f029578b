"""One HTTP call before it is sent, and the small rules about addresses and bodies."""

from __future__ import annotations

import enum
import json as jsonlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlencode

import httpx
import msgspec

from mlfleet.errors import ConfigError

# Nothing that these clients read as a whole is larger; a server that sends without end must not fill the memory.
MAX_BYTES = 64 * 2**20

# Characters of a query above which it is worth a `LongQuery`.
_LONG = 500

Params = Mapping[str, str | int | bool | None]


class LongQuery(httpx.URL):
    """An address with a query that is quoted already, and that httpx does not look at again.

    It checks each character of an address in Python: for a hundred ids (5 KB) that takes as long as all else that is
    done to send them. Whatever makes a new address of one (``join``, ``copy_with``) loses the query.
    """

    def __init__(self, base: httpx.URL, query: str) -> None:
        super().__init__(base)
        self._long_query = query

    @property
    def query(self) -> bytes:
        """As `httpx.URL.query`."""
        return self._long_query.encode("ascii")

    @property
    def params(self) -> httpx.QueryParams:
        """As `httpx.URL.params`."""
        return httpx.QueryParams(self._long_query)

    @property
    def raw_path(self) -> bytes:
        """As `httpx.URL.raw_path`: what is sent."""
        return super().raw_path + b"?" + self.query

    def __str__(self) -> str:
        return f"{super().__str__()}?{self._long_query}"


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


def address(text: str, params: Params | None) -> httpx.URL:
    """``text`` with those ``params`` whose value is not None."""
    given = {key: param(value) for key, value in (params or {}).items() if value is not None}
    query = urlencode(given)
    if len(query) > _LONG and "?" not in text and "#" not in text:
        return LongQuery(httpx.URL(text), query)
    if query:
        text += ("&" if "?" in text else "?") + query
    return httpx.URL(text)


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
