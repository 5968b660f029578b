"""What Airflow thinks of the task instance that asks: whether a person ended it, or only a process was restarted."""

from __future__ import annotations

from typing import Any

from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance


def task_state(ti: Any) -> str | None:
    """The state of ``ti`` in the metadata database ("running", "deferred", "failed", ...); None when it is gone.

    Asks the supervisor, so it may wait for seconds in a fresh triggerer (airflow.md 2.3), and raises what the
    supervisor's channel raises. The answer is keyed by task id, for a mapped task with its index (KPO's trigger).
    """
    states = RuntimeTaskInstance.get_task_states(dag_id=ti.dag_id, task_ids=[ti.task_id], run_ids=[ti.run_id])
    of_run = states.get(ti.run_id) or {}
    index = ti.map_index if ti.map_index is not None else -1
    name = ti.task_id if index < 0 else f"{ti.task_id}_{index}"
    found = of_run.get(name)
    return str(getattr(found, "value", found)) if found is not None else None
