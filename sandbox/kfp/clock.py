"""Time as the API tells it: a resolution of one second, and 1970 for "not yet" (reference kfp.md, 4)."""

from __future__ import annotations

from datetime import UTC, datetime

EPOCH = "1970-01-01T00:00:00Z"


def now() -> str:
    """The current second."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: str) -> int:
    """Seconds since 1970 of an RFC 3339 time; raises ValueError."""
    return int(datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp())
