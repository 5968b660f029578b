"""What a task keeps of its remote job: the record in Airflow's task state store, the report in XCom, the counters."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from airflow.sdk.execution_time.context import NEVER_EXPIRE
from airflow.sdk.observability import stats

from mlfleet.errors import ConfigError
from mlfleet.remote.decisions import Decision, Tell
from mlfleet.remote.policies import RerunMode
from mlfleet.remote.record import Record, note_end
from mlfleet.remote.watching import Outcome

if TYPE_CHECKING:
    from airflow.sdk import Context

RECORD_KEY = "mlfleet_job"
RERUN_KEY = "rerun_mode"
REPORT_KEY = "job"
"""XCom key of the report, see :func:`report`."""


class StateStore(Protocol):
    """What we need of Airflow's ``task_state_store``."""

    def get(self, key: str, default: Any = None) -> Any:
        """A value."""
        ...

    def set(self, key: str, value: Any, *, retention: timedelta | None = None) -> None:
        """Keep a value."""
        ...

    def delete(self, key: str) -> None:
        """Forget a value; one that is not there is fine."""
        ...


class TaskStateRecords:
    """The record of a remote job in Airflow's task state store: survives retries, clears and 30 days (airflow.md 2)."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def load(self) -> Record | None:
        """The record, None when there is none or a person deleted or garbled it."""
        return Record.from_json(self._store.get(RECORD_KEY))

    def save(self, record: Record) -> None:
        """Keep it for good."""
        self._store.set(RECORD_KEY, record.as_json(), retention=NEVER_EXPIRE)


def rerun_mode(store: StateStore) -> RerunMode | None:
    """What a person asked of this try in the task's Task State Store tab (airflow.md 2.10); None for nothing.

    Raises ConfigError for a value that is neither ``fresh`` nor ``resume``. It stays there until :func:`consume`, so
    that a try which dies before it acted does not lose it.
    """
    given = store.get(RERUN_KEY)
    if given in (None, ""):
        return None
    try:
        return RerunMode(str(given).strip().lower())
    except ValueError:
        raise ConfigError(f"{RERUN_KEY} is {given!r}", "the task's Task State Store tab",
                          "Set it to fresh or resume, or delete it, and clear the task again") from None  # fmt: skip


def consume(store: StateStore) -> None:
    """The wish was granted: the next try goes by the rules again."""
    store.delete(RERUN_KEY)


def teller(say: Callable[[str], None], system: str) -> Tell:
    """Each decision is a line in the task's log and a counter ``mlfleet.remote_job.<kind>`` with the system as tag."""

    def tell(decision: Decision) -> None:
        say(decision.sentence)
        stats.incr(f"mlfleet.remote_job.{decision.kind.value}", tags={"system": system})

    return tell


def report(context: Context, outcome: Outcome) -> dict[str, Any]:
    """What the job did, for people and dashboards; also notes in the record how it ended.

    ``{"job_id", "url", "state", "start", "end", "queue_seconds", "attempts", "submissions", "adoptions", "stops",
    "resumes", "duplicates"}``: times ISO 8601 or None, ``queue_seconds`` from the job's creation to its start,
    ``attempts`` the tries of the task that looked for a job, counts over all tries.
    """
    status = outcome.status
    record = note_end(TaskStateRecords(context["task_state_store"]), status.state if status else None)
    tally: Mapping[str, int] = record.tally if record is not None else {}
    counts = {name: tally.get(name, 0) for name in ("submissions", "adoptions", "stops", "resumes", "duplicates")}
    counts["resumes"] += outcome.resumes
    created, started, finished = (
        (status.created_at, status.started_at, status.finished_at) if status else (None, None, None)
    )
    return {
        "job_id": status.id if status else None,
        "url": status.url if status else None,
        "state": status.state.value if status else None,
        "start": _iso(started),
        "end": _iso(finished),
        "queue_seconds": round((started - created).total_seconds(), 3) if started and created else None,
        "attempts": tally.get("entries", context["ti"].try_number),
        **counts,
    }


def _iso(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None
