"""``schedule`` of a manifest, and what an experiment with a schedule of its own changes of it."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from mlfleet.manifest.derived import KINDS, WINDOW, ScheduleTraits
from mlfleet.manifest.names import Assets, ImportPath
from mlfleet.manifest.sections import Params, Section
from mlfleet.manifest.values import Crons, Day, Duration, TimeZone

# The first day that a schedule can count from when the manifest names none; without catch-up it has no other meaning.
DEFAULT_START = datetime.date(2020, 1, 1)


class Timetable(Section):
    """A timetable of Airflow's or of anybody's: a class by its import path, and what it is made with."""

    class_: ImportPath = Field(alias="class")
    arguments: Params = Field(default_factory=dict)


class Schedule(ScheduleTraits, Section):
    """When a run starts; without ``cron``, ``timetable`` and ``asset`` only by hand.

    Of several crons, a run's data is what came between two ticks of any of them.

    ``asset`` names another project, or several: their releases start a run of this one.
    ``paused`` takes all three away for a while; unlike Airflow's switch it stands in the file, and is reviewed.
    ``window`` is how far back a run without a data interval (by hand, by an asset) reaches.
    """

    cron: Crons | None = None
    timetable: Timetable | None = None
    asset: Assets | None = None
    wait_for: Literal["all", "any"] = "all"
    start_date: Day = DEFAULT_START
    timezone: TimeZone = "UTC"
    catchup: bool = False
    max_active_runs: int = Field(default=1, ge=1, le=16)
    paused: bool = False
    window: Duration = WINDOW


class ScheduleOverride(Section):
    """What is different in the schedule of one experiment; naming one of `KINDS` takes those of the project away."""

    cron: Crons | None = None
    timetable: Timetable | None = None
    asset: Assets | None = None
    wait_for: Literal["all", "any"] | None = None
    start_date: Day | None = None
    timezone: TimeZone | None = None
    catchup: bool | None = None
    max_active_runs: int | None = Field(default=None, ge=1, le=16)
    paused: bool | None = None
    window: Duration | None = None


def overlaid(common: Any, own: Mapping[str, Any]) -> dict[str, Any]:
    """`derived.rescheduled` for plain data, which may hold anything."""
    named = any(own.get(kind) for kind in KINDS)
    base = common if isinstance(common, dict) else {}
    return {**{key: value for key, value in base.items() if not named or key not in (*KINDS, "wait_for")}, **own}
