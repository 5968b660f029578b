"""What the supervisor of a task or triggerer answers when it is asked for the state of a task instance."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.execution_time import task_runner


def airflow_says(monkeypatch: pytest.MonkeyPatch, answer: Any, *, of: tuple[str, str, str] = ("d", "t", "r")) -> None:
    """Every question for the state of DAG, task and run ``of`` is answered with ``answer``, or fails with it."""
    dag_id, task_id, run_id = of

    class Channel:
        def send(self, message: Any) -> Any:
            assert (message.dag_id, message.task_ids, message.run_ids) == (dag_id, [task_id], [run_id])
            if isinstance(answer, Exception):
                raise answer
            return SimpleNamespace(task_states={run_id: {task_id: answer}} if answer else {})

    monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", Channel(), raising=False)
