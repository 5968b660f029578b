"""Which number a task's work has, for work that is done in the worker itself: image builds and releases.

The same rule as for remote jobs, without a job to ask: a retry keeps its number, a person's clear and a changed content
take the next one. The record is kept before the work begins, so that a crash can't lose a number.
"""

from __future__ import annotations

from dataclasses import replace

from mlfleet.remote.decisions import Decision, Kind, Tell, nobody
from mlfleet.remote.job import new_incarnation
from mlfleet.remote.record import Phase, Record, RecordStore


def enter(
    store: RecordStore,
    generation: int,
    spec_hash: str,
    *,
    tell: Tell = nobody,
    now: float = 0.0,
) -> Record:
    """The record to work under, saved. ``generation`` counts the clears of the task (Airflow's ``ti.max_tries``).

    ``attempted_at`` (epoch seconds) is ``now`` of the first try under this number: a retry keeps it.
    """
    found = store.load()
    if found is None:
        record = Record(new_incarnation(), 1, generation, spec_hash, Phase.SUBMITTING, attempted_at=now)
        tell(Decision(Kind.FIRST, "no record of this task: this is number 1", n=1))
    elif found.generation != generation:
        record = replace(found.following(generation, spec_hash), attempted_at=now)
        tell(Decision(Kind.CLEARED, f"a person cleared this task: this is number {record.n}", n=record.n))
    elif found.spec_hash != spec_hash:
        record = replace(found.following(generation, spec_hash), attempted_at=now)
        tell(Decision(Kind.SPEC_CHANGED, f"the content changed since the last try: number {record.n}", n=record.n))
    else:
        tell(Decision(Kind.CARRIED_ON, f"a retry: number {found.n} again", n=found.n))
        return found
    store.save(record)
    return record
