from __future__ import annotations

import json
import re
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest

from .support import FLIGHTS, components, copied, features_of, measured, one_sentence, python

PROJECT = "flight-delay"
features = features_of(PROJECT)
ITEM = {"scheduled_departure": 1730, "carrier": "UA", "origin": "EWR", "dest": "SFO", "distance": 2565}
KNOWN_LATER = ("dep_time", "dep_delay", "arr_time", "arr_delay", "air_time", "tailnum")
HEADER = (
    "year,month,day,dep_time,sched_dep_time,dep_delay,arr_time,sched_arr_time,arr_delay,carrier,flight,tailnum,origin,"
    "dest,air_time,distance,hour,minute,time_hour\n"
)


@pytest.fixture
def code(tmp_path: Path) -> Path:
    return copied(PROJECT, tmp_path / "code")


@pytest.fixture(scope="module")
def spring(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real flights of January to March: enough, and quicker to read than the year."""
    path = tmp_path_factory.mktemp("data") / "flights.csv"
    with FLIGHTS.open() as file:
        path.write_text(HEADER + "".join(line for line in file if line.startswith(("2013,1,", "2013,2,", "2013,3,"))))
    return path


def trial(code: Path, data: Path, end: str, *more: str) -> Any:
    return python(code, "train.py", f"--data={data}", f"--data-end={end}", *more)


def pipeline(out: Path, data: Path, end: str, history: int = 28) -> Any:
    return components(PROJECT, out, ("train_and_evaluate", {
        "data": str(data), "data_end": end, "history_days": history, "max_leaf_nodes": 15,
        "model": "@model", "metrics": "@metrics", "mlfleet_outputs": "@outputs",
    }))  # fmt: skip


def spoilt(path: Path, to: Path, days: set[date]) -> Path:
    """The same flights, but those of `days` arrived a day late."""

    def late(line: str) -> str:
        fields = line.split(",")
        if date(*map(int, fields[:3])) in days:
            fields[8] = "1440"
        return ",".join(fields)

    first, *rest = path.read_text().splitlines(keepends=True)
    to.write_text(first + "".join(map(late, rest)))
    return to


def test_nothing_that_is_known_only_later_is_a_feature() -> None:
    assert features.vector({**ITEM, **dict.fromkeys(KNOWN_LATER, "999")}) == features.vector(ITEM)
    assert len(features.vector(ITEM)) == len(ITEM)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"carrier": "ZZ"}, "carrier must be one of 9E, AA"),
        ({"origin": "FRA"}, "origin must be one of EWR, JFK, LGA"),
        ({"dest": "FRA"}, "dest must be one of ABQ"),
        ({"dest": None}, "dest must be one of"),
        ({"carrier": []}, "carrier must be one of"),
        ({"distance": "far"}, "distance must be a number"),
        ({"distance": True}, "distance must be a number"),
        ({"scheduled_departure": None}, "scheduled_departure must be a number"),
        ({"scheduled_departure": 1775}, "time of day"),
        ({"scheduled_departure": 2400}, "time of day"),
        ({"scheduled_departure": -1}, "time of day"),
        ({"scheduled_departure": float("inf")}, "scheduled_departure must be a number"),
    ],
)
def test_what_is_no_flight_is_named(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        features.vector({**ITEM, **change})
    with pytest.raises(ValueError, match="must be an object"):
        features.vector("UA")


def test_a_day_of_any_year_is_replayed() -> None:
    assert features.replayed(date(2026, 11, 24)) == date(2013, 11, 24)
    assert features.replayed(date(2028, 2, 29)) == date(2013, 2, 28)
    every = {date(2028, 1, 1) + timedelta(days=n) for n in range(366)}
    assert {features.replayed(day).year for day in every} == {2013}
    assert len({features.replayed(day) for day in every}) == 365


@pytest.mark.parametrize(
    ("first", "after", "days"),
    [
        (date(2025, 12, 31), date(2026, 1, 2), {date(2013, 12, 31), date(2013, 1, 1)}),
        (date(2028, 2, 28), date(2028, 3, 1), {date(2013, 2, 28)}),
        (date(2027, 2, 28), date(2027, 3, 2), {date(2013, 2, 28), date(2013, 3, 1)}),
        (date(2026, 5, 5), date(2026, 5, 5), set()),
    ],
)
def test_the_days_of_an_interval(first: date, after: date, days: set[date]) -> None:
    assert features.days(first, after) == days


def test_the_window_ends_before_the_interval_does() -> None:
    first, validation, held_out, end = features.window("2026-11-24T04:00:00+00:00", 28)
    assert (first, held_out, end) == (date(2026, 10, 27), date(2026, 11, 23), date(2026, 11, 24))
    assert validation == date(2026, 11, 16)
    for history, words in ((13, "from 14 to 365"), (366, "from 14 to 365")):
        with pytest.raises(SystemExit, match=words):
            features.window("2026-11-24", history)


def test_the_leap_day_is_not_trained_on_and_evaluated_at_once(spring: Path) -> None:
    first, _, held_out, end = features.window("2028-03-01", 28)
    assert held_out == date(2028, 2, 29)
    evaluated = features.load(spring, held_out, end)
    assert evaluated == features.load(spring, date(2013, 2, 28), date(2013, 3, 1))
    trained = features.load(spring, first, held_out, features.days(held_out, end))
    assert trained == features.load(spring, date(2013, 2, 2), date(2013, 2, 28))


@pytest.mark.parametrize("end", ["2026-03-20", "2028-03-01"])
def test_the_pipeline_neither_learns_from_its_held_out_day_nor_from_later_ones(
    tmp_path: Path, spring: Path, end: str
) -> None:
    held_out = features.replayed(date.fromisoformat(end) - timedelta(days=1))
    later = {held_out + timedelta(days=n) for n in range(10)}
    honest = pipeline(tmp_path / "a", spring, end)
    assert honest.returncode == 0, honest.stderr
    after = pipeline(tmp_path / "b", spoilt(spring, tmp_path / "after.csv", later), end)
    first, second = (json.loads((tmp_path / name / "outputs").read_text()) for name in "ab")
    # It meets the spoilt day without having been warned: the whole day's delay is its error.
    assert second["mae"] > 1300
    assert second["baseline_mae"] > 1300
    assert first["rows_train"] == second["rows_train"]
    assert after.stdout.splitlines()[0] == honest.stdout.splitlines()[0]
    models = [(tmp_path / name / "model" / "model.joblib").read_bytes() for name in "ab"]
    assert models[0] == models[1]
    assert first["data_end"] == end
    assert json.loads((tmp_path / "a" / "model" / "model.json").read_text()) == first


def test_a_trial_never_looks_at_the_held_out_day(code: Path, tmp_path: Path, spring: Path) -> None:
    changed = spoilt(spring, tmp_path / "changed.csv", {date(2013, 3, 19) + timedelta(days=n) for n in range(13)})
    assert trial(code, changed, "2026-03-20").stdout == trial(code, spring, "2026-03-20").stdout


def test_a_trial_beats_the_baseline_and_is_the_same_each_time(code: Path) -> None:
    """On one day's weather chance may win; over four intervals of the year the model must."""
    ends = ("2026-02-20", "2026-05-20", "2026-08-20", "2026-11-24")
    ran = [trial(code, FLIGHTS, end) for end in ends]
    assert all(each.returncode == 0 for each in ran), [each.stderr for each in ran]
    results = [measured(each.stdout.splitlines()[-1]) for each in ran]
    assert sum(error for error, _ in results) < sum(baseline for _, baseline in results)
    assert trial(code, FLIGHTS, ends[0]).stdout == ran[0].stdout


@pytest.mark.parametrize(
    ("content", "end", "words"),
    [
        (None, "2026-03-20", "cannot be read from .*: .*No such file"),
        ("", "2026-03-20", "has no column year, month, day"),
        (HEADER, "2026-03-20", "no flights from 2026-02-20 up to 2026-03-12 in"),
        (HEADER + "2013,3,1,517\n", "2026-03-20", r"csv:2: 4 fields where 19 are expected"),
        (HEADER + "2013,3,1,1,1375,0,1,1,0,UA,1,N1,EWR,SFO,1,2565,1,1,x\n", "2026-03-20", "csv:2: scheduled_departure"),
        (HEADER, "yesterday", "must be an ISO date, not 'yesterday'"),
    ],
)
def test_bad_data_is_one_sentence(code: Path, tmp_path: Path, content: str | None, end: str, words: str) -> None:
    path = tmp_path / "flights.csv"
    if content is not None:
        path.write_text(content)
    assert re.search(words, one_sentence(trial(code, path, end)))


def test_a_component_says_it_in_one_sentence_too(tmp_path: Path) -> None:
    assert "cannot be read" in one_sentence(pipeline(tmp_path, tmp_path / "no.csv", "2026-03-20"))
    (tmp_path / "empty.csv").write_text(HEADER)
    assert "no flights from" in one_sentence(pipeline(tmp_path, tmp_path / "empty.csv", "2026-03-20"))
