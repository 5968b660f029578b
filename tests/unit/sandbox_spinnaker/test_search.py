from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.spinnaker.search import BadSearch, decoded, matches, page


@pytest.mark.parametrize(
    ("wanted", "actual", "found"),
    [
        ({}, {"tag": "x"}, True),
        ({"tag": "x"}, {}, False),
        ({"tag": "X"}, {"tag": "x"}, True),
        ({"tag": "release-.*"}, {"tag": "release-1"}, True),
        ({"tag": "release"}, {"tag": "release-1"}, False),
        ({"tag": r"\Qa.b\E"}, {"tag": "axb"}, False),
        ({"tag": r"\Qa.b\E"}, {"tag": "a.b"}, True),
        ({"tag": r"\Qa.b"}, {"tag": "a.b"}, True),
        ({"tag": r"\Qa\E\\E\Qb\E"}, {"tag": r"a\Eb"}, True),
        ({"tag": "("}, {"tag": "x"}, False),
        ({"tag": "("}, {"tag": "("}, True),
        ({"tag": "1"}, {"tag": 1}, False),
        ({"n": 1}, {"n": 1}, True),
        ({"payload": {"digest": "x"}}, {"payload": {"digest": "x", "more": 1}}, True),
        ({"payload": {"digest": "x"}}, {"payload": "x"}, False),
        ({"artifacts": [{"reference": "a"}]}, {"artifacts": [{"reference": "b"}, {"reference": "a"}]}, True),
        ({"artifacts": [{"reference": "a"}, {"reference": "a"}]}, {"artifacts": [{"reference": "a"}]}, False),
        ({"artifacts": ["a"]}, {"artifacts": "a"}, False),
    ],
)
def test_all_that_is_wanted_must_be_there(wanted: dict[str, Any], actual: dict[str, Any], found: bool) -> None:
    assert matches(wanted, actual) is found


@given(st.text(st.characters(blacklist_characters="\\", blacklist_categories=["Cs"]), min_size=1), st.text())
def test_a_quoted_text_matches_itself_only(text: str, other: str) -> None:
    assert matches({"tag": f"\\Q{text}\\E"}, {"tag": text})
    assert not matches({"tag": f"\\Q{text}\\E"}, {"tag": f"{text}{other}x"})


def test_a_trigger_is_base64_of_an_object() -> None:
    assert decoded(base64.b64encode(json.dumps({"tag": "ö?>"}).encode()).decode()) == {"tag": "ö?>"}
    assert decoded("") == {}
    for text in ("%", "e30", base64.b64encode(b"[]").decode(), base64.b64encode(b"{").decode()):
        with pytest.raises(BadSearch) as error:
            decoded(text)
        assert error.value.status == 500


def test_pages_are_cut_from_what_was_found_before_scanning_stopped() -> None:
    """Reference spinnaker.md, 0.4: of 100 matches with size 10 the third page is empty."""
    executions: list[dict[str, Any]] = [{"n": number} for number in range(100)]
    counts = [len(page(executions, lambda _: True, start, 10)) for start in (0, 10, 20, 30)]
    assert counts == [10, 10, 0, 0]
    sparse = page(executions, lambda each: each["n"] % 30 == 0, 0, 2)
    assert [each["n"] for each in sparse] == [0, 30]


@pytest.mark.parametrize(("start", "size"), [(0, 0), (-1, 10)])
def test_a_page_needs_a_size(start: int, size: int) -> None:
    with pytest.raises(BadSearch) as error:
        page([], lambda _: True, start, size)
    assert error.value.status == 400
