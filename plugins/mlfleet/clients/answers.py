"""An answer of a remote system, and reading it without trusting it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec

from mlfleet.errors import OutcomeUnknown, RemoteError, UnexpectedAnswer

# Where the systems put their explanation, in the order in which the first one present is the most telling:
# KFP upload, KFP/gRPC and Spring, Polyaxon (Django REST framework), Spring's short one.
_REASON_KEYS = ("error_message", "message", "detail", "error_description", "error", "errors")
_DISK_FULL = re.compile(r"(?i)no space left|disk quota|\"?Err\"?\s*:\s*(28|122)\b")
_TAGS = re.compile(r"(?s)<(script|style).*?</\1>|<[^>]*>")


@dataclass(frozen=True, repr=False)
class Answer:
    """A successful answer.

    ``data`` is the parsed JSON, None for an empty or non-JSON body; ``content`` the decoded bytes. ``address`` is what
    was asked, secrets included; ``redact`` takes them out. ``repeatable`` says whether the call may be sent again,
    which decides what a nonsensical answer means.
    """

    system: str
    method: str
    address: httpx.URL
    status: int
    headers: httpx.Headers
    content: bytes
    redact: Callable[[str], str]
    data: Any = field(default=None)
    repeatable: bool = True

    @property
    def url(self) -> str:
        """The address without secrets; made when it is asked for, because a poll's address has kilobytes of ids."""
        return self.redact(str(self.address))

    def __repr__(self) -> str:
        return f"Answer({self.system} {self.method} {self.url}: {self.status}, {len(self.content)} bytes)"

    def wrong(self, message: str) -> RemoteError:
        """The error for an answer that is not what the API promises.

        For a call that must not be repeated it is OutcomeUnknown: the system said yes, but we cannot tell to what.
        """
        kind = UnexpectedAnswer if self.repeatable else OutcomeUnknown
        return kind(self.system, message, method=self.method, url=self.url, status=self.status)

    def object(self) -> dict[str, Any]:
        """``data`` as a JSON object; raises UnexpectedAnswer or OutcomeUnknown when it is something else."""
        if not isinstance(self.data, dict):
            raise self.wrong(f"a JSON object was expected, not {_kind(self.data)}")
        return self.data

    def objects(self, key: str | None = None) -> list[dict[str, Any]]:
        """A list of JSON objects: ``data`` itself, or ``data[key]`` where a missing or null key is an empty list.

        KFP leaves empty lists out (kfp.md 4).
        """
        rows = self.data if key is None else self.object().get(key)
        if rows is None and key is not None:
            return []
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise self.wrong(f"a list of JSON objects was expected{f' at {key!r}' if key else ''}, not {_kind(rows)}")
        return rows

    def whole(self) -> Answer:
        """The same with everything in ``data``, for who has asked for a part of it (`Call.decode`) and needs more."""
        try:
            data = msgspec.json.decode(self.content)
        except ValueError:
            # Only Python's own reader understood it before.
            data = self.data
        return replace(self, data=data)

    def text(self, key: str) -> str:
        """``data[key]`` as a non-empty text; raises when it is missing or something else."""
        value = self.object().get(key)
        if not isinstance(value, str) or not value:
            raise self.wrong(f"the answer has no {key!r}")
        return value


def _kind(value: object) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "nothing"}.get(type(value), "something else")


def optional_text(value: object) -> str | None:
    """A non-empty text, else None."""
    return value if isinstance(value, str) and value else None


def mapping(value: object) -> dict[str, Any]:
    """A JSON object as dict, {} for anything else (systems send null where they mean an empty object)."""
    return dict(value) if isinstance(value, Mapping) else {}


def texts(value: object) -> tuple[str, ...]:
    """The texts of a list, () for anything else."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list) else ()


def number(value: object) -> int:
    """An integer that may arrive as text (int64 in KFP's JSON, kfp.md 4); 0 for anything else."""
    if isinstance(value, bool):
        return 0
    if isinstance(value, int | float):
        return int(value)
    if isinstance(value, str) and re.fullmatch(r"-?\d+", value.strip()):
        return int(value)
    return 0


def moment(value: object) -> datetime | None:
    """An RFC 3339 text as an aware datetime; None when absent, unreadable, or the epoch.

    KFP gives the epoch as the end of a run that is not finished (kfp.md 4).
    """
    if not isinstance(value, str):
        return None
    try:
        parsed = datetime.fromisoformat(value)
    except ValueError:
        return None
    aware = parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    return aware if aware.timestamp() > 0 else None


def moment_ms(value: object) -> datetime | None:
    """Epoch milliseconds, as Spinnaker tells times, as an aware datetime; None when absent, zero or senseless."""
    milliseconds = number(value)
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds > 0 else None
    except (ValueError, OverflowError, OSError):  # beyond the year 9999
        return None


def explain(body: str, content_type: str) -> str:
    """The system's own explanation in an error body as one line of at most 500 characters; "" when there is none.

    Knows the shapes of KFP (API and upload), Spring, Django REST framework and registries; of an HTML page it takes
    the words. A full disk behind a registry is named as such.
    """
    text = _from_json(body)
    if text is None:
        text = _TAGS.sub(" ", body) if "html" in content_type else body
    text = " ".join(text.split())[:500]
    if _DISK_FULL.search(body):
        text = f"its disk is full ({text})"
    return text


def _from_json(body: str) -> str | None:
    try:
        return _tell(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _tell(value: Any) -> str:
    """Words out of any of the error shapes."""
    if isinstance(value, list):
        return "; ".join(filter(None, (_tell(item) for item in value[:5])))
    if not isinstance(value, dict):
        return "" if value is None else str(value)
    if "code" in value and "message" in value and isinstance(value["code"], str):
        # A registry's {"code","message","detail"}: the code is what one can search for.
        return f"{value['code']}: {value['message']}"
    found = next((value[key] for key in _REASON_KEYS if value.get(key)), None)
    if found is not None:
        return _tell(found)
    return "; ".join(f"{key}: {_tell(item)}" for key, item in list(value.items())[:5])
