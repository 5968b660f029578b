"""What Gate's routes share: the parts behind them, Spring's error format, and who may not be answered."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.base import RequestResponseEndpoint

from sandbox.spinnaker.front50 import Applications, Pipelines
from sandbox.spinnaker.model import COMPLETE, Execution, Store, without_details
from sandbox.spinnaker.orca import Orca
from sandbox.spinnaker.switches import Switches

# Gate answers these whoever asks, and they are what the sandbox itself looks at.
ALWAYS_OPEN = ("/", "/health", "/login", "/auth/user")


USER = "sandbox"


class GateError(Exception):
    """An answer in Spring's error format."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass
class Gate:
    """The services behind Gate. ``later`` holds what it has promised and not done yet."""

    store: Store
    pipelines: Pipelines
    applications: Applications
    orca: Orca
    switches: Switches
    later: set[asyncio.Task[None]] = field(default_factory=set)

    def execution(self, execution_id: str) -> Execution:
        """The execution; raises GateError 404."""
        found = self.store.executions.get(execution_id)
        if found is None or not self.visible(found):
            raise GateError(404, f"Pipeline not found (id: {execution_id})")
        return found

    def visible(self, execution: Execution) -> bool:
        """Whether an execution is still there; orca's clean-up takes only those that have ended."""
        return not (self.switches.cleanup_404 and execution["status"] in COMPLETE)

    def newest_first(self) -> list[Execution]:
        """All executions that are still there, the latest built first."""
        return [each for each in self.store.newest_first() if self.visible(each)]

    def knows(self, request: Request) -> bool:
        """Whether the caller brings the token that is asked for, in any of the ways that Gate takes one."""
        token, given = self.switches.require_token, request.headers.get("Authorization", "")
        basic = base64.b64encode(f"{USER}:{token}".encode()).decode()
        return (
            not token
            or request.headers.get("X-Spinnaker-Token") == token
            or given in (f"Bearer {token}", f"Basic {basic}")
        )

    async def aclose(self) -> None:
        """Forgets what was promised."""
        for task in self.later:
            task.cancel()
        await asyncio.gather(*self.later, return_exceptions=True)


async def _gate_of(request: Request) -> Gate:
    gate: Gate = request.app.state.gate
    return gate


Behind = Annotated[Gate, Depends(_gate_of)]


def shown(executions: list[Execution], expand: bool) -> JSONResponse:
    """A list as Gate gives it; ``expand=false`` leaves the stages' details out."""
    return JSONResponse(executions if expand else [without_details(each) for each in executions])


def install(app: FastAPI, gate: Gate) -> None:
    """Errors as Spring words them, the login page, and the switches that concern every call."""
    app.state.gate = gate
    for kind in (GateError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, _error_answer)

    @app.get("/login", response_class=HTMLResponse)
    async def login() -> str:
        return "<html><body><form method='post'>Sign in</form></body></html>"

    @app.middleware("http")
    async def trouble(request: Request, call_next: RequestResponseEndpoint) -> Response:
        path, switches = request.url.path, gate.switches
        if path.startswith("/sandbox") or path in ALWAYS_OPEN:
            return await call_next(request)
        # Webhooks are open to everybody by default (reference spinnaker.md, 4).
        if switches.redirect_login or not (path.startswith("/webhooks/") or gate.knows(request)):
            return RedirectResponse("/login", 302)
        await asyncio.sleep(switches.slow_s)
        if switches.spend("unavailable"):
            return _spring(503, "switched off")
        answer = await call_next(request)
        return await _cut(answer) if switches.spend("truncated") else answer


async def _cut(answer: Response) -> Response:
    """The first half of an answer, as a proxy hands it on whose connection broke."""
    parts = [part async for part in answer.body_iterator]  # type: ignore[attr-defined]
    content = b"".join(parts)
    return Response(content[: len(content) // 2], answer.status_code, media_type="application/json")


async def _error_answer(request: Request, error: Exception) -> JSONResponse:
    if isinstance(error, GateError):
        return _spring(error.status, str(error))
    if isinstance(error, HTTPException):
        return _spring(error.status_code, f"No handler for {request.method} {request.url.path}")
    return _spring(400, f"A parameter is wrong: {error}")


def _spring(status: int, message: str) -> JSONResponse:
    body: dict[str, Any] = {
        "timestamp": datetime.now(UTC).isoformat(), "status": status, "error": HTTPStatus(status).phrase,
        "message": message,
    }  # fmt: skip
    return JSONResponse(body, status)
