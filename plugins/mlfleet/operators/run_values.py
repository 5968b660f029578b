"""What ``${...}`` references of a manifest stand for in one run: the data interval, ids, outputs of earlier tasks.

Never ``ds`` and never a parsed run_id: a run that was started by hand or by an asset has no logical date, and the date
in a run_id is not the logical date (airflow.md 5).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Any

from mlfleet.errors import ConfigError
from mlfleet.manifest.references import interval_bound, resolve
from mlfleet.operators.base import WINDOW_PARAM
from mlfleet.remote.job import TaskIdentity, digest

if TYPE_CHECKING:
    from airflow.sdk import Context

DEFAULT_WINDOW = timedelta(days=1)


@dataclass(frozen=True)
class DataInterval:
    """Aware times; ``start`` is included, ``end`` is not."""

    start: datetime
    end: datetime

    def bound(self, moment: datetime) -> str:
        """One of its ends as the manifest's ``data.start`` and ``data.end`` give it."""
        return interval_bound(self.start, self.end, moment)


def asked_window(context: Context) -> timedelta | None:
    """How far back the person who started the run wants its data to reach; ConfigError when that is no duration."""
    text = (context.get("params") or {}).get(WINDOW_PARAM)
    if text is None:
        return None
    # Only a run by hand comes here; the field types of manifests are not loaded for all others.
    from pydantic_core import PydanticCustomError

    from mlfleet.manifest.values import parse_duration

    try:
        return parse_duration(text)
    except PydanticCustomError as error:
        raise ConfigError(f"the run's param `{WINDOW_PARAM}`: {error}", "the trigger dialog") from None


def data_interval(context: Context, window: timedelta = DEFAULT_WINDOW) -> DataInterval:
    """The data that this run is about, in the DAG's time zone.

    A run with a data interval (scheduled, backfill, manual with a logical date) has exactly that one. One without
    (asset, manual without a logical date), or with an empty one, ends at its ``run_after`` and reaches back ``window``.
    A window that was asked for in the trigger dialog counts for every run.
    """
    run = context["dag_run"]
    start, end = run.data_interval_start, run.data_interval_end
    if end is None:
        start, end = None, run.run_after
    asked = asked_window(context)
    if asked or start is None or start >= end:
        start = end - (asked or window)
    zone = _zone(context)
    return DataInterval(start.astimezone(zone), end.astimezone(zone))


def _zone(context: Context) -> tzinfo:
    zone = getattr(context.get("dag"), "timezone", None)
    return zone if isinstance(zone, tzinfo) else UTC


def environment_name() -> str:
    """The environment that this process belongs to (variable MLFLEET_ENV, "dev" when it is not set)."""
    return os.environ.get("MLFLEET_ENV") or "dev"


def task_identity(context: Context) -> TaskIdentity:
    """The identity of the running task instance."""
    ti = context["ti"]
    map_index = ti.map_index if ti.map_index is not None else -1
    return TaskIdentity(environment_name(), ti.dag_id, ti.run_id, ti.task_id, map_index)


def run_key(context: Context) -> str:
    """Twelve hex digits that stand for the DAG run in this environment; the same for all its tasks and tries."""
    run = context["dag_run"]
    return digest([environment_name(), run.dag_id, run.run_id])[:12]


class RunValues:
    """Looks references up for one task of one run.

    ``references`` is what the factory gives every operator: ``{"static": {dotted name: value}, "tasks": {"polyaxon":
    task id, "kfp": task id}, "window_seconds": seconds}``; every part may be missing.
    """

    def __init__(self, context: Context, references: Mapping[str, Any] | None = None) -> None:
        given = references or {}
        self._context = context
        self._static: Mapping[str, Any] = given.get("static") or {}
        self._tasks: Mapping[str, str] = given.get("tasks") or {}
        seconds = given.get("window_seconds")
        self.interval = data_interval(context, timedelta(seconds=seconds) if seconds else DEFAULT_WINDOW)
        self._pulled: dict[str, Any] = {}

    def resolve(self, value: Any) -> Any:
        """``value`` with its references replaced; raises ConfigError for one that has no value in this run."""
        return resolve(value, self.lookup)

    def pin(self, path: str, value: Any) -> None:
        """Let a reference stand for this value from now on."""
        self._static = {**self._static, path: value}

    def lookup(self, path: str) -> Any:
        """The value of one reference; raises LookupError with the reason."""
        if path in self._static:
            return self._static[path]
        system, _, rest = path.partition(".")
        if system in {"polyaxon", "kfp"}:
            return self._from_task(system, rest)
        known = {
            "data.start": lambda: self.interval.bound(self.interval.start),
            "data.end": lambda: self.interval.bound(self.interval.end),
            "run.key": lambda: run_key(self._context),
            "run.type": lambda: str(getattr(run_type := self._context["dag_run"].run_type, "value", run_type)),
        }
        if path not in known:
            raise LookupError(f"nothing called {path} is known to this task")
        return known[path]()

    def task_output(self, task_id: str) -> Any:
        """What another task of this run returned; raises LookupError when it returned nothing."""
        if task_id not in self._pulled:
            self._pulled[task_id] = self._context["ti"].xcom_pull(task_ids=task_id, key="return_value")
        if self._pulled[task_id] is None:
            raise LookupError(f"task {task_id} has handed on nothing in this run")
        return self._pulled[task_id]

    def _from_task(self, system: str, rest: str) -> Any:
        task_id = self._tasks.get(system)
        if task_id is None:
            raise LookupError(f"this task has no {system} task before it")
        value: Any = self.task_output(task_id)
        done: list[str] = []
        for name in rest.split("."):
            done.append(name)
            if not isinstance(value, Mapping) or name not in value:
                has = ", ".join(sorted(map(str, value))) if isinstance(value, Mapping) and value else "nothing"
                raise LookupError(f"the result of task {task_id} has no {'.'.join(done)}; there it has: {has}")
            value = value[name]
        return value
