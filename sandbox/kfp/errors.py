"""The two shapes in which the API server answers errors (reference kfp.md, 4)."""

from __future__ import annotations

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

# HTTP status to google.rpc code. ABORTED (10) is a 409 as well: the gateway maps both.
_CODES = {400: 3, 401: 16, 403: 7, 404: 5, 409: 6, 500: 13, 501: 12, 503: 14}
ABORTED, FAILED_PRECONDITION = 10, 9


class APIError(Exception):
    """Answered as ``google.rpc.Status``, on upload paths in their own shape.

    ``status`` is the HTTP status, ``code`` the google.rpc code (that of the status when 0), ``detail`` the message for
    outsiders, which the server repeats in ``details`` and alone shows on uploads.
    """

    def __init__(self, status: int, message: str, detail: str = "", code: int = 0) -> None:
        super().__init__(message)
        self.status = status
        self.code = code or _CODES[status]
        self.detail = detail or message


def not_found(doing: str, what: str) -> APIError:
    """404, as ``Failed to get a run: ResourceNotFoundError: Run x not found``."""
    return APIError(404, f"{doing}: ResourceNotFoundError: {what} not found", f"{what} not found")


def invalid(doing: str, message: str) -> APIError:
    """400."""
    return APIError(400, f"{doing}: Invalid input error: {message}" if doing else message, message)


def exists(doing: str, message: str) -> APIError:
    """409."""
    return APIError(409, f"{doing}: Already exist error: {message}", message)


def internal(doing: str, message: str) -> APIError:
    """500; the cause is in the message, outsiders read "Internal Server Error"."""
    return APIError(500, f"{doing}: InternalServerError: {message}", "Internal Server Error")


def answer(request: Request, error: Exception) -> JSONResponse:
    """The error as JSON."""
    known = error if isinstance(error, APIError) else _translated(request, error)
    if "/pipelines/upload" in request.url.path:
        return JSONResponse({"error_message": known.detail, "error_details": str(known)}, known.status)
    detail = {"@type": "type.googleapis.com/google.rpc.Status", "code": known.code, "message": known.detail}
    details = [detail] if isinstance(error, APIError) else []
    return JSONResponse({"code": known.code, "message": str(known), "details": details}, known.status)


def _translated(request: Request, error: Exception) -> APIError:
    """What FastAPI itself finds wrong, in the words of the gateway."""
    if isinstance(error, HTTPException) and error.status_code in (404, 405):
        return APIError(404, "Not Found") if error.status_code == 404 else APIError(501, "Method Not Allowed")
    if "/pipelines/upload" in request.url.path:
        return APIError(400, "Failed to read pipeline from file")
    if not isinstance(error, RequestValidationError):
        return APIError(400, f"proto: syntax error (line 1:1): {error}")
    first = error.errors()[0]
    return APIError(400, f"type mismatch, parameter: {first['loc'][-1]}, error: {first['msg']}")
