"""Gate's search for executions, with orca's matching and its broken paging (reference spinnaker.md, 1.4)."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from itertools import permutations
from typing import Any

from sandbox.spinnaker.model import Execution


class BadSearch(Exception):
    """A parameter is wrong; ``status`` is what orca answers."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def decoded(text: str | None) -> dict[str, Any]:
    """The trigger that is searched for: standard base64 of JSON. Raises BadSearch (500, as orca does)."""
    if not text:
        return {}
    try:
        found = json.loads(base64.b64decode(text, validate=True))
    except ValueError as error:
        raise BadSearch("Failed to parse encoded trigger", 500) from error
    if not isinstance(found, dict):
        raise BadSearch("Failed to parse encoded trigger", 500)
    return found


def matches(wanted: Any, actual: Any) -> bool:
    """Whether all that is wanted is there: maps recursively, lists by distinct elements, texts by equality or regex."""
    if isinstance(wanted, Mapping):
        return isinstance(actual, Mapping) and all(
            key in actual and matches(value, actual[key]) for key, value in wanted.items()
        )
    if isinstance(wanted, Sequence) and not isinstance(wanted, str):
        if not isinstance(actual, Sequence) or isinstance(actual, str):
            return False
        return any(
            all(matches(want, got) for want, got in zip(wanted, chosen, strict=True))
            for chosen in permutations(actual, len(wanted))
        )
    if isinstance(wanted, str):
        return isinstance(actual, str) and (wanted.lower() == actual.lower() or _java_matches(wanted, actual))
    return bool(wanted == actual)


def _java_matches(pattern: str, text: str) -> bool:
    quoted = re.sub(r"(?s)\\Q(.*?)(?:\\E|$)", lambda found: re.escape(found.group(1)), pattern)
    try:
        return re.fullmatch(quoted, text) is not None
    except re.error:
        return False


def page(newest_first: Sequence[Execution], wanted: Any, start: int, size: int, defect: bool = True) -> list[Execution]:
    """Orca's loop: it stops scanning once it has ``size`` matches and then applies ``start`` to that short list.

    Without the ``defect`` it scans as far as the page needs.
    """
    if size <= 0 or start < 0:
        raise BadSearch("size must be positive and startIndex not negative", 400)
    found: list[Execution] = []
    step, position = 2 * size, 0
    enough = size if defect else start + size
    while len(found) < enough and position < len(newest_first):
        found += [execution for execution in newest_first[position : position + step] if wanted(execution)]
        position += step
    return found[start : start + size]
