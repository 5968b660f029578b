"""Data intervals between the ticks of several crons, as Airflow's scheduler asks for them."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime, timedelta

import pendulum
import pytest
from airflow.exceptions import AirflowTimetableInvalid
from airflow.sdk import DAG
from airflow.serialization.decoders import decode_timetable
from airflow.serialization.encoders import encode_timetable
from airflow.serialization.serialized_objects import DagSerialization
from airflow.timetables.base import DataInterval, TimeRestriction
from airflow.timetables.interval import CronDataIntervalTimetable
from hypothesis import given, settings
from hypothesis import strategies as st

from mlfleet.timetables.crons import MultipleCronDataIntervalTimetable

WORKDAYS = "0 6 * * 1-5"
SATURDAYS = "0 12 * * 6"
START = pendulum.datetime(2026, 11, 2, tz="UTC")  # a Monday
CRONS = ("0 6 * * *", "30 */5 * * *", "0 0 1 * *", "15 10 * * 1", "0 12 * * 6", "59 23 31 12 *")


def intervals(timetable: CronDataIntervalTimetable, count: int, start: pendulum.DateTime = START) -> list[DataInterval]:
    restriction = TimeRestriction(earliest=start, latest=None, catchup=True)
    found: list[DataInterval] = []
    for _ in range(count):
        info = timetable.next_dagrun_info(
            last_automated_data_interval=found[-1] if found else None, restriction=restriction
        )
        assert info is not None
        assert info.run_after == info.data_interval.end
        found.append(info.data_interval)
    return found


def test_runs_at_each_tick_about_the_time_since_the_one_before() -> None:
    found = intervals(MultipleCronDataIntervalTimetable([WORKDAYS, SATURDAYS], "UTC"), 7)
    ends = [f"{interval.end:%a %d %H}" for interval in found]
    assert ends == ["Tue 03 06", "Wed 04 06", "Thu 05 06", "Fri 06 06", "Sat 07 12", "Mon 09 06", "Tue 10 06"]
    assert all(earlier.end == later.start for earlier, later in itertools.pairwise(found))


def test_one_cron_is_as_airflow_has_it() -> None:
    for cron in CRONS:
        ours = MultipleCronDataIntervalTimetable([cron], "Europe/Berlin")
        assert intervals(ours, 5) == intervals(CronDataIntervalTimetable(cron, "Europe/Berlin"), 5)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from(CRONS), min_size=1, max_size=4, unique=True),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kathmandu"]),
    st.datetimes(datetime(2026, 1, 1), datetime(2026, 12, 20)),
)
def test_no_time_is_left_out_or_seen_twice(crons: list[str], zone: str, moment: datetime) -> None:
    start = pendulum.instance(moment.replace(tzinfo=UTC))
    found = intervals(MultipleCronDataIntervalTimetable(crons, zone), 12, start)
    assert all(earlier.end == later.start for earlier, later in itertools.pairwise(found))
    assert all(interval.start < interval.end for interval in found)
    ticks = {interval.end for interval in found}
    for cron in crons:
        alone = {each.end for each in intervals(CronDataIntervalTimetable(cron, zone), 12, start)}
        assert {tick for tick in alone if found[0].end <= tick <= found[-1].end} <= ticks


def test_without_catchup_only_the_latest_interval() -> None:
    timetable = MultipleCronDataIntervalTimetable(["0 * * * *", "30 * * * *"], "UTC")
    restriction = TimeRestriction(earliest=START, latest=None, catchup=False)
    info = timetable.next_dagrun_info(last_automated_data_interval=None, restriction=restriction)
    assert info is not None
    assert info.data_interval.end - info.data_interval.start == timedelta(minutes=30)
    assert abs(info.data_interval.end - pendulum.now("UTC")) <= timedelta(minutes=31)


def test_a_run_by_hand_has_the_last_whole_interval() -> None:
    timetable = MultipleCronDataIntervalTimetable([WORKDAYS, SATURDAYS], "UTC")
    interval = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2026, 11, 8, 15, tz="UTC"))
    assert (f"{interval.start:%a %H}", f"{interval.end:%a %H}") == ("Fri 06", "Sat 12")


def test_it_survives_serialization_and_says_what_it_is() -> None:
    timetable = MultipleCronDataIntervalTimetable([WORKDAYS, SATURDAYS], "Europe/Berlin")
    again = decode_timetable(encode_timetable(timetable))
    assert again == timetable
    assert hash(again) == hash(timetable)
    assert again != MultipleCronDataIntervalTimetable([WORKDAYS], "Europe/Berlin")
    assert again.summary == f"{WORKDAYS} | {SATURDAYS}"
    assert "Saturday" in again.description
    dag = DAG("several", schedule=timetable, start_date=START)
    stored = DagSerialization.deserialize_dag(DagSerialization.serialize_dag(dag))
    assert stored.timetable == timetable


def test_what_is_no_cron() -> None:
    with pytest.raises(ValueError, match="at least one"):
        MultipleCronDataIntervalTimetable([], "UTC")
    with pytest.raises(AirflowTimetableInvalid):
        MultipleCronDataIntervalTimetable([WORKDAYS, "every day"], "UTC").validate()
