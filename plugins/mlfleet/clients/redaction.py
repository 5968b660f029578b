"""Keeps secrets out of error texts, reprs and log lines."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable

import httpx

HIDDEN = "***"

# A configured secret shorter than this is not searched for: replacing "a" everywhere would eat the message.
_SHORTEST_SECRET = 4

_NAME = (
    r"[a-z0-9_\-]*(?:token|password|passwd|secret|api[_\-]?key|signature|credential|authorization|session)[a-z0-9_\-]*"
)
# '?token=x' and '&X-Amz-Signature=x' in addresses; 'password: x' and '"token": "x"' in bodies and header dumps.
_IN_QUERY = re.compile(rf"(?i)([?&](?:{_NAME}|sig|key)=)[^&\s\"'<>]+")
_IN_TEXT = re.compile(rf"(?i)([\"']?\b{_NAME}[\"']?\s*[:=]\s*)(?:([\"'])(?:(?!\2).)*\2|[^\s,;&\"'<>}}\]]+)")
# The digit keeps "Basic authentication" readable.
_SCHEMES = re.compile(r"(?i)\b(bearer|basic|token)\s+(?=[a-z+/._~=\-]*\d)[a-z0-9+/._~=\-]{8,}")
_USER_INFO = re.compile(r"(?i)\b([a-z][a-z0-9+.\-]*://)[^/\s@\"']+@")


class Redactor:
    """Replaces known secrets and everything that looks like a credential by ``***``."""

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._secrets: list[str] = []
        for secret in secrets:
            self.add(secret)

    def add(self, secret: str) -> None:
        """Hide ``secret`` from now on, too (a token that was obtained meanwhile)."""
        if len(secret) >= _SHORTEST_SECRET and secret not in self._secrets:
            # Longest first, so that a secret which contains another one is not left half visible.
            self._secrets = sorted([*self._secrets, secret], key=len, reverse=True)

    def __call__(self, text: str) -> str:
        """Return ``text`` without secrets."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        text = _USER_INFO.sub(rf"\1{HIDDEN}@", text)
        text = _IN_QUERY.sub(rf"\1{HIDDEN}", text)
        text = _SCHEMES.sub(rf"\1 {HIDDEN}", text)
        # Quotes stay, so that redacted JSON is still JSON.
        return _IN_TEXT.sub(rf"\1\2{HIDDEN}\2", text)

    def __repr__(self) -> str:
        return f"Redactor({len(self._secrets)} secrets)"


class _AddressFilter(logging.Filter):
    """Redacts the addresses that httpx logs at INFO, where signed blob addresses and token queries would show."""

    def __init__(self) -> None:
        super().__init__()
        self._redact = Redactor()

    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(self._redact(str(a)) if isinstance(a, httpx.URL) else a for a in record.args)
        return True


def guard_httpx_log() -> None:
    """Install the filter on httpx's own logger, once per process."""
    logger = logging.getLogger("httpx")
    if not any(isinstance(item, _AddressFilter) for item in logger.filters):
        logger.addFilter(_AddressFilter())
