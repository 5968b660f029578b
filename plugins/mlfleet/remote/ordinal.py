"""Which number a task's work has, for work that is done in the worker itself: image builds and releases.

The same rule as for remote jobs, without a job to ask: a retry keeps its number, a person's clear and a changed content
take the next one. The record is kept before the work begins, so that a crash can't lose a number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from mlfleet.remote.job import new_incarnation
from mlfleet.remote.submission import Decision, Phase, Record, RecordStore


def enter(
    store: RecordStore,
    generation: int,
    spec_hash: str,
    *,
    tell: Callable[[Decision], None] = lambda decision: None,
    now: float = 0.0,
) -> Record:
    """The record to work under, saved. ``generation`` counts the clears of the task (Airflow's ``ti.max_tries``).

    ``attempted_at`` (epoch seconds) is ``now`` of the first try under this number: a retry keeps it.
    """
    found = store.load()
    if found is None:
        record = Record(new_incarnation(), 1, generation, spec_hash, Phase.SUBMITTING, attempted_at=now)
        tell(Decision("first", "no record of this task: this is number 1"))
    elif found.generation != generation:
        record = _following(found, generation, spec_hash, now)
        tell(Decision("cleared", f"a person cleared this task: this is number {record.n}"))
    elif found.spec_hash != spec_hash:
        record = _following(found, generation, spec_hash, now)
        tell(Decision("spec_changed", f"the content changed since the last try: this is number {record.n}"))
    else:
        tell(Decision("carried_on", f"a retry: number {found.n} again"))
        return found
    store.save(record)
    return record


def _following(found: Record, generation: int, spec_hash: str, now: float) -> Record:
    return replace(
        found, n=found.n + 1, generation=generation, spec_hash=spec_hash, phase=Phase.SUBMITTING, job_id=None,
        attempted_at=now,
    )  # fmt: skip
