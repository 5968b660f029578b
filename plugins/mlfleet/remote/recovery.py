"""The record of a task whose process keeps nothing of its own, read from the jobs themselves.

Airflow's tasks keep their record in Airflow. A KFP component has no such place; it has a run id that is never given
twice, so no incarnation is needed, and a system that tells which jobs a task has had, with number and specification.
The highest number is the record: a job of it that is there is judged as after a crash (`remote.submission`), and the
look at all jobs of the task ends what a lower number may have left alive.

Remaining window, beside the system's own: a retry that asks a list which does not yet show a job that works already
(a lagging replica; on one database a job that was let go is in it) submits another one. Airflow's record knows the job.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from mlfleet.remote.job import TaskIdentity
from mlfleet.remote.protocol import RemoteSystem
from mlfleet.remote.record import Phase, Record

# A key differs by run and task already.
_INCARNATION = "remote"


@dataclass(frozen=True)
class Trace:
    """What the jobs of a task tell: the highest number, and the hash of what was submitted under it, "" if untold."""

    n: int
    spec_hash: str = ""


class TraceableSystem(RemoteSystem, Protocol):
    """A system that keeps number and hash of the specification with each job."""

    async def trace(self, task: TaskIdentity) -> Trace | None:
        """The highest number among all jobs of ``task``, finished ones too; None when it never had one."""
        ...


class RecoveredRecords:
    """A record store that lives as long as the process; the jobs are what survives it."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def load(self) -> Record:
        """The record."""
        return self._record

    def save(self, record: Record) -> None:
        """Keep it for this process."""
        self._record = record


async def recover(system: TraceableSystem, task: TaskIdentity, spec_hash: str) -> RecoveredRecords:
    """The store of ``task``, whose specification has now the hash ``spec_hash``.

    Raises what the look-up raises: a task whose jobs can't be seen must not submit one.
    """
    trace = await system.trace(task)
    if trace is None:
        return RecoveredRecords(Record(_INCARNATION, 0, 0, spec_hash, Phase.PLANNED))
    # The process may have died anywhere in its submission: looked up by its key, like a call without an answer.
    return RecoveredRecords(Record(_INCARNATION, trace.n, 0, trace.spec_hash or spec_hash, Phase.SUBMITTING))
