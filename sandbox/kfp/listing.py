"""Filters, order and pages of lists (reference kfp.md, 4)."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sandbox.kfp.errors import APIError

MAX_PAGE, DEFAULT_PAGE = 200, 20
KEYS = {
    "runs": {"run_id", "id", "display_name", "name", "created_at", "finished_at", "description", "scheduled_at",
             "storage_state", "status", "namespace", "experiment_id", "state", "recurring_run_id"},
    "experiments": {"id", "experiment_id", "name", "display_name", "created_at", "last_run_created_at", "description",
                    "namespace", "storage_state"},
    "pipelines": {"id", "pipeline_id", "name", "display_name", "created_at", "description", "namespace"},
    "versions": {"id", "pipeline_version_id", "name", "display_name", "created_at", "status", "description"},
}  # fmt: skip
_ID = {"runs": "run_id", "experiments": "experiment_id", "pipelines": "pipeline_id", "versions": "pipeline_version_id"}
_NUMBERS = {1: "EQUALS", 2: "NOT_EQUALS", 3: "GREATER_THAN", 5: "GREATER_THAN_EQUALS", 6: "LESS_THAN",
            7: "LESS_THAN_EQUALS", 8: "IN", 9: "IS_SUBSTRING"}  # fmt: skip
_VALUES = ("string_value", "int_value", "long_value", "timestamp_value", "string_values", "int_values", "long_values")


def _same(a: Any, b: Any) -> bool:
    # MySQL's collation does not tell capitals from small letters.
    return bool(a.lower() == b.lower()) if isinstance(a, str) and isinstance(b, str) else bool(a == b)


_OPERATIONS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUALS": _same,
    "NOT_EQUALS": lambda a, b: not _same(a, b),
    "GREATER_THAN": lambda a, b: a > b,
    "GREATER_THAN_EQUALS": lambda a, b: a >= b,
    "LESS_THAN": lambda a, b: a < b,
    "LESS_THAN_EQUALS": lambda a, b: a <= b,
    "IN": lambda a, b: any(_same(a, each) for each in b),
    "IS_SUBSTRING": lambda a, b: b.lower() in a.lower(),
}


def predicate(kind: str, text: str | None) -> Callable[[Mapping[str, Any]], bool]:
    """The filter as a function; raises APIError 400 for one that the server refuses."""
    if not text:
        return lambda document: True
    try:
        wanted = [_one(kind, each) for each in json.loads(text).get("predicates", [])]
    except (ValueError, AttributeError) as error:
        raise APIError(400, f"Invalid input error: failed to parse filter: {error}") from error
    return lambda document: all(check(document) for check in wanted)


def _one(kind: str, given: Mapping[str, Any]) -> Callable[[Mapping[str, Any]], bool]:
    snake = {_snake(key): value for key, value in given.items()}
    operation = snake.get("operation", snake.get("op"))
    operation = _NUMBERS.get(operation, operation) if isinstance(operation, int) else operation
    key = snake.get("key")
    if operation not in _OPERATIONS:
        raise APIError(400, f"Invalid input error: unknown filter operation {operation!r}")
    if key not in KEYS[kind]:
        raise APIError(400, f"Invalid input error: no support for filtering on unrecognized field {key!r}")
    name = next((each for each in _VALUES if each in snake), None)
    if name is None:
        raise APIError(400, "Invalid input error: a predicate needs a value")
    value = snake[name]["values"] if name.endswith("_values") else snake[name]
    field = {"id": _ID[kind], "name": "name" if kind != "runs" else "display_name", "status": "state"}.get(key, key)
    check = _OPERATIONS[operation]

    def holds(document: Mapping[str, Any]) -> bool:
        actual = document.get(field, document.get("display_name") if field == "name" else None)
        return actual is not None and check(actual, value)

    return holds


def _snake(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


def page(
    documents: Sequence[dict[str, Any]], sort_by: str | None, size: int | None, token: str | None, kind: str
) -> tuple[list[dict[str, Any]], str]:
    """One page in the wanted order, and the token of the next one ("" for the last)."""
    field, _, direction = (sort_by or "created_at asc").partition(" ")
    if field not in KEYS[kind] or direction not in ("", "asc", "desc"):
        raise APIError(400, f"Invalid input error: cannot sort on field {sort_by!r}")
    field = {"id": _ID[kind], "status": "state"}.get(field, field)
    ordered = sorted(
        documents, key=lambda each: (str(each.get(field, "")), str(each[_ID[kind]])), reverse=direction == "desc"
    )
    if size is not None and size < 0:
        raise APIError(400, "Invalid input error: the page size should not be negative")
    start = _position(token)
    end = start + min(size or DEFAULT_PAGE, MAX_PAGE)
    following = base64.b64encode(json.dumps({"start": end}).encode()).decode() if end < len(ordered) else ""
    return ordered[start:end], following


def _position(token: str | None) -> int:
    if not token:
        return 0
    try:
        return int(json.loads(base64.b64decode(token, validate=True))["start"])
    except (ValueError, KeyError, TypeError) as error:
        raise APIError(400, "Invalid input error: invalid page token") from error
