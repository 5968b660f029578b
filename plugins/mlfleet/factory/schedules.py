"""When the runs of a project start, as Airflow has it."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.sdk import Asset, AssetAny, CronDataIntervalTimetable
from airflow.sdk.bases.timetable import BaseTimetable
from pendulum.tz.timezone import Timezone

from mlfleet.factory.foreign import ForeignCodeError

if TYPE_CHECKING:
    from mlfleet.manifest.models import Project
    from mlfleet.manifest.scheduling import Timetable


class TimetableError(ForeignCodeError):
    """A timetable that cannot be made."""

    def __init__(self, what: str, where: str) -> None:
        super().__init__(where, f"the timetable: {what}", where)
        self.args = (what, where)


def released_asset(project: str) -> Asset:
    """The asset whose event says that a project has a new release; other projects can be scheduled by it.

    Airflow looks for a normalizer of any scheme that does not begin with ``x-``, and for that imports the google
    provider: seconds in every worker that builds a DAG (airflow/sdk/definitions/asset).
    """
    return Asset(f"x-mlfleet://{project}/released")


def schedule_of(project: Project) -> Any:
    """The DAG's schedule: data intervals between cron ticks, a timetable, other projects' releases, or only by hand.

    Raises TimetableError.
    """
    schedule = project.schedule
    if schedule is None or schedule.paused:
        return None
    crons = schedule.crons
    if len(crons) == 1:
        return CronDataIntervalTimetable(crons[0], timezone=Timezone(schedule.timezone))
    if crons:
        # Airflow's own timetables, which it is made of, are the scheduler's and not loaded where tasks run.
        from mlfleet.timetables.crons import MultipleCronDataIntervalTimetable

        return MultipleCronDataIntervalTimetable(crons, Timezone(schedule.timezone))
    if schedule.timetable:
        return _timetable(schedule.timetable)
    assets = [released_asset(name) for name in sorted(schedule.awaited)]
    return AssetAny(*assets) if schedule.wait_for == "any" and len(assets) > 1 else assets or None


def start_of(project: Project) -> pendulum.DateTime | None:
    """Midnight of the first day, in the schedule's time zone, which so becomes the DAG's; None without a schedule."""
    if project.schedule is None:
        return None
    day = project.schedule.start_date
    return pendulum.datetime(day.year, day.month, day.day, tz=project.schedule.timezone)


def _timetable(section: Timetable) -> Any:
    path = section.class_
    module, _, name = path.rpartition(".")
    try:
        made = getattr(importlib.import_module(module), name)(**section.arguments)
    except Exception as error:  # whatever foreign code does must be told as theirs
        raise TimetableError(f"{type(error).__name__}: {error}", path) from error
    if isinstance(made, BaseTimetable):
        return made
    from airflow.timetables.base import Timetable as CoreTimetable

    if not isinstance(made, CoreTimetable):
        raise TimetableError(f"{type(made).__name__} is no timetable of Airflow", path)
    return made
