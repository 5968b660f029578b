"""How far the data of a project's released images reaches: kept with its asset, which all its runs can read.

Airflow keeps state beside an asset (``asset_state_store``, 3.3), where a task that has the asset as inlet or outlet
reads and writes it. It does not expire, and no DAG run takes it along when it is deleted; Airflow removes it when no
DAG has the asset any more (scheduler_job_runner.py, ``_cleanup_orphaned_asset_state_store``): the live image is asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, time, tzinfo
from typing import TYPE_CHECKING, Any

from mlfleet.errors import ConfigError

if TYPE_CHECKING:
    from airflow.sdk import Asset, Context

KEY = "released_data"


@dataclass(frozen=True)
class ReleasedData:
    """The end of the newest data that was released (aware), the run that did, and its generation: `ti.max_tries`."""

    end: datetime
    run_id: str
    generation: int


class ReleasedDataStore:
    """The newest released data of one repository. Not safe against another writer: a task's releases wait in line."""

    def __init__(self, context: Context, asset: Asset, repository: str) -> None:
        self._store: Any = context["asset_state_store"][asset]
        self._key = f"{KEY}/{repository}"

    def load(self) -> ReleasedData | None:
        """None before the first release; raises ConfigError for what cannot be read, which is not taken for none."""
        found = self._store.get(self._key)
        if found is None:
            return None
        end = _moment(found.get("end")) if isinstance(found, Mapping) else None
        if end is None:
            raise ConfigError(
                f"the state of the project's asset says {found!r}", self._key, "Delete it in the asset's page"
            )
        return ReleasedData(end, str(found.get("run_id") or ""), int(found.get("generation") or 0))

    def save(self, released: ReleasedData) -> None:
        """Keep it, in place of what was there."""
        state = {"end": released.end.isoformat(), "run_id": released.run_id, "generation": released.generation}
        self._store.set(self._key, state)


def data_end(text: str, zone: tzinfo) -> datetime | None:
    """The end of the data of an image from its label, None for anything that is no time.

    A whole day, as `interval_bound` writes the ends of long intervals, counts to its last moment: nothing must be
    released because of hours that the label does not tell.
    """
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    if len(text) == len("2026-11-10"):
        return datetime.combine(found.date(), time.max, zone)
    return found if found.tzinfo else found.replace(tzinfo=zone)


def _moment(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else None
