"""What is kept about a task's remote job between its tries, written before the submit call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any, Protocol

from mlfleet.remote.decisions import Kind
from mlfleet.remote.job import JobState

TALLIED = {
    Kind.SUBMITTED: "submissions",
    Kind.ADOPTED: "adoptions",
    Kind.STOPPED: "stops",
    Kind.RESUMED: "resumes",
    Kind.DUPLICATE: "duplicates",
}
"""Decisions that are counted over all tries of a task, with the name of their count."""


class Phase(StrEnum):
    """What the record knows about the submit call of its ordinal, or about the resume call after it."""

    PLANNED = "planned"  # nothing was sent under it
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    RESUMING = "resuming"  # the resume call may have been sent, and nobody has seen the job live again


@dataclass(frozen=True)
class Record:
    """What is kept about a task's job.

    ``attempted_at``  epoch second before the last submit or resume call
    ``ended``         the final state of the job as the task was told it, "" while nobody has told it: a job that is
                      found failed without it was live when the task was marked or cleared
    ``tally``         counts over all tries of the task: ``entries`` and the values of :data:`TALLIED`
    """

    incarnation: str
    n: int
    generation: int
    spec_hash: str
    phase: Phase
    job_id: str | None = None
    attempted_at: float = 0.0
    ended: str = ""
    tally: Mapping[str, int] = field(default_factory=dict)

    def following(self, generation: int, spec_hash: str) -> Record:
        """The record of the next ordinal, about to be submitted."""
        return replace(
            self, n=self.n + 1, generation=generation, spec_hash=spec_hash, phase=Phase.SUBMITTING, job_id=None,
            attempted_at=0.0, ended="",
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """JSON for the store."""
        return {"v": 1, **asdict(self)}

    @classmethod
    def from_json(cls, data: object) -> Record | None:
        """The opposite; None for anything that is not such a record."""
        if not isinstance(data, Mapping):
            return None
        try:
            return cls(
                incarnation=str(data["incarnation"]),
                n=int(data["n"]),
                generation=int(data["generation"]),
                spec_hash=str(data["spec_hash"]),
                phase=Phase(data["phase"]),
                job_id=str(data["job_id"]) if data.get("job_id") else None,
                attempted_at=float(data.get("attempted_at") or 0.0),
                ended=str(data.get("ended") or ""),
                tally={str(name): int(count) for name, count in dict(data.get("tally") or {}).items()},
            )
        except (KeyError, TypeError, ValueError):
            return None


class RecordStore(Protocol):
    """Where the record lives; survives the process."""

    def load(self) -> Record | None:
        """The record, None when there is none."""
        ...

    def save(self, record: Record) -> None:
        """Keep it before returning."""
        ...


def note_end(store: RecordStore, state: JobState | None) -> Record | None:
    """Keep in what state the task was told that its job ended; returns the record, None without one."""
    record = store.load()
    if record is not None and state is not None and state.is_final:
        record = replace(record, ended=state.value)
        store.save(record)
    return record
