"""The ``filter=`` parameter of lists: ``{"predicates": [...]}``, all of which must hold (reference kfp.md, 4).

The real server makes SQL for MySQL of it. What shows of that is kept: strings compare without regard to case, and in
IS_SUBSTRING ``_`` and ``%`` are LIKE's wildcards. Times compare as seconds since 1970.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote_plus

from sandbox.kfp.clock import seconds
from sandbox.kfp.errors import APIError, invalid
from sandbox.kfp.messages import Message, snake

Check = Callable[[Mapping[str, Any]], bool]
TIMES = {"created_at", "updated_at", "finished_at", "scheduled_at", "last_run_created_at"}
_COMMON = {"created_at", "description", "namespace"}
# Key in the filter to field of the message, by kind (models' APIToModelFieldMap).
KEYS: dict[str, dict[str, str]] = {
    "runs": {each: each for each in (*_COMMON, "run_id", "display_name", "finished_at", "scheduled_at", "state",
                                     "storage_state", "experiment_id", "recurring_run_id", "state_history")}
    | {"id": "run_id", "name": "display_name", "status": "state", "runtime_details": "runtime_details"},
    "experiments": {each: each for each in (*_COMMON, "experiment_id", "display_name", "last_run_created_at",
                                            "storage_state")} | {"id": "experiment_id", "name": "display_name"},
    "pipelines": {each: each for each in (*_COMMON, "pipeline_id", "name", "display_name")} | {"id": "pipeline_id"},
    "versions": {each: each for each in ("pipeline_version_id", "name", "display_name", "created_at", "description",
                                         "pipeline_spec", "status")} | {"id": "pipeline_version_id"},
    "recurring": {each: each for each in ("recurring_run_id", "display_name", "created_at", "updated_at",
                                          "description")} | {"id": "recurring_run_id", "name": "display_name"},
}  # fmt: skip
_OPERATIONS = {1: "EQUALS", 2: "NOT_EQUALS", 3: "GREATER_THAN", 5: "GREATER_THAN_EQUALS", 6: "LESS_THAN",
               7: "LESS_THAN_EQUALS", 8: "IN", 9: "IS_SUBSTRING"}  # fmt: skip
_CHECKS: dict[str, Callable[[Any, Any], bool]] = {
    "EQUALS": lambda a, b: bool(a == b),
    "NOT_EQUALS": lambda a, b: bool(a != b),
    "GREATER_THAN": lambda a, b: bool(a > b),
    "GREATER_THAN_EQUALS": lambda a, b: bool(a >= b),
    "LESS_THAN": lambda a, b: bool(a < b),
    "LESS_THAN_EQUALS": lambda a, b: bool(a <= b),
    "IN": lambda a, b: a in b,
}


def column(document: Mapping[str, Any], field: str) -> int | str:
    """What the database compares: times are numbers, everything else is text in small letters."""
    value = document.get(field, "")
    if field in TIMES:
        return seconds(value) if value else 0
    return (value if isinstance(value, str) else json.dumps(value)).lower()


def predicates(text: str) -> list[Message]:
    """The predicates as ``{"operation", "key", "value"}``; raises APIError 400 for what the server can't read."""
    if not text:
        return []
    # The server decodes a second time what HTTP has decoded already.
    if re.search(r"%(?![0-9A-Fa-f]{2})", text):
        raise invalid("", f'failed to parse valid filter from "{text}": invalid URL escape')
    try:
        given = json.loads(unquote_plus(text))
        if set(given) - {"predicates"}:
            raise ValueError(f"unknown field {min(given)}")
        return [_predicate(each) for each in given.get("predicates", [])]
    except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
        raise invalid("", f'failed to parse valid filter from "{text}": {error}') from error


def _predicate(given: Mapping[str, Any]) -> Message:
    fields = {snake(key): value for key, value in given.items()}
    operation, key = fields.pop("operation", 0), fields.pop("key", "")
    if isinstance(operation, int):
        operation = _OPERATIONS.get(operation, str(operation))
    if operation not in _OPERATIONS.values():
        raise APIError(400, f"UnknownApiVersionError: Error using Filter.Predicate.Operation with {operation}")
    if len(fields) != 1:
        raise ValueError("a predicate needs exactly one value")
    ((kind, value),) = fields.items()
    if not key:
        raise invalid("", f"Predicate key cannot be empty for operation {operation} and value {value}")
    found = _value(kind, value)
    _refuse_mismatch(operation, found)
    return {"operation": operation, "key": key, "value": found}


def _value(kind: str, value: Any) -> int | str | list[int] | list[str]:
    match kind:
        case "int_value" | "long_value":
            return int(value)
        case "string_value" if isinstance(value, str):
            return value
        case "timestamp_value":
            return seconds(value)
        case "int_values" | "long_values":
            return [int(each) for each in value["values"]]
        case "string_values":
            return [str(each) for each in value["values"]]
    raise ValueError(f"{kind} is no value, or not of that type")


def _refuse_mismatch(operation: str, value: Any) -> None:
    name = type(value).__name__
    if operation == "IN" and not isinstance(value, list):
        raise invalid("", f"cannot use IN operator with scalar type {name}")
    if operation == "IS_SUBSTRING" and not isinstance(value, str):
        raise invalid("", f"cannot use non string value type {operation} with operator {name}")
    if operation not in ("IN", "IS_SUBSTRING") and isinstance(value, list):
        raise invalid("", f"cannot use scalar operator {operation} on array type {name}")


def matcher(kind: str, wanted: list[Message]) -> Check:
    """Whether a document satisfies all predicates. Raises APIError 400 for a key that can't be filtered on."""
    checks = [_check(kind, each) for each in wanted]
    return lambda document: all(check(document) for check in checks)


def _check(kind: str, predicate: Message) -> Check:
    field = KEYS[kind].get(predicate["key"])
    if field is None:
        raise invalid("", f'no support for filtering on unrecognized field "{predicate["key"]}"')
    value = predicate["value"]
    if predicate["operation"] == "IS_SUBSTRING":
        like = re.compile("".join({"%": ".*", "_": "."}.get(c, re.escape(c)) for c in value.lower()), re.DOTALL)
        return lambda document: like.search(str(column(document, field))) is not None
    as_column = _number if field in TIMES else _text
    other = [as_column(each) for each in value] if isinstance(value, list) else as_column(value)
    compare = _CHECKS[predicate["operation"]]
    return lambda document: compare(column(document, field), other)


def _number(value: int | str) -> int:
    """A number column makes a number of text, 0 of what is none."""
    if isinstance(value, int):
        return value
    digits = re.match(r"\s*(-?\d+)", value)
    return int(digits.group(1)) if digits else 0


def _text(value: int | str) -> str:
    return str(value).lower()
