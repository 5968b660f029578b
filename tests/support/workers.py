"""The sandbox's LocalExecutor held still, so that what Airflow starts stays `queued`."""

from __future__ import annotations

import os
import signal

from sandbox.settings import Settings
from tests.support.processes import ProcessId, alive, command_line, descendants, wait_for

# The title of a worker between two tasks, see airflow/executors/local_executor.py; `sandbox.airflow` asks for four.
_IDLE = "airflow worker -- LocalExecutor: <idle>"
_COUNT = 4


def hold(settings: Settings) -> set[ProcessId]:
    """Stops the workers when all of them are idle; `let_go` takes what it returns."""
    supervisord = int((settings.state("supervisor") / "supervisord.pid").read_text())

    def idle() -> set[ProcessId] | None:
        found = {each for each in descendants(supervisord) if command_line(each.pid) == _IDLE}
        return found if len(found) == _COUNT else None

    workers = wait_for(idle, f"{_COUNT} workers without a task")
    for worker in workers:
        os.kill(worker.pid, signal.SIGSTOP)
    return workers


def let_go(workers: set[ProcessId]) -> None:
    """Lets them go on; it may be called again."""
    for worker in filter(alive, workers):
        os.kill(worker.pid, signal.SIGCONT)
