from __future__ import annotations

import datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic_core import PydanticCustomError

from mlfleet.manifest.naming import format_duration, slug_of
from mlfleet.manifest.values import check_cron, parse_date, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("P1D", 86400),
        ("PT20M", 1200),
        ("P1DT1H1S", 90001),
        ("P2W", 1209600),
        ("7d", 604800),
        ("90m", 5400),
        ("30s", 30),
    ],
)
def test_durations(text: str, seconds: int) -> None:
    assert parse_duration(text) == datetime.timedelta(seconds=seconds)


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "1", "P1M", "P1Y", "1 d", "-1d", "0d", "PT0S", "99999999999w", "P1D ", 5, None]
)
def test_no_durations(text: object) -> None:
    with pytest.raises(PydanticCustomError):
        parse_duration(text)


@given(st.integers(min_value=1, max_value=3660 * 86400))
def test_durations_survive_being_written(seconds: int) -> None:
    duration = datetime.timedelta(seconds=seconds)
    assert parse_duration(format_duration(duration)) == duration


@pytest.mark.parametrize("text", ["0 3 * * *", "*/5 0-6 1 JAN mon", "@daily"])
def test_cron(text: str) -> None:
    assert check_cron(text) == text


@pytest.mark.parametrize("text", ["", "* * * *", "61 * * * *", "a b c d e", "@dayly", "@once", "* * * * * *"])
def test_no_cron(text: str) -> None:
    with pytest.raises(PydanticCustomError):
        check_cron(text)


def test_dates() -> None:
    assert parse_date("2026-11-01") == datetime.date(2026, 11, 1)
    for text in ("2026-13-01", "01.11.2026", 20261101, "2026-11-01T00:00"):
        with pytest.raises(PydanticCustomError):
            parse_date(text)


def test_slugs() -> None:
    names = ["Trading Cards", "  Élan -- vital! ", "default"]
    assert [slug_of(name) for name in names] == ["trading-cards", "elan-vital", "default"]
