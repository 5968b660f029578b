"""Trouble on purpose, for tests: ``POST /sandbox/faults`` (reference kfp.md, 9)."""

from __future__ import annotations

import asyncio
from dataclasses import asdict, dataclass, fields
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse, Response
from starlette.middleware.base import RequestResponseEndpoint
from uvicorn.protocols.http.h11_impl import H11Protocol


class Connection(H11Protocol):
    """Tells requests, as ``request.state.transport``, which connection they came by: so it can be cut."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A client came."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


@dataclass
class Faults:
    """How many more runs are created without an answer, and how many more calls answer 503."""

    drop_after_commit: int = 0
    unavailable: int = 0

    def set(self, values: dict[str, Any]) -> dict[str, int]:
        """Sets the named ones; KeyError names one that does not exist. Returns all."""
        known = {field.name for field in fields(self)}
        for name, value in values.items():
            if name not in known:
                raise KeyError(name)
            setattr(self, name, int(value))
        return asdict(self)

    async def middleware(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        """Answers, or does not, in the place of the API."""
        if self.unavailable > 0 and request.url.path.startswith("/apis"):
            self.unavailable -= 1
            return JSONResponse({"code": 14, "message": "unavailable", "details": []}, 503)
        answer = await call_next(request)
        created = request.method == "POST" and request.url.path.endswith("/runs") and answer.status_code == 200
        if self.drop_after_commit > 0 and created:
            self.drop_after_commit -= 1
            request.state.transport.abort()
        return answer
