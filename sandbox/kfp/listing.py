"""Order and pages of lists (reference kfp.md, 4).

A page token holds order and filter as they were asked for and the place of the next row, so rows that appear meanwhile
move no page.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sandbox.kfp.errors import APIError, invalid
from sandbox.kfp.filters import KEYS, TIMES, column, matcher, predicates
from sandbox.kfp.messages import Message

MAX_PAGE, DEFAULT_PAGE = 200, 20
_NOT_SORTABLE = {"state_history"}


@dataclass(frozen=True)
class Query:
    """The parameters that every list takes."""

    page_token: str = ""
    page_size: int = 0
    sort_by: str = ""
    filter: str = ""


@dataclass(frozen=True)
class Page:
    """Rows of one page, how many there are on all pages, and the next page's token ("" for the last)."""

    rows: list[Message]
    total_size: int
    next_page_token: str


@dataclass(frozen=True)
class _Token:
    """Where a page begins: the list's criteria, and column and id of its first row."""

    sort_by: str
    filter: str
    column: int | str
    id: str


def paged(kind: str, documents: Sequence[Message], query: Query, failing: str) -> Page:
    """One page of those that match. Raises APIError 400, its message beginning with ``failing``."""
    try:
        return _paged(kind, documents, query)
    except APIError as error:
        raise APIError(error.status, f"{failing}: {error}", error.detail) from error


def _paged(kind: str, documents: Sequence[Message], query: Query) -> Page:
    if query.page_size < 0:
        raise invalid("", f"The page size should be greater than 0. Got {query.page_size}")
    size = min(query.page_size or DEFAULT_PAGE, MAX_PAGE)
    token = _opened(query.page_token) if query.page_token else None
    sort_by, filter_ = (
        query.sort_by or (token.sort_by if token else ""),
        query.filter or (token.filter if token else ""),
    )
    field, descending = _order(kind, sort_by)
    wanted = predicates(filter_)
    if token and (_order(kind, token.sort_by), predicates(token.filter)) != ((field, descending), wanted):
        raise invalid("", "page token does not match the supplied sort by and/or filtering criteria. Either specify "
                          "the same criteria or leave the latter empty if page token is specified")  # fmt: skip

    def place(document: Mapping[str, Any]) -> tuple[int | str, str]:
        return column(document, field), str(document[KEYS[kind]["id"]])

    matches = matcher(kind, wanted)
    found = sorted((each for each in documents if matches(each)), key=place, reverse=descending)
    rest = found
    if token is not None:
        at = token.column, token.id
        if isinstance(token.column, int) is not (field in TIMES):
            raise invalid("", "Invalid page token")
        rest = [each for each in found if (place(each) <= at if descending else place(each) >= at)]
    following = ""
    if len(rest) > size:
        content = [sort_by, filter_, *place(rest[size])]
        following = base64.b64encode(json.dumps(content).encode()).decode()
    return Page(rest[:size], len(found), following)


def _order(kind: str, sort_by: str) -> tuple[str, bool]:
    words = sort_by.lower().split()
    if len(words) > 2 or (len(words) == 2 and words[1] not in ("asc", "desc")):
        raise invalid("", f'Received invalid sort by format "{sort_by}". Supported format: "field_name", '
                          '"field_name desc", or "field_name asc"')  # fmt: skip
    name = words[0] if words else "created_at"
    field = KEYS[kind].get(name)
    if field is None or field in _NOT_SORTABLE:
        raise invalid("", f'Invalid sorting field: "{name}" on listable type {kind}')
    return field, words[1:] == ["desc"]


def _opened(text: str) -> _Token:
    try:
        token = _Token(*json.loads(base64.b64decode(text, validate=True)))
    except (ValueError, TypeError, RecursionError) as error:
        raise invalid("", "Invalid page token") from error
    if not all(isinstance(each, str) for each in (token.sort_by, token.filter, token.id)):
        raise invalid("", "Invalid page token")
    return token
