"""What is really there: the jobs of a server in memory, seen without its API."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from mlfleet.remote.protocol import RemoteSystem
from tests.support.adversity import NOBODY, Clock, Server, Wire


@dataclass
class Job:
    """One job as it really is.

    ``epoch``     whose work it is: the world counts it up with every clear, every lost record, every new DAG run;
                  NOBODY for what came of a call long after it was sent: see :func:`forget`
    ``begun``     it may work: approved, where the system has two phases
    ``seen_from`` epoch second from which on the API knows it; lists show it from ``listed_from`` on
    """

    id: str
    key: str
    task: str
    spec: str
    state: str
    epoch: int
    seen_from: float
    listed_from: float
    created: float
    begun: bool = True
    deleted: bool = False
    finished: float | None = None
    history: list[str] = field(default_factory=list)


class ServerModel(Server, Protocol):
    """A model whose truth can be looked at, and in which things happen by themselves."""

    clock: Clock
    epoch: int
    forgotten: int
    stop_takes: float
    jobs: dict[str, Job]

    def system(self, wire: Wire) -> RemoteSystem:
        """The real adapter on the real client."""
        ...

    def spec(self, version: int) -> dict[str, object]:
        """What to submit; version -1 is one that the server refuses."""
        ...

    def version(self, job: Job) -> int:
        """The version that a job was made from."""
        ...

    def is_live(self, job: Job) -> bool:
        """Works, or will: neither ended nor on its way there."""
        ...

    def has_succeeded(self, job: Job) -> bool: ...

    def has_failed(self, job: Job) -> bool:
        """Ended badly, by itself."""
        ...

    def finish(self, job: Job, succeeded: bool) -> None:
        """The job comes to its end, if it works."""
        ...

    def stop(self, job: Job) -> None:
        """Somebody stops the job, past our client."""
        ...

    def executions(self) -> dict[str, int]:
        """How much works under each key, whether the API shows it or not."""
        ...


def visible(model: ServerModel) -> list[Job]:
    """What the API shows and what works, or will."""
    return [
        job
        for job in model.jobs.values()
        if job.begun and not job.deleted and job.seen_from <= model.clock.now and model.is_live(job)
    ]


def forget(model: ServerModel) -> None:
    """The record is lost. What was sent for it and is not listed yet can't be known any more: a named window."""
    for job in model.jobs.values():
        if job.listed_from > model.clock.now:
            job.epoch = NOBODY
    model.epoch += 1
    model.forgotten = model.epoch


def as_of(model: ServerModel, epoch: int, act: Callable[[], object]) -> None:
    """What was asked for in `epoch` is work of that time, whenever it is done."""
    now, model.epoch = model.epoch, NOBODY if epoch < model.forgotten else epoch
    act()
    model.epoch = now
