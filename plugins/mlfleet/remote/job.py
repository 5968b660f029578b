"""What every remote job has, whichever system runs it: a key, a state, a status."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any


class JobState(StrEnum):
    """Where a job stands; each system maps its own words to these."""

    PENDING = "pending"
    RUNNING = "running"
    STOPPING = "stopping"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    STOPPED = "stopped"
    UNKNOWN = "unknown"

    @property
    def is_final(self) -> bool:
        """Nothing will change any more."""
        return self in {JobState.SUCCEEDED, JobState.FAILED, JobState.STOPPED}

    @property
    def is_live(self) -> bool:
        """The job works, or may: an unknown word of the system counts as live, and so does a missing one."""
        return self in {JobState.PENDING, JobState.RUNNING, JobState.UNKNOWN}


@dataclass(frozen=True)
class JobStatus:
    """One look at a job.

    ``id``       what the system calls the job
    ``native``   the system's own word for its state; ``reason`` its explanation
    ``url``      the page a person can open
    ``detail``   more for people and results (JSON only); ``spec_error: True`` says that the system refused the
                 specification, so that another try makes no sense
    """

    id: str
    state: JobState
    native: str = ""
    reason: str = ""
    url: str = ""
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """A dictionary that travels in a trigger event; times as ISO 8601."""
        data = asdict(self)
        data["state"] = self.state.value
        for name in ("created_at", "started_at", "finished_at"):
            moment = getattr(self, name)
            data[name] = moment.isoformat() if moment else None
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> JobStatus:
        """The opposite of :meth:`as_json`."""
        times = {
            name: datetime.fromisoformat(data[name]) if data.get(name) else None
            for name in ("created_at", "started_at", "finished_at")
        }
        return cls(
            id=data["id"],
            state=JobState(data["state"]),
            native=data.get("native", ""),
            reason=data.get("reason", ""),
            url=data.get("url", ""),
            detail=dict(data.get("detail") or {}),
            **times,
        )

    def with_detail(self, **more: Any) -> JobStatus:
        """The same status with more detail."""
        return replace(self, detail={**self.detail, **more})


@dataclass(frozen=True)
class TaskIdentity:
    """Which task instance a job belongs to. The try is left out on purpose: a retry carries on."""

    environment: str
    dag_id: str
    run_id: str
    task_id: str
    map_index: int = -1

    @property
    def hash(self) -> str:
        """Twelve hex digits, the same for every try and every clear."""
        return digest([self.environment, self.dag_id, self.run_id, self.task_id, self.map_index])[:12]

    @property
    def label(self) -> str:
        """Short and readable: ``<dag id>.<task id>``, with the map index when there is one."""
        suffix = f".{self.map_index}" if self.map_index >= 0 else ""
        return f"{self.dag_id}.{self.task_id}{suffix}"


@dataclass(frozen=True)
class JobKey:
    """The name under which one job is submitted at most once.

    ``incarnation`` separates DAG runs that were deleted and made again under the same id; ``n`` counts the jobs of one
    task instance.
    """

    task: TaskIdentity
    incarnation: str
    n: int

    @property
    def value(self) -> str:
        """Sixteen hex digits: no colon, no blank, so that every system can search for it (polyaxon.md 3)."""
        return digest([self.task.hash, self.incarnation, self.n])[:16]

    @property
    def name(self) -> str:
        """A readable name that holds both hashes: ``<label>-<task hash>-<key>``."""
        return f"{self.task.label[:80]}-{self.task.hash}-{self.value}"


def new_incarnation() -> str:
    """A random one."""
    return secrets.token_hex(6)


# Of a spec: what is written on its job for people and searches, and makes it no other job.
LABELS = "labels"


def digest(value: Any) -> str:
    """SHA-256 of a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def spec_digest(spec: Mapping[str, Any]) -> str:
    """Of what is submitted, without its labels: two specs that differ in nothing else make one job."""
    return digest({name: part for name, part in spec.items() if name != LABELS})
