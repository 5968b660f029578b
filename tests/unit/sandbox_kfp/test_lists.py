"""Filters, order and page tokens of lists, without a server."""

from __future__ import annotations

import contextlib
import json
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.kfp.errors import APIError
from sandbox.kfp.filters import matcher, predicates
from sandbox.kfp.listing import Query, paged

RUN = {
    "run_id": "r1", "display_name": "Nightly 100%_done", "state": "FAILED", "description": "",
    "created_at": "2026-11-01T10:00:00Z", "finished_at": "1970-01-01T00:00:00Z",
}  # fmt: skip


def matches(operation: str | int, key: str, **value: Any) -> bool:
    text = json.dumps({"predicates": [{"operation": operation, "key": key, **value}]})
    return matcher("runs", predicates(quote(text)))(RUN)


@pytest.mark.parametrize(
    ("operation", "key", "value", "found"),
    [
        ("EQUALS", "name", {"stringValue": "nightly 100%_DONE"}, True),
        ("NOT_EQUALS", "status", {"string_value": "failed"}, False),
        (9, "display_name", {"stringValue": "NIGHT"}, True),
        (9, "display_name", {"stringValue": "n%1_0"}, True),
        (9, "display_name", {"stringValue": "night.*"}, False),
        ("IN", "id", {"stringValues": {"values": ["r0", "R1"]}}, True),
        ("IN", "id", {"stringValues": {"values": []}}, False),
        ("LESS_THAN", "created_at", {"timestampValue": "2026-11-01T12:00:00+01:00"}, True),
        ("LESS_THAN_EQUALS", "created_at", {"timestampValue": "2026-11-01T10:00:00Z"}, True),
        ("EQUALS", "finished_at", {"longValue": "0"}, True),
        ("EQUALS", "finished_at", {"stringValue": "never"}, True),  # text that is no number is 0 for the database
    ],
)
def test_a_predicate(operation: str | int, key: str, value: dict[str, Any], found: bool) -> None:
    assert matches(operation, key, **value) is found


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 7), st.booleans())
def test_pages_show_every_row_once_and_in_order(times: list[int], size: int, descending: bool) -> None:
    rows = [
        {"experiment_id": f"e{number:02}", "display_name": "x", "created_at": f"2026-11-01T10:00:{second:02}Z"}
        for number, second in enumerate(times)
    ]
    query = Query(page_size=size, sort_by="created_at desc" if descending else "")
    seen: list[Any] = []
    while True:
        page = paged("experiments", rows, query, "listing")
        assert page.total_size == len(rows)
        seen += page.rows
        if not page.next_page_token:
            break
        assert len(page.rows) == size
        query = Query(page_token=page.next_page_token, page_size=size)
    wanted = sorted(rows, key=lambda row: (row["created_at"], row["experiment_id"]), reverse=descending)
    assert seen == wanted


@given(st.text() | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_other_token_is_refused(token: str) -> None:
    if token:
        with pytest.raises(APIError, match=r"^listing: .*Invalid page token$"):
            paged("runs", [RUN], Query(page_token=token), "listing")


@given(
    st.recursive(
        st.none() | st.integers() | st.text(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_any_filter_is_read_or_refused(content: Any) -> None:
    with contextlib.suppress(APIError):
        predicates(json.dumps(content))
