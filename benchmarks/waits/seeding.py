"""Deferred task instances without tasks that ran, and what became of them, straight in Airflow's database."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow._shared.timezones.timezone import utcnow
from airflow.models.dag_version import DagVersion  # noqa: TID251
from airflow.models.dagrun import DagRun  # noqa: TID251
from airflow.models.serialized_dag import SerializedDagModel  # noqa: TID251
from airflow.models.taskinstance import TaskInstance, uuid7  # noqa: TID251
from airflow.models.trigger import Trigger  # noqa: TID251
from airflow.triggers.base import BaseTrigger
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState, TaskInstanceState
from airflow.utils.types import DagRunTriggeredByType, DagRunType
from sqlalchemy import func, insert, select

from waits.world import DAG_ID, TASKS


@dataclass(frozen=True)
class Stored:
    """An event in the database: when it was stored (epoch seconds) and for which job it is, None for a failure."""

    at: float
    job_id: str | None


def defer(count: int, make: Callable[[int], BaseTrigger]) -> None:
    """``count`` deferred task instances, ten to a DAG run; number N waits with ``make(N)``."""
    with create_session() as session:
        version = DagVersion.get_latest_version(DAG_ID, session=session)
        model = SerializedDagModel.get(DAG_ID, session=session)
        if version is None or model is None:
            raise SystemExit(f"the DAG {DAG_ID} was not serialized")
        began = utcnow()
        runs = -(-count // TASKS)
        for number in range(runs):
            run = DagRun(
                DAG_ID, _run_id(number), run_after=began, start_date=began, state=DagRunState.RUNNING,
                run_type=DagRunType.MANUAL, triggered_by=DagRunTriggeredByType.TEST,
                logical_date=datetime(2020, 1, 1, tzinfo=UTC) + timedelta(hours=number),
            )  # fmt: skip
            run.created_dag_version_id = version.id
            run.log_template_id = 1
            session.add(run)
        session.flush()
        triggers = [Trigger.from_object(make(number)) for number in range(count)]
        session.add_all(triggers)
        session.flush()
        rows = _rows(model.dag, version.id, [trigger.id for trigger in triggers])
        session.execute(insert(TaskInstance), rows)


def _rows(dag: Any, version_id: Any, trigger_ids: Iterable[int]) -> list[dict[str, Any]]:
    """As the execution API leaves a task instance whose task has deferred."""
    patterns = []
    for number in range(TASKS):
        instance = TaskInstance(dag.get_task(f"wait-{number}"), dag_version_id=version_id)
        columns = {attribute.key for attribute in TaskInstance.__mapper__.column_attrs}
        patterns.append({key: value for key, value in vars(instance).items() if key in columns})
    return [
        {
            **patterns[number % TASKS],
            "id": uuid7(),
            "run_id": _run_id(number // TASKS),
            "state": TaskInstanceState.DEFERRED,
            "try_number": 1,
            "start_date": utcnow(),
            "trigger_id": trigger_id,
            "next_method": "execute_complete",
            "next_kwargs": {},
            "hostname": "localhost",
        }
        for number, trigger_id in enumerate(trigger_ids)
    ]


def _run_id(number: int) -> str:
    return f"waiting-{number:05d}"


def waiting() -> int:
    """How many task instances are deferred still."""
    with create_session() as session:
        query = select(func.count(TaskInstance.id)).where(TaskInstance.state == TaskInstanceState.DEFERRED)
        return session.scalar(query) or 0


def stored() -> dict[int, Stored]:
    """The events in the database, by the number of the wait."""
    query = select(
        TaskInstance.task_id, TaskInstance.run_id, TaskInstance.scheduled_dttm, TaskInstance.next_kwargs
    ).where(TaskInstance.state != TaskInstanceState.DEFERRED)
    found = {}
    with create_session() as session:
        for task_id, run_id, at, kwargs in session.execute(query):
            number = int(run_id.rpartition("-")[2]) * TASKS + int(task_id.rpartition("-")[2])
            event = (kwargs or {}).get("event") or {}
            finished = event.get("outcome") == "finished"
            found[number] = Stored(at.timestamp(), event["status"]["id"] if finished else None)
    return found
