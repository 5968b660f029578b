"""Data intervals between the ticks of several cron expressions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pendulum
from airflow.timetables.base import Timetable
from airflow.timetables.interval import CronDataIntervalTimetable

if TYPE_CHECKING:
    from pendulum import DateTime
    from pendulum.tz.timezone import FixedTimezone
    from pendulum.tz.timezone import Timezone as PendulumTimezone


class MultipleCronDataIntervalTimetable(CronDataIntervalTimetable):
    """A run at every tick of any of ``crons``, about the data since the tick before it, whichever cron that was of.

    Airflow has `MultipleCronTriggerTimetable` only, whose runs have a fixed interval and so leave out data or see it
    twice. Two crons that tick at once start one run. ``timezone`` is an IANA name or a Pendulum time zone.
    """

    def __init__(self, crons: Sequence[str], timezone: str | PendulumTimezone | FixedTimezone) -> None:
        if not crons:
            raise ValueError("at least one cron expression is needed")
        super().__init__(crons[0], timezone)
        self._parts = [CronDataIntervalTimetable(cron, timezone) for cron in crons]
        self.description = "; ".join(filter(None, (part.description for part in self._parts)))

    @property
    def summary(self) -> str:
        """The expressions, for the list of DAGs."""
        return " | ".join(part.summary for part in self._parts)

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> Timetable:
        """The opposite of `serialize`."""
        return cls(data["expressions"], pendulum.timezone(data["timezone"]))

    def serialize(self) -> dict[str, Any]:
        """``{"expressions", "timezone"}``."""
        from airflow.serialization.encoders import encode_timezone

        return {"expressions": [part.summary for part in self._parts], "timezone": encode_timezone(self._timezone)}

    def validate(self) -> None:
        """Raises AirflowTimetableInvalid for what is no cron expression."""
        for part in self._parts:
            part.validate()

    def __eq__(self, other: object) -> bool:
        """Whether it makes the same runs in the same order."""
        if not isinstance(other, MultipleCronDataIntervalTimetable):
            return NotImplemented
        return self.serialize() == other.serialize()

    def __hash__(self) -> int:
        return hash((self.summary, self._timezone))

    def _get_next(self, current: DateTime) -> DateTime:
        return min(part._get_next(current) for part in self._parts)

    def _get_prev(self, current: DateTime) -> DateTime:
        return max(part._get_prev(current) for part in self._parts)

    def _align_to_next(self, current: DateTime) -> DateTime:
        return min(part._align_to_next(current) for part in self._parts)

    def _align_to_prev(self, current: DateTime) -> DateTime:
        return max(part._align_to_prev(current) for part in self._parts)
