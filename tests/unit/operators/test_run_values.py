"""The data interval of all kinds of runs, and what references stand for."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from airflow.timetables.interval import CronDataIntervalTimetable

from mlfleet.errors import ConfigError
from mlfleet.operators.run_values import RunValues, data_interval, run_key
from tests.support.delivery import Run

AFTER = datetime(2026, 11, 10, 3, 0, 7, tzinfo=UTC)
WEEK = {"window_seconds": 7 * 24 * 3600}


def context(zone: Any = UTC, **run: Any) -> Any:
    made = Run().context()
    made["dag_run"] = SimpleNamespace(**{**vars(made["dag_run"]), "run_after": AFTER, **run})
    made["dag"].timezone = zone
    return made


def interval(start: datetime | None, end: datetime | None) -> dict[str, Any]:
    return {"data_interval_start": start, "data_interval_end": end}


def bounds(made: Any, references: dict[str, Any] | None = None) -> tuple[str, str]:
    values = RunValues(made, references)
    return values.lookup("data.start"), values.lookup("data.end")


@pytest.mark.parametrize("run_type", ["scheduled", "backfill", "manual"])
def test_a_run_with_a_data_interval_has_exactly_that_one(run_type: str) -> None:
    given = interval(datetime(2026, 11, 8, 3, tzinfo=UTC), datetime(2026, 11, 9, 3, tzinfo=UTC))
    assert bounds(context(run_type=run_type, **given), WEEK) == ("2026-11-08", "2026-11-09")


@pytest.mark.parametrize("run_type", ["asset_triggered", "manual"])
def test_a_run_without_one_ends_at_run_after_and_reaches_back_by_the_window(run_type: str) -> None:
    assert bounds(context(run_type=run_type, **interval(None, None)), WEEK) == ("2026-11-03", "2026-11-10")
    assert bounds(context(run_type=run_type, **interval(None, None))) == ("2026-11-09", "2026-11-10")


def test_an_empty_interval_reaches_back_from_its_end() -> None:
    moment = datetime(2026, 11, 9, 3, tzinfo=UTC)
    assert bounds(context(**interval(moment, moment)), WEEK) == ("2026-11-02", "2026-11-09")


def test_dates_are_those_of_the_dags_time_zone() -> None:
    given = interval(datetime(2026, 11, 8, 15, tzinfo=UTC), datetime(2026, 11, 9, 15, tzinfo=UTC))
    assert bounds(context(ZoneInfo("Asia/Tokyo"), **given)) == ("2026-11-09", "2026-11-10")


def test_an_interval_of_hours_gives_times() -> None:
    given = interval(datetime(2026, 11, 9, 3, tzinfo=UTC), datetime(2026, 11, 9, 4, tzinfo=UTC))
    assert bounds(context(**given)) == ("2026-11-09T03:00:00+00:00", "2026-11-09T04:00:00+00:00")


def test_the_timetable_that_a_cron_schedule_means_gives_each_run_its_own_day() -> None:
    """What Airflow's scheduler hands to a run, for a manual one with a logical date as well."""
    import pendulum

    timetable = CronDataIntervalTimetable("0 3 * * *", timezone="UTC")
    found = timetable.infer_manual_data_interval(run_after=pendulum.datetime(2026, 11, 10, 12))
    assert bounds(context(**interval(found.start, found.end))) == ("2026-11-09", "2026-11-10")


def test_names_are_looked_up() -> None:
    references = {
        "static": {"project.name": "churn", "env.data_root": "${process.DATA}", "git.commit": "abc"},
        "tasks": {"polyaxon": "default.polyaxon"},
    }
    run = Run(results={"default.polyaxon": {"uuid": "u1", "outputs": {"mae": 2.5}, "best": {"inputs": {"depth": 8}}}})
    values = RunValues(run.context(), references)
    given = {"a": "${polyaxon.best.inputs.depth}", "b": "v-${git.commit}", "c": ["${polyaxon.outputs.mae}"], "d": 7}
    assert values.resolve(given) == {"a": 8, "b": "v-abc", "c": [2.5], "d": 7}
    assert values.lookup("run.type") == "scheduled"
    assert values.lookup("run.key") == run_key(run.context())
    assert values.lookup("polyaxon.uuid") == "u1"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("polyaxon.best.inputs.width", r"no best\.inputs\.width; there it has: depth"),
        ("polyaxon.outputs.mae", "no outputs; there it has: best"),
        ("kfp.outputs.mae", "no kfp task before it"),
        ("env.nothing", r"nothing called env\.nothing"),
    ],
)
def test_a_reference_without_a_value_says_what_there_is(path: str, message: str) -> None:
    run = Run(results={"p": {"best": {"inputs": {"depth": 8}}}})
    values = RunValues(run.context(), {"tasks": {"polyaxon": "p"}})
    with pytest.raises(ConfigError, match=message):
        values.resolve(f"${{{path}}}")


def test_a_task_that_handed_on_nothing() -> None:
    values = RunValues(Run().context(), {"tasks": {"kfp": "default.kfp"}})
    with pytest.raises(ConfigError, match=r"default\.kfp has handed on nothing"):
        values.resolve("${kfp.outputs.mae}")


def test_keys_of_runs_differ_by_environment_and_run(monkeypatch: pytest.MonkeyPatch) -> None:
    one = run_key(context())
    assert one == run_key(context(run_type="backfill"))
    assert one != run_key(context(run_id="other"))
    monkeypatch.setenv("MLFLEET_ENV", "prod")
    assert one != run_key(context())


def test_an_interval_is_aware_and_forward() -> None:
    found = data_interval(context(**interval(None, None)), timedelta(hours=1))
    assert found.end - found.start == timedelta(hours=1)
    assert found.start.tzinfo is not None


@pytest.mark.parametrize("run_type", ["scheduled", "manual"])
def test_a_window_that_was_asked_for_counts_for_every_run(run_type: str) -> None:
    given = interval(datetime(2026, 11, 8, 3, tzinfo=UTC), datetime(2026, 11, 9, 3, tzinfo=UTC))
    made = context(run_type=run_type, **given)
    made["params"] = {"window": "3d"}
    assert bounds(made, WEEK) == ("2026-11-06", "2026-11-09")
    made["params"] = {"window": None}
    assert bounds(made, WEEK) == ("2026-11-08", "2026-11-09")


def test_a_window_that_is_no_duration() -> None:
    made = context(**interval(None, None))
    made["params"] = {"window": "soon"}
    with pytest.raises(ConfigError, match="'soon' is not a duration"):
        RunValues(made)
