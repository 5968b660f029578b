"""The two shapes in which the API server answers errors (reference kfp.md, 4)."""

from __future__ import annotations

from fastapi import Request
from fastapi.responses import JSONResponse

# HTTP status to google.rpc code.
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 503: 14}


class APIError(Exception):
    """Answered as ``google.rpc.Status``; upload paths answer another shape."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def answer(request: Request, error: Exception) -> JSONResponse:
    """The error as JSON."""
    status = error.status if isinstance(error, APIError) else 500
    message = str(error)
    if "/pipelines/upload" in request.url.path:
        return JSONResponse({"error_message": message, "error_details": f"{message}: {message}"}, status)
    code = _CODES.get(status, 2)
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": code, "message": message}
    return JSONResponse({"code": code, "message": message, "details": [detail]}, status)
